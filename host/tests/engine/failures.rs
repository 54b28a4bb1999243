//! Crashes, faults, races and engines in trouble.

mod bad_engine;
mod bystanders;
mod concurrency;
mod crash;
mod engine_restart;
mod faults;
mod strain;
