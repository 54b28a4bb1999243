//! Crashes, faults, races and failing engines.

mod bad_engine;
mod bystanders;
mod concurrency;
mod crash;
mod engine_restart;
mod faults;
mod strain;
