//! The result of deciding: everything that making a container needs.

use std::collections::BTreeMap;

use crate::docker;
use crate::hooks::record::Draft;
use crate::hooks::{ImageConfig, Step};
use crate::lifecycle::create::binds::Places;
use crate::lifecycle::create::project::Project;
use crate::lifecycle::secrets::withheld::Withheld;
use crate::wire::{ImageBuild, SecretBytes};

/// Everything that making a container needs.
pub(in crate::lifecycle) struct Decided {
    pub(in crate::lifecycle) project: Project,
    pub(in crate::lifecycle) draft: Draft,
    pub(in crate::lifecycle) withheld: Withheld,
    pub(in crate::lifecycle) secret_files: BTreeMap<String, SecretBytes>,
    /// What the image that the request builds is built from.
    pub(in crate::lifecycle) build: Option<ImageBuild>,
    pub(in crate::lifecycle) trail: Vec<Step>,
    /// Ids of the records of what was decided.
    pub(in crate::lifecycle) decisions: Vec<uuid::Uuid>,
    /// The files of the host that it mounts, and its project.
    pub(in crate::lifecycle) places: Places,
    /// Images that the engine had before.
    pub(in crate::lifecycle) local: Vec<docker::LocalImage>,
    /// What its image says, as far as the engine has it.
    pub(in crate::lifecycle) image: Option<ImageConfig>,
}
