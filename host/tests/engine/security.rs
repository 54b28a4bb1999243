//! Attacks: an untrusted project, plugin, script, image or token tries to get further than its owner decided.

mod binds;
mod callers;
mod copies;
mod files;
mod identity;
mod images;
mod networks;
mod paths;
mod policies;
mod reads;
mod records;
mod secrets;
mod text;
mod tokens;
mod users;
