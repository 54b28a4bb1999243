//! Hook `event`: runs when the state or health of a workspace changes, or it crosses a threshold.

use crate::{Plugin, bindings, export, settings};

pub use bindings::event::exports::wharf::policy::event::{Action, Input, Kind};

/// Requests actions for an event.
pub trait Event: Plugin {
    /// Returns the actions for the host, in order.
    ///
    /// # Errors
    /// No action is carried out; the text is stored with the event.
    fn event(input: Input, settings: Self::Settings) -> Result<Vec<Action>, String>;
}

impl<P: Event> bindings::event::exports::wharf::policy::event::Guest for P {
    fn event(input: Input, json: String) -> Result<Vec<Action>, String> {
        export::enter();
        <P as Event>::event(input, settings::parse(&json)?)
    }
}
