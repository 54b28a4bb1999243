//! Commands that explain, check and configure.

mod audit;
mod bad_input;
mod config;
mod plan;
mod tools;
mod why;
