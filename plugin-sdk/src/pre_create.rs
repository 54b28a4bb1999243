//! Hook `pre-create`: adjusts all other settings of the container. Runs after image and security are decided.
//!
//! Each adjustment changes one field, and the host records the policy as that field's owner.

use crate::{Plugin, bindings, export, settings};

pub use bindings::pre_create::exports::wharf::policy::pre_create::{Adjustment, Denial, Input, Verdict};

/// Adjusts a container before it is created.
pub trait PreCreate: Plugin {
    /// Returns the files that the hook wants to read in `input.project`, as paths relative to the project folder.
    ///
    /// At most 64 are honoured; paths that leave the project are ignored. None by default.
    fn wanted_files(_settings: &Self::Settings) -> Vec<String> {
        Vec::new()
    }

    /// Adjusts the container, leaves it unchanged, or denies.
    ///
    /// # Errors
    /// An error if no verdict can be given; the host then denies the create with this text.
    fn pre_create(input: Input, settings: Self::Settings) -> Result<Verdict, String>;
}

impl Verdict {
    /// Adjusts; without any adjustment it passes.
    pub fn adjust(adjustments: impl IntoIterator<Item = Adjustment>) -> Self {
        let list: Vec<Adjustment> = adjustments.into_iter().collect();
        if list.is_empty() { Self::Pass } else { Self::Adjust(list) }
    }

    /// Denies, with a short stable code for programs, and one line with the problem and its remedy.
    pub fn deny(code: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Deny(Denial { reason: reason.into(), code: code.into() })
    }
}

impl Adjustment {
    /// Sets an environment variable.
    pub fn env(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self::SetEnv((name.into(), value.into()))
    }

    /// Sets a label. Names that begin with `wharf.` are reserved for the host and are refused.
    pub fn label(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self::SetLabel((name.into(), value.into()))
    }
}

impl<P: PreCreate> bindings::pre_create::exports::wharf::policy::pre_create::Guest for P {
    fn wanted_files(json: String) -> Vec<String> {
        export::enter();
        settings::for_files(&json, <P as PreCreate>::wanted_files)
    }

    fn pre_create(input: Input, json: String) -> Result<Verdict, String> {
        export::enter();
        <P as PreCreate>::pre_create(input, settings::parse(&json)?)
    }
}
