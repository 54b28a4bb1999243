use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::{bindings, settings};

/// What all plugins have: settings. The hooks come as further traits on the same type.
///
/// A plugin has no state. The host makes a fresh instance for every call, so the functions are associated functions
/// and everything that they know comes in as an argument.
pub trait Plugin {
    /// The plugin's `settings` table of `wharf.toml`; an absent table reads as an empty one.
    ///
    /// Put `#[serde(deny_unknown_fields)]` on it, so that a misspelt key is refused when the plugin is loaded instead
    /// of being ignored for ever.
    type Settings: DeserializeOwned;

    /// Checks what the types can't, when the plugin is loaded.
    ///
    /// # Errors
    /// The text refuses the plugin. It should name the setting, what is wrong with it, and what it takes.
    fn check(_settings: &Self::Settings) -> Result<(), String> {
        Ok(())
    }
}

/// The settings of a plugin that has none. Any key is refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoSettings {}

impl<P: Plugin> bindings::settings::exports::wharf::policy::settings::Guest for P {
    fn check(json: String) -> Result<(), String> {
        crate::export::enter();
        settings::parse::<P::Settings>(&json).and_then(|settings| P::check(&settings))
    }
}
