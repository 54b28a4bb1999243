//! The result of a decision: everything that is needed to make a container.

use std::collections::BTreeMap;

use crate::docker;
use crate::hooks::record::Draft;
use crate::hooks::{ImageConfig, Step};
use crate::lifecycle::create::binds::Places;
use crate::lifecycle::create::project::Project;
use crate::lifecycle::secrets::withheld_values::Withheld;
use crate::wire::{ImageBuild, SecretBytes};

/// Everything that is needed to make a container.
pub(in crate::lifecycle) struct Decided {
    pub(in crate::lifecycle) project: Project,
    pub(in crate::lifecycle) draft: Draft,
    pub(in crate::lifecycle) withheld: Withheld,
    pub(in crate::lifecycle) secret_files: BTreeMap<String, SecretBytes>,
    /// The build of the image, if the request builds one.
    pub(in crate::lifecycle) build: Option<ImageBuild>,
    pub(in crate::lifecycle) trail: Vec<Step>,
    /// IDs of the records of the decisions.
    pub(in crate::lifecycle) decisions: Vec<uuid::Uuid>,
    /// The files of the host that it mounts, and its project.
    pub(in crate::lifecycle) places: Places,
    /// Images that the engine had before.
    pub(in crate::lifecycle) local: Vec<docker::LocalImage>,
    /// The configuration of its image, as far as the engine has it.
    pub(in crate::lifecycle) image: Option<ImageConfig>,
}
