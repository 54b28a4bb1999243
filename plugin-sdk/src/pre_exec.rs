//! Hook `pre-exec`: runs before each command in a workspace.

use crate::{Plugin, bindings, export, settings};

pub use bindings::pre_exec::exports::wharf::policy::pre_exec::{Adjustment, Denial, Input, Verdict};

/// Adjusts or denies a command.
pub trait PreExec: Plugin {
    /// Adjusts the execution of the command, leaves it unchanged, or denies it.
    ///
    /// # Errors
    /// An error if no verdict can be given; the host then denies the command with this text.
    fn pre_exec(input: Input, settings: Self::Settings) -> Result<Verdict, String>;
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

impl<P: PreExec> bindings::pre_exec::exports::wharf::policy::pre_exec::Guest for P {
    fn pre_exec(input: Input, json: String) -> Result<Verdict, String> {
        export::enter();
        <P as PreExec>::pre_exec(input, settings::parse(&json)?)
    }
}
