//! Steps of a long verb.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A step of a long verb
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[schema(as = ProgressEvent)]
pub enum Progress {
    /// The step that begins, e.g. `pulling node:22`.
    Step {
        /// For people.
        text: String,
    },
    /// A layer of an image that is being pulled.
    Pull {
        /// Its id; null for a message about the whole image.
        layer: Option<String>,
        /// The engine's message.
        status: String,
        /// Bytes done in this step.
        current: Option<u64>,
        /// Bytes to do in this step.
        total: Option<u64>,
    },
    /// A line of an image's build, or of a command.
    Build {
        /// The line.
        text: String,
    },
    /// A kind that only a later version knows.
    #[serde(other)]
    Unknown,
}

impl Progress {
    /// Returns the step that begins.
    pub fn step(text: impl Into<String>) -> Self {
        Self::Step { text: text.into() }
    }

    /// Returns a line of output.
    pub fn build(text: impl Into<String>) -> Self {
        Self::Build { text: text.into() }
    }
}
