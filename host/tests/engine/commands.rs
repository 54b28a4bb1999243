//! Commands that explain, check and configure.

mod audit;
mod bad_input;
mod config;
mod examples;
mod plan;
mod tools;
mod why;
