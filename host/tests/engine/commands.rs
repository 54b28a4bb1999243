//! Commands that explain, check and configure.

mod audit;
mod bad_input;
mod completion;
mod config;
mod examples;
mod plan;
mod terminal_width;
mod tools;
mod waits;
mod why;
