//! Hook `cleanup`: decides which objects a sweep stops or removes. It sees all candidates in one call.
//!
//! Any keep from any policy wins, and a candidate that no policy names is kept.

use crate::{Plugin, bindings, export, settings};

pub use bindings::cleanup::exports::wharf::policy::cleanup::{Candidate, Choice, Input, Kind, State, Verdict};

/// Decides which objects a sweep stops or removes.
pub trait Cleanup: Plugin {
    /// Returns verdicts on candidates. A candidate without a verdict is left to the other policies.
    ///
    /// # Errors
    /// An error if no verdict can be given; the host then keeps all candidates.
    fn cleanup(input: Input, settings: Self::Settings) -> Result<Vec<Verdict>, String>;
}

impl Verdict {
    /// Keeps the candidate, whatever other policies say. The reason is one line for users.
    pub fn keep(candidate: &Candidate, reason: impl Into<String>) -> Self {
        Self { id: candidate.id.clone(), choice: Choice::Keep, reason: reason.into() }
    }

    /// Stops the candidate. The reason is one line for users.
    pub fn stop(candidate: &Candidate, reason: impl Into<String>) -> Self {
        Self { id: candidate.id.clone(), choice: Choice::Stop, reason: reason.into() }
    }

    /// Removes the candidate. The reason is one line for users.
    pub fn remove(candidate: &Candidate, reason: impl Into<String>) -> Self {
        Self { id: candidate.id.clone(), choice: Choice::Remove, reason: reason.into() }
    }
}

impl Candidate {
    /// Returns the value of a label.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<&str> {
        crate::types::value(&self.labels, name)
    }
}

impl<P: Cleanup> bindings::cleanup::exports::wharf::policy::cleanup::Guest for P {
    fn cleanup(input: Input, json: String) -> Result<Vec<Verdict>, String> {
        export::enter();
        <P as Cleanup>::cleanup(input, settings::parse(&json)?)
    }
}
