use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::{bindings, settings};

/// The base of all plugins: settings. The hooks are additional traits on the same type.
///
/// A plugin has no state. The host creates a fresh instance for every call, so the functions are associated functions
/// and get all their data as arguments.
pub trait Plugin {
    /// The plugin's `settings` table of `wharf.toml`; an absent table reads as an empty one.
    ///
    /// Put `#[serde(deny_unknown_fields)]` on it, so that a misspelled key is refused when the plugin is loaded,
    /// instead of being ignored forever.
    type Settings: DeserializeOwned;

    /// Checks rules that the types cannot express, when the plugin is loaded.
    ///
    /// # Errors
    /// The text refuses the plugin. It should name the setting, the error, and the valid values.
    fn check(_settings: &Self::Settings) -> Result<(), String> {
        Ok(())
    }
}

/// The settings of a plugin without settings. Any key is refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoSettings {}

impl<P: Plugin> bindings::settings::exports::wharf::policy::settings::Guest for P {
    fn check(json: String) -> Result<(), String> {
        crate::export::enter();
        settings::parse::<P::Settings>(&json).and_then(|settings| P::check(&settings))
    }
}
