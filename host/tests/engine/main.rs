//! The program `wharf` and the library against a real Docker engine.
//!
//! Every test has a [`sandbox::Sandbox`]: its own folders, its own installation of Wharf, and a guard that removes what
//! was made in the engine, after a panic too. Nothing here is skipped: without an engine, or without the image
//! `wharf-base:local`, the tests fail and say so.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod engine_api;
mod fake_daemon;
mod https;
mod process;
mod registry;
mod sandbox;
mod unchanged;

mod api;
mod api_attacks;
mod api_decisions;
mod api_document;
mod api_exec;
mod api_making;
mod api_metrics;
mod api_network;
mod api_session;
mod api_streams;
mod as_decided;
mod audit;
mod bad_engine;
mod bad_image;
mod bad_input;
mod bad_plugins;
mod bad_scripts;
mod binds;
mod bulk;
mod bystanders;
mod cleanup;
mod cleanup_races;
mod commands;
mod concurrency;
mod config_cmd;
mod copy;
mod crash;
mod devcontainer;
mod docker_containers;
mod docker_exec;
mod docker_lab;
mod docker_logs;
mod engine_restart;
mod events;
mod every_hook;
mod exec;
mod faults;
mod hooks;
mod idle;
mod images;
mod life;
mod log_files;
mod logs;
mod logs_merged;
mod operations;
mod plan;
mod policy_modes;
mod policy_reload;
mod replay;
mod script_tools;
mod secret_files;
mod secrets;
mod security;
mod serve;
mod server;
mod server_kept;
mod server_making;
mod server_parts;
mod server_records;
mod sidecars;
mod snapshot_parts;
mod snapshots;
mod statistics;
mod strain;
mod terminal;
mod traces;
mod up;
mod update;
mod why;
