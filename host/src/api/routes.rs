//! The routes, one file per kind of resource.

pub(in crate::api) mod cleanup;
pub(in crate::api) mod dashboard;
pub(in crate::api) mod decisions;
pub(in crate::api) mod events;
pub(in crate::api) mod exec;
pub(in crate::api) mod exec_collected;
pub(in crate::api) mod files;
pub(in crate::api) mod health;
pub(in crate::api) mod idle;
pub(in crate::api) mod images;
pub(in crate::api) mod logs;
pub(in crate::api) mod openmetrics;
pub(in crate::api) mod plan;
pub(in crate::api) mod policies;
pub(in crate::api) mod secrets;
pub(in crate::api) mod session;
pub(in crate::api) mod snapshots;
pub(in crate::api) mod stats;
pub(in crate::api) mod up;
pub(in crate::api) mod verbs;
pub(in crate::api) mod volumes;
pub(in crate::api) mod workspaces;
