//! Shadows between a decision and its record.

use std::sync::Arc;

use super::Shadows;

/// Shadows that go along with a decision until it is recorded.
#[derive(Clone, Default)]
pub struct Pending(Option<Arc<Shadows>>);

impl Pending {
    pub(super) fn new(shadows: Arc<Shadows>) -> Self {
        Self(Some(shadows))
    }

    /// Takes them out, to run them.
    pub fn take(&mut self) -> Option<Arc<Shadows>> {
        self.0.take()
    }
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Pending(shadows)" } else { "Pending(none)" })
    }
}

/// What is still to be asked is no part of what was decided.
impl PartialEq for Pending {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
