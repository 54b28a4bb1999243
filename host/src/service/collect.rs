//! The loop `statistics`: what workspaces use, for `wharf metrics`.

use std::sync::Arc;

use super::{Shared, Stop};
use crate::lifecycle::Collector;

pub(super) async fn run(shared: Arc<Shared>, stop: Stop) {
    let failed = |error: &crate::lifecycle::Error| shared.board.error("statistics", error);
    Collector::default().run(&shared.lifecycle, stop, failed).await;
}
