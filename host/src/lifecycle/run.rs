//! Running workspaces: start and stop, commands, files, waiting.

pub(in crate::lifecycle) mod copy;
pub(in crate::lifecycle) mod exec;
pub(in crate::lifecycle) mod expire;
pub(in crate::lifecycle) mod finish;
pub(in crate::lifecycle) mod run_commands;
pub(in crate::lifecycle) mod signal;
pub(in crate::lifecycle) mod start;
pub(in crate::lifecycle) mod stop;
pub(in crate::lifecycle) mod wait;
