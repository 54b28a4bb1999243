//! Hook `post-start`: runs after the container started, both on create and on every later start.

use crate::{Plugin, bindings, export, settings};

pub use bindings::post_start::exports::wharf::policy::post_start::{Action, Input};

/// Requests actions after a start.
pub trait PostStart: Plugin {
    /// Returns the files that the hook wants to read in `input.project`, as paths relative to the project folder.
    ///
    /// At most 64 are honoured; paths that leave the project are ignored. None by default.
    fn wanted_files(_settings: &Self::Settings) -> Vec<String> {
        Vec::new()
    }

    /// Returns the actions for the host, in order.
    ///
    /// # Errors
    /// The workspace keeps running and is marked degraded with this text.
    fn post_start(input: Input, settings: Self::Settings) -> Result<Vec<Action>, String>;
}

impl<P: PostStart> bindings::post_start::exports::wharf::policy::post_start::Guest for P {
    fn wanted_files(json: String) -> Vec<String> {
        export::enter();
        settings::for_files(&json, <P as PostStart>::wanted_files)
    }

    fn post_start(input: Input, json: String) -> Result<Vec<Action>, String> {
        export::enter();
        <P as PostStart>::post_start(input, settings::parse(&json)?)
    }
}
