//! Images, snapshots and volumes: storage and sweeps.

mod bad_image;
mod builders;
mod cleanup;
mod cleanup_races;
mod images;
mod snapshot_parts;
mod snapshots;
