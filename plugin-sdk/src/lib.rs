//! The interface for authors of Wharf plugins.
//!
//! A plugin decides a part of a workspace: its image, its privileges, or when it is removed. It is a pure function
//! over facts that the host gathered. This crate hides the WebAssembly side of it: implement [`Plugin`] (the
//! settings) and the trait of a hook, and export both. This is a whole plugin:
//!
//! ```
//! use wharf_plugin_sdk::pre_create::{Adjustment, Input, PreCreate, Verdict};
//! use wharf_plugin_sdk::{Plugin, export_plugin};
//!
//! /// Every workspace says who owns it; the owner is passed on to what runs inside.
//! struct Owner;
//!
//! impl Plugin for Owner {
//!     type Settings = wharf_plugin_sdk::NoSettings;
//! }
//!
//! impl PreCreate for Owner {
//!     fn pre_create(input: Input, _: Self::Settings) -> Result<Verdict, String> {
//!         Ok(match input.workspace.label("owner") {
//!             Some(owner) => Verdict::adjust([Adjustment::env("OWNER", owner)]),
//!             None => Verdict::deny("owner-missing", "set the label `owner`"),
//!         })
//!     }
//! }
//!
//! export_plugin!(Owner: pre_create);
//! ```
//!
//! Reading order: [`Plugin`] and [`export_plugin`], then the module of the hook (each is named as in the contract),
//! then [`types`] for types shared by hooks and [`mod@testing`] for tests that run natively. Units and meanings are
//! those of the WIT files: sizes are bytes, durations are milliseconds, instants are milliseconds since 1970-01-01
//! UTC.
//!
//! The crate includes an allocator for calls that take microseconds. A plugin with its own allocator disables it
//! (`default-features = false`).
//!
//! Build the plugin as a `cdylib` for `wasm32-unknown-unknown` and convert it to a component. Inside Wharf's
//! repository `cargo xtask plugins` does both.

#![deny(rustdoc::broken_intra_doc_links)]

#[cfg(any(all(target_family = "wasm", feature = "allocator", not(target_feature = "atomics")), test))]
mod allocator;
pub mod cleanup;
pub mod event;
mod export;
pub mod facts;
pub mod log;
mod plugin;
pub mod post_start;
pub mod pre_create;
pub mod pre_exec;
pub mod pre_stop;
pub mod security_profile;
pub mod select_image;
mod settings;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
pub mod types;

// Public only because the macro expands in the plugin's crate.
#[doc(hidden)]
pub mod bindings;

pub use plugin::{NoSettings, Plugin};
