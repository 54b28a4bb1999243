//! Commands about workspaces, and about their images, snapshots, secrets and volumes.

pub(in crate::cli) mod cleanup;
pub(in crate::cli) mod cp;
pub(in crate::cli) mod events;
pub(in crate::cli) mod exec;
pub(in crate::cli) mod field;
pub(in crate::cli) mod idle;
pub(in crate::cli) mod image;
pub(in crate::cli) mod logs;
pub(in crate::cli) mod metrics;
pub(in crate::cli) mod plan;
pub(in crate::cli) mod secret;
pub(in crate::cli) mod show;
pub(in crate::cli) mod sidecar;
pub(in crate::cli) mod snapshot;
pub(in crate::cli) mod state;
pub(in crate::cli) mod stats;
pub(in crate::cli) mod top;
pub(in crate::cli) mod up;
pub(in crate::cli) mod volume;
pub(in crate::cli) mod wait;
pub(in crate::cli) mod why;
