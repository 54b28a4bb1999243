//! Steps of a verb that takes long.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A step of a verb that takes long
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[schema(as = ProgressEvent)]
pub enum Progress {
    /// The step that begins, e.g. `pulling node:22`.
    Step {
        /// For people.
        text: String,
    },
    /// A layer of an image that is fetched.
    Pull {
        /// Its id; null for words about the whole image.
        layer: Option<String>,
        /// The engine's words.
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
    /// The step that begins.
    pub fn step(text: impl Into<String>) -> Self {
        Self::Step { text: text.into() }
    }

    /// A line of output.
    pub fn build(text: impl Into<String>) -> Self {
        Self::Build { text: text.into() }
    }
}
