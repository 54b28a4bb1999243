//! Whether workspaces are used, and leases that keep them: here, or told by a service.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Backend, meant, path};
use crate::cli::Failure;
use crate::config::Span;
use crate::lifecycle::{IdleView, Idleness, Target};
use crate::workspace::WorkspaceId;

/// What is done about a lease.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Lease {
    Show,
    /// For so long from now on.
    Take(Span, Timestamp),
    Release,
}

/// A lease.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Leased {
    pub(crate) id: WorkspaceId,
    pub(crate) until: Option<Timestamp>,
}

impl Backend {
    /// How idle the workspaces that run are.
    pub(crate) async fn all_idleness(&self) -> Result<Vec<Idleness>, Failure> {
        match self {
            Self::Here(lifecycle) => Ok(lifecycle.all_idleness().await?),
            Self::Service(client) => Ok(client.get("/v1/idle", &[]).await?),
        }
    }

    /// The signs of one's being used; a sidecar is idle when its workspace is.
    pub(crate) async fn idleness(&self, target: &Target) -> Result<IdleView, Failure> {
        match self {
            Self::Here(lifecycle) => {
                let id = lifecycle.whole(lifecycle.find(target).await?)?;
                let service = lifecycle.store().service()?.is_some();
                Ok(IdleView::of(lifecycle.idleness(&id).await?, &lifecycle.loaded(), service))
            }
            Self::Service(client) => Ok(client.get(&path(&meant(client, target).await?, "idle"), &[]).await?),
        }
    }

    /// Takes, shows or releases a lease.
    pub(crate) async fn lease(&self, target: &Target, lease: Lease) -> Result<Leased, Failure> {
        match self {
            Self::Here(lifecycle) => {
                let id = lifecycle.whole(lifecycle.find(target).await?)?;
                match lease {
                    Lease::Show => {}
                    Lease::Take(_, until) => lifecycle.lease(&id, Some(until))?,
                    Lease::Release => lifecycle.lease(&id, None)?,
                }
                let until = lifecycle.leased_until(&id)?;
                Ok(Leased { id, until })
            }
            Self::Service(client) => {
                let path = path(&meant(client, target).await?, "lease");
                Ok(match lease {
                    Lease::Show => client.get(&path, &[]).await?,
                    // Its clock counts.
                    Lease::Take(time, _) => client.post(&path, &json!({ "time": time })).await?,
                    Lease::Release => client.delete(&path, &[]).await?,
                })
            }
        }
    }
}
