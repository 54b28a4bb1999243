//! Keeping workspaces, and making them again.

pub(in crate::lifecycle) mod restore;
pub(in crate::lifecycle) mod take;
