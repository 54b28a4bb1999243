//! Taking snapshots of workspaces, and restoring them.

pub(in crate::lifecycle) mod restore;
pub(in crate::lifecycle) mod take;
