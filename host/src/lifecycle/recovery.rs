//! Recovery: the unfinished work of dead processes, reactions to events, and failing containers.

pub(in crate::lifecycle) mod earlier;
pub(in crate::lifecycle) mod react;
pub(in crate::lifecycle) mod reconcile;
pub(in crate::lifecycle) mod recover;
