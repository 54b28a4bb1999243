//! Workspaces from `up` to `down`, and their parts.

mod bulk;
mod devcontainer;
mod docker_containers;
mod everyday;
mod life;
mod secret_files;
mod secrets;
mod sidecars;
mod up;
mod update;
