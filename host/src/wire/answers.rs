//! Answers that only the API has. The modules that make workspaces, images and so on define their views.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::workspace::WorkspaceId;

/// An empty object: the body of a verb without parameters, and the answer of a verb without a result.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Nothing)]
pub struct Empty {}

/// A lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Lease {
    /// The workspace.
    pub id: WorkspaceId,
    /// Until this time no sweep stops it as idle; null without a lease.
    pub until: Option<Timestamp>,
}

/// Results of pruning images.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PrunedImages {
    /// The removed images.
    pub removed: Vec<String>,
    /// The images that could not be removed.
    pub failed: Vec<KeptImage>,
}

/// An image that could not be removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeptImage {
    /// The image.
    pub image: String,
    /// A stable code for the cause.
    pub code: String,
    /// The cause.
    pub detail: String,
}

/// The secrets of a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretNames {
    /// The workspace.
    #[schema(value_type = String)]
    pub workspace: WorkspaceId,
    /// Names, sorted.
    pub names: Vec<String>,
}
