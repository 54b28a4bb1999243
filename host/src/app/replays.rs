//! The chain that recorded decisions are run through again.

use std::time::Duration;

use super::App;
use crate::config::Span;
use crate::{builtin, lifecycle};

/// What comes of a replay must not depend on how busy this machine is: policies have at least so much time.
const PATIENCE: Duration = Duration::from_secs(10);

impl App {
    /// The same for replays, and the optional policies that take no part because they cannot be loaded.
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
