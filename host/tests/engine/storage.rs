//! Images, snapshots and volumes: how they are kept, and how they are swept.

mod bad_image;
mod cleanup;
mod cleanup_races;
mod images;
mod snapshot_parts;
mod snapshots;
