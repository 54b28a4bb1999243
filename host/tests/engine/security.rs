//! Attacks: an untrusted project, plugin, script, image or token tries to get further than its owner decided.

mod callers;
mod policies;
mod records;
