//! `wharf serve` itself, and commands that go through it.

pub mod events;
mod idle;
mod operations;
mod policy_reload;
pub mod remote;
mod remote_every;
mod remote_kept;
mod remote_making;
mod remote_parts;
mod remote_records;
pub mod serve;
mod traces;
