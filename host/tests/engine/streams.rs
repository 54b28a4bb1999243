//! Streams of a workspace: commands, files, logs and statistics.

mod copy;
mod docker_exec;
mod docker_forms;
mod docker_logs;
mod exec;
mod log_files;
mod logs;
mod logs_merged;
mod statistics;
mod terminal;
