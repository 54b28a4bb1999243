//! Facts about the current request, in addition to the input of the hook.

use crate::types::value;

pub use crate::bindings::host_imports::wharf::policy::facts::{CallerInfo, Door, ImageInfo, Role};

/// Returns the caller. None if it is unknown: while settings are checked, and when a record of an older Wharf is
/// replayed. Native tests set it with [`crate::testing::set_caller`].
#[cfg(target_family = "wasm")]
pub fn caller() -> Option<CallerInfo> {
    crate::bindings::host_imports::wharf::policy::facts::caller()
}

/// Returns the caller. None if it is unknown: while settings are checked, and when a record of an older Wharf is
/// replayed. Native tests set it with [`crate::testing::set_caller`].
#[cfg(not(target_family = "wasm"))]
pub fn caller() -> Option<CallerInfo> {
    crate::testing::caller()
}

/// Returns the chosen image. None at `select-image` and `cleanup`, when a record of an older Wharf is replayed, and
/// for an image that the engine does not have yet. In the last case the policies are called again with the image
/// before a workspace is created from it. Native tests set it with [`crate::testing::set_image_config`].
#[cfg(target_family = "wasm")]
pub fn image_config() -> Option<ImageInfo> {
    crate::bindings::host_imports::wharf::policy::facts::image_config()
}

/// Returns the chosen image. None at `select-image` and `cleanup`, when a record of an older Wharf is replayed, and
/// for an image that the engine does not have yet. In the last case the policies are called again with the image
/// before a workspace is created from it. Native tests set it with [`crate::testing::set_image_config`].
#[cfg(not(target_family = "wasm"))]
pub fn image_config() -> Option<ImageInfo> {
    crate::testing::image_config()
}

impl ImageInfo {
    /// Returns the value of a label.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<&str> {
        value(&self.labels, name)
    }
}
