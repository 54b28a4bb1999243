//! What can be asked about the request that is decided, besides the input of the hook.

use crate::types::value;

pub use crate::bindings::host_imports::wharf::policy::facts::{CallerInfo, Door, ImageInfo, Role};

/// Who asked. None where that is not known: while settings are checked, and when a record of an older Wharf is replayed. In
/// native tests it is what [`crate::testing::set_caller`] has set.
#[cfg(target_family = "wasm")]
pub fn caller() -> Option<CallerInfo> {
    crate::bindings::host_imports::wharf::policy::facts::caller()
}

/// Who asked. None where that is not known: while settings are checked, and when a record of an older Wharf is replayed. In
/// native tests it is what [`crate::testing::set_caller`] has set.
#[cfg(not(target_family = "wasm"))]
pub fn caller() -> Option<CallerInfo> {
    crate::testing::caller()
}

/// The image that was chosen. None at `select-image` and `cleanup`, for an image that the engine has not got yet (before a
/// workspace is made from it the policies are asked again, with it), and when a record of an older Wharf is replayed. In native
/// tests it is what [`crate::testing::set_image_config`] has set.
#[cfg(target_family = "wasm")]
pub fn image_config() -> Option<ImageInfo> {
    crate::bindings::host_imports::wharf::policy::facts::image_config()
}

/// The image that was chosen. None at `select-image` and `cleanup`, for an image that the engine has not got yet (before a
/// workspace is made from it the policies are asked again, with it), and when a record of an older Wharf is replayed. In native
/// tests it is what [`crate::testing::set_image_config`] has set.
#[cfg(not(target_family = "wasm"))]
pub fn image_config() -> Option<ImageInfo> {
    crate::testing::image_config()
}

impl ImageInfo {
    /// The value of a label.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<&str> {
        value(&self.labels, name)
    }
}
