//! The HTTP layer: callers and their permissions, requests and answers, limits, streams, listeners.

pub(in crate::api) mod access;
pub(in crate::api) mod args;
pub(in crate::api) mod concurrency;
pub(in crate::api) mod error;
pub(in crate::api) mod idempotency;
pub(in crate::api) mod limits;
pub(in crate::api) mod listen;
pub(in crate::api) mod middleware;
pub(in crate::api) mod notifier;
pub(in crate::api) mod openapi;
pub(in crate::api) mod progress;
pub(in crate::api) mod remote;
pub(in crate::api) mod socket;
pub(in crate::api) mod stream;
pub(in crate::api) mod tls;
pub(in crate::api) mod withheld_texts;
