//! Sweeps, and the idleness of workspaces.

pub(in crate::lifecycle) mod belongings;
pub(in crate::lifecycle) mod facts;
pub(in crate::lifecycle) mod idle;
pub(in crate::lifecycle) mod sweep;
pub(in crate::lifecycle) mod undo;
