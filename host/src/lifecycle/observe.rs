//! Observing workspaces: lists, logs, statistics, events.

pub(in crate::lifecycle) mod collect;
pub(in crate::lifecycle) mod disk;
pub(in crate::lifecycle) mod events;
pub(in crate::lifecycle) mod find;
pub(in crate::lifecycle) mod logs;
pub(in crate::lifecycle) mod stats;
pub(in crate::lifecycle) mod view;
