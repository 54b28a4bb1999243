//! `[devcontainer]`: the permissions of files that projects contain.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Span;

/// `[devcontainer]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DevcontainerConfig {
    /// Whether the `devcontainer.json` of a project is read.
    pub enabled: bool,
    /// Variables of the host's environment that it may read as `${localEnv:NAME}`.
    pub local_env: BTreeSet<String>,
    /// Time limit of each of its commands.
    pub command_timeout: Span,
}

impl Default for DevcontainerConfig {
    fn default() -> Self {
        Self { enabled: true, local_env: BTreeSet::new(), command_timeout: Span::seconds(600) }
    }
}
