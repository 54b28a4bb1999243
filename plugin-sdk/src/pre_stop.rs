//! Hook `pre-stop`: runs before a workspace is stopped or removed. It cannot prevent that.

use crate::{Plugin, bindings, export, settings};

pub use bindings::pre_stop::exports::wharf::policy::pre_stop::{Action, Input, Reply};

/// Requests actions before a stop.
pub trait PreStop: Plugin {
    /// Returns the actions for the host before the stop, and the wait after them.
    ///
    /// # Errors
    /// The stop continues; the text is stored with it.
    fn pre_stop(input: Input, settings: Self::Settings) -> Result<Reply, String>;
}

impl<P: PreStop> bindings::pre_stop::exports::wharf::policy::pre_stop::Guest for P {
    fn pre_stop(input: Input, json: String) -> Result<Reply, String> {
        export::enter();
        <P as PreStop>::pre_stop(input, settings::parse(&json)?)
    }
}
