//! Hook `security-profile`: decides the container's privileges. Runs after `select-image`.
//!
//! Adjustments may only tighten. The host refuses the decision if an adjustment loosens any field.

use crate::{Plugin, bindings, export, settings};

pub use bindings::security_profile::exports::wharf::policy::security_profile::{Adjustment, Denial, Input, Verdict};

/// Tightens a container's privileges.
pub trait SecurityProfile: Plugin {
    /// Tightens the security of the container, leaves it unchanged, or denies.
    ///
    /// # Errors
    /// An error if no verdict can be given; the host then denies the create with this text.
    fn secure(input: Input, settings: Self::Settings) -> Result<Verdict, String>;
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

impl<P: SecurityProfile> bindings::security_profile::exports::wharf::policy::security_profile::Guest for P {
    fn secure(input: Input, json: String) -> Result<Verdict, String> {
        export::enter();
        <P as SecurityProfile>::secure(input, settings::parse(&json)?)
    }
}
