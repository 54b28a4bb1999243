//! Making workspaces: requests and their plans, images, sidecars, and the comparison of existing workspaces with
//! decisions.

pub(in crate::lifecycle) mod ask;
pub(in crate::lifecycle) mod binds;
pub(in crate::lifecycle) mod compare;
pub(in crate::lifecycle) mod decision;
pub(in crate::lifecycle) mod devcontainer;
pub(in crate::lifecycle) mod facts;
pub(in crate::lifecycle) mod fields;
mod hints;
pub(in crate::lifecycle) mod image_config;
mod image_metadata;
pub(in crate::lifecycle) mod images;
pub(in crate::lifecycle) mod networks;
pub(in crate::lifecycle) mod owner;
pub(in crate::lifecycle) mod plan;
pub(in crate::lifecycle) mod plan_diff;
pub(in crate::lifecycle) mod project;
pub(in crate::lifecycle) mod replace;
pub(in crate::lifecycle) mod request;
pub(in crate::lifecycle) mod resolved_request;
pub(in crate::lifecycle) mod sidecar;
pub(in crate::lifecycle) mod up;
pub(in crate::lifecycle) mod update;
pub(in crate::lifecycle) mod volumes;
