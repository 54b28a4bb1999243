//! The HTTP API of `wharf serve`.

mod attacks;
mod decisions;
mod document;
mod exec;
mod making;
mod metrics;
mod network;
mod requests;
mod session;
mod streams;
