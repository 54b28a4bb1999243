//! Hook `security-profile`: what the container may do. Runs after `select-image`.
//!
//! Adjustments may only tighten; the host refuses the decision when one loosens anything.

use crate::{Plugin, bindings, export, settings};

pub use bindings::security_profile::exports::wharf::policy::security_profile::{Adjustment, Denial, Input, Verdict};

/// Tightens what a container may do.
pub trait SecurityProfile: Plugin {
    /// Tightens the security of the container, leaves it, or denies.
    ///
    /// # Errors
    /// When no verdict can be given; the host then denies the create with this text.
    fn secure(input: Input, settings: Self::Settings) -> Result<Verdict, String>;
}

impl Verdict {
    /// Adjusts; without a single adjustment it passes.
    pub fn adjust(adjustments: impl IntoIterator<Item = Adjustment>) -> Self {
        let list: Vec<Adjustment> = adjustments.into_iter().collect();
        if list.is_empty() { Self::Pass } else { Self::Adjust(list) }
    }

    /// Denies: a short stable word for programs, and one line that says what is wrong and what to do about it.
    pub fn deny(code: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Deny(Denial { reason: reason.into(), code: code.into() })
    }
}

impl<P: SecurityProfile> bindings::security_profile::exports::wharf::policy::security_profile::Guest for P {
    fn secure(input: Input, json: String) -> Result<Verdict, String> {
        export::enter();
        <P as SecurityProfile>::secure(input, settings::parse(&json)?)
    }
}
