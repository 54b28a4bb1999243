//! The program `wharf` and the library against a real Docker engine.
//!
//! Every test has a [`support::sandbox::Sandbox`]: its own folders, its own installation of Wharf, and a guard that
//! removes the created objects from the engine, even after a panic. No test is skipped: without an engine, or without
//! the image `wharf-base:local`, the tests fail and say so.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

mod api;
mod commands;
mod failures;
mod policies;
mod security;
mod service;
mod storage;
mod streams;
mod workspaces;
