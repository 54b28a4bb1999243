//! Putting right: remains of dead processes, reactions to events, containers in trouble.

pub(in crate::lifecycle) mod earlier;
pub(in crate::lifecycle) mod react;
pub(in crate::lifecycle) mod reconcile;
pub(in crate::lifecycle) mod recover;
