//! What workspaces use, again and again, for `stats` and `top`: read here, or by the service's collector.

use super::backend::{self, Backend};
use super::{Context, Failure};
use crate::client::Client;
use crate::lifecycle::{StatsView, StatsWatch};

/// Where readings come from.
pub(crate) enum Readings<'a> {
    Here(Box<StatsWatch<'a>>),
    /// Of these workspaces; none: of all.
    Service(&'a Client, Vec<String>),
}

impl<'a> Readings<'a> {
    /// Of the named workspaces; without names, of all.
    pub(crate) async fn of(context: &Context, backend: &'a Backend, names: &[String]) -> Result<Self, Failure> {
        match backend {
            Backend::Here(lifecycle) => {
                let mut ids = Vec::new();
                for name in names {
                    ids.push(context.find(lifecycle, Some(name)).await?);
                }
                Ok(Self::Here(Box::new(lifecycle.watch_stats(ids))))
            }
            Backend::Service(client) => Ok(Self::Service(client, names.to_vec())),
        }
    }

    /// The newest reading. The first one here has no CPU figures; the service's has.
    pub(crate) async fn read(&mut self) -> Result<Vec<StatsView>, Failure> {
        match self {
            Self::Here(watch) => Ok(watch.read().await?),
            Self::Service(client, names) if names.is_empty() => Ok(client.get("/v1/stats", &[]).await?),
            Self::Service(client, names) => {
                let mut all: Vec<StatsView> = Vec::new();
                for name in names.iter() {
                    let some: Vec<StatsView> = client.get(&backend::path(name, "stats"), &[]).await?;
                    // A workspace and its sidecar may both be named.
                    all.extend(
                        some.into_iter()
                            .filter(|one| !all.iter().any(|known| known.container_id == one.container_id))
                            .collect::<Vec<_>>(),
                    );
                }
                Ok(all)
            }
        }
    }
}
