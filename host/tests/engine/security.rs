//! The attacks on Wharf that were carried out once, each with its kind: a file per topic.

mod files;
mod reads;
mod secrets;
mod text;
