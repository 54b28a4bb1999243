//! What can be asked about the request that is decided, besides the input of the hook.

pub use crate::bindings::host_imports::wharf::policy::facts::{CallerInfo, Door, Role};

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
