//! The chain for replays of recorded decisions.

use std::time::Duration;

use super::App;
use crate::config::Span;
use crate::{builtin, lifecycle};

/// The minimum time limit of policies: the result of a replay must not depend on the load of this machine.
const PATIENCE: Duration = Duration::from_secs(10);

impl App {
    /// Returns a copy for replays, and the optional policies that are left out because they cannot be loaded.
    ///
    /// # Errors
    /// When a policy that is not optional cannot be loaded.
    pub fn for_replays(&self) -> Result<(Self, Vec<String>), lifecycle::Error> {
        let mut app = Self { long_lived: false, ..self.clone() };
        if app.loaded.config.policy.is_empty() {
            app.loaded.config.policy = builtin::default_chain();
        }
        for policy in &mut app.loaded.config.policy {
            let usual = policy.limits().timeout;
            policy.timeout = Some(Span(usual.max(PATIENCE)));
        }
        let mut missing = Vec::new();
        for policy in app.load_policies(true) {
            match policy.result {
                Err(_) if policy.config.optional => missing.push(policy.config.name),
                Err(error) => {
                    let (policy, from) = (policy.config.name, policy.source);
                    return Err(lifecycle::Error::PolicyNotLoaded { policy, from, error });
                }
                Ok(_) => {}
            }
        }
        Ok((app, missing))
    }
}
