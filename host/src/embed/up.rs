//! Creating a workspace.

use std::future::IntoFuture;
use std::pin::Pin;
use std::time::Duration;

use crate::backend::{Backend, Error};
use crate::config::Span;
use crate::lifecycle::WorkspaceView;
use crate::wire::{Progress, WorkspaceRequest};

/// The creation of a workspace; awaiting it begins.
#[must_use = "await it to start"]
pub struct Up<'a> {
    backend: &'a Backend,
    request: WorkspaceRequest,
    recreate: bool,
    healthy: Option<Duration>,
    progress: Option<Box<dyn FnMut(Progress) + Send + 'a>>,
}

impl<'a> Up<'a> {
    pub(super) fn new(backend: &'a Backend, request: WorkspaceRequest) -> Self {
        Self { backend, request, recreate: false, healthy: None, progress: None }
    }

    /// Replaces the workspace when it differs from the decision now; without this, a difference is an error.
    pub fn recreate(mut self) -> Self {
        self.recreate = true;
        self
    }

    /// Waits until the workspace is healthy, at most for `limit`.
    pub fn wait_healthy(mut self, limit: Duration) -> Self {
        self.healthy = Some(limit);
        self
    }

    /// Receives the steps: pulls with their bytes, lines of builds, commands of the project.
    pub fn on_progress(mut self, progress: impl FnMut(Progress) + Send + 'a) -> Self {
        self.progress = Some(Box::new(progress));
        self
    }
}

impl<'a> IntoFuture for Up<'a> {
    type Output = Result<WorkspaceView, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { backend, request, recreate, healthy, progress } = self;
        Box::pin(async move {
            let mut progress = progress.unwrap_or_else(|| Box::new(drop));
            backend.up(request, recreate, healthy.map(Span), &mut progress).await
        })
    }
}
