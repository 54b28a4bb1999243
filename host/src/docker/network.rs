//! Networks: found or made, and removed when nobody needs them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::Docker;
use super::error::{Error, Result};
use super::http::{Call, SLOW, encode, filters};
use crate::workspace::{LABEL_HOST, LABEL_MANAGED};

/// How long another creator of the same network is waited for.
const OTHERS: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(20);
/// How long the engine may still count the endpoint of a container that it no longer lists.
const LATE: Duration = Duration::from_secs(2);

/// A network of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkId {
    /// The engine's id.
    pub id: String,
    /// Whether this call made it.
    pub created: bool,
}

/// What became of the removal of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Removal {
    Done,
    /// Somebody else has removed it.
    Gone,
    InUse,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Raw {
    id: String,
    name: String,
    #[serde(default)]
    created: String,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    id: String,
}

/// Linux allows 15 bytes for the name of an interface.
fn bridge_name(network: &str) -> String {
    let digest = crate::workspace::sha256_hex(network.as_bytes());
    format!("wh-{}", digest.get(..12).unwrap_or_default())
}

impl Docker {
    /// Finds the bridge network with this exact name that this installation made, or makes it.
    ///
    /// Engines before 25 allow two networks of the same name when two creators race, whatever `CheckDuplicate` says.
    /// But no engine has two bridges of the same name, and it checks that under a lock: so the bridge's name is
    /// derived from the network's, one creator wins, and the others find its network. `labels` are added to the ones
    /// that mark it as ours.
    ///
    /// # Errors
    /// [`Error::NotOurs`] when a network of that name exists that this installation did not make.
    pub async fn ensure_network(&self, name: &str, labels: &BTreeMap<String, String>) -> Result<NetworkId> {
        let mut call = None;
        let started = Instant::now();
        loop {
            if let Some(found) = self.our_network(name).await? {
                return Ok(NetworkId { id: found.id, created: false });
            }
            let call = match &call {
                Some(call) => call,
                None => call.insert(self.create_network(name, labels)?),
            };
            match self.http().json::<Answer>(call).await {
                Ok(answer) => return Ok(NetworkId { id: answer.id, created: true }),
                // Somebody else is faster; lists show the network once it is complete.
                Err(Error::Conflict { .. }) if started.elapsed() < OTHERS => {}
                Err(Error::Engine { message, .. })
                    if message.contains("same bridge name") && started.elapsed() < OTHERS => {}
                Err(error) => return Err(error),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn create_network(&self, name: &str, labels: &BTreeMap<String, String>) -> Result<Call> {
        let mut labels = labels.clone();
        labels.insert(LABEL_MANAGED.to_owned(), "true".to_owned());
        labels.insert(LABEL_HOST.to_owned(), self.inner.host_id.clone());
        // Written by hand: bollard's type has no CheckDuplicate, which engines before 25 heed.
        let body = serde_json::json!({
            "Name": name,
            "Driver": "bridge",
            "Attachable": true,
            "CheckDuplicate": true,
            "Labels": labels,
            "Options": { "com.docker.network.bridge.name": bridge_name(name) },
        });
        Call::post("create the network", "/networks/create").about("network", name).within(SLOW).json(&body)
    }

    /// The names of the networks that this installation made, with the time of their creation, sorted.
    ///
    /// # Errors
    /// The ones of a failing engine or a broken connection.
    pub async fn our_networks(&self) -> Result<Vec<(String, Option<jiff::Timestamp>)>> {
        let path = format!("/networks?{}", filters("label", &[format!("{LABEL_HOST}={}", self.inner.host_id)]));
        let list: Vec<Raw> = self.http().json(&Call::get("list the networks", path)).await?;
        let mut names: Vec<_> = list.into_iter().map(|raw| (raw.name, super::containers::time(&raw.created))).collect();
        names.sort();
        Ok(names)
    }

    /// Removes the network with this exact name if this installation made it and no container, running or not, is
    /// connected to it. Says whether it was removed.
    ///
    /// # Errors
    /// [`Error::NotOurs`]; the ones of a failing engine or a broken connection.
    pub async fn remove_network_if_unused(&self, name: &str) -> Result<bool> {
        match self.our_network(name).await? {
            Some(found) => self.remove_if_unused(&found).await,
            None => Ok(false),
        }
    }

    /// The same for several, passing over those that are not ours.
    ///
    /// # Errors
    /// The ones of a failing engine or a broken connection.
    pub async fn remove_unused_networks(&self, names: &[String]) -> Result<()> {
        let list = self.networks_like(names).await?;
        for name in names {
            if let Ok(Some(found)) = self.oldest_of_ours(&list, name) {
                self.remove_if_unused(found).await?;
            }
        }
        Ok(())
    }

    async fn remove_if_unused(&self, found: &Raw) -> Result<bool> {
        // A stopped container is not an endpoint of the network, but could not start without it.
        let users = filters("network", &[found.id.clone(), found.name.clone()]);
        let call = Call::get("list the containers of the network", format!("/containers/json?all=true&{users}"));
        let begin = Instant::now();
        loop {
            let containers: Vec<serde_json::Value> = self.http().json(&call).await?;
            if !containers.is_empty() {
                return Ok(false);
            }
            match self.remove_network(&found.id, &found.name).await? {
                Removal::Done => return Ok(true),
                Removal::Gone => return Ok(false),
                Removal::InUse if begin.elapsed() > LATE => return Ok(false),
                Removal::InUse => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// The oldest network of exactly this name, if it is ours.
    async fn our_network(&self, name: &str) -> Result<Option<Raw>> {
        let list = self.networks_like(&[name.to_owned()]).await?;
        Ok(self.oldest_of_ours(&list, name)?.cloned())
    }

    /// The networks in whose names one of these is: the engine's filter matches parts.
    async fn networks_like(&self, names: &[String]) -> Result<Vec<Raw>> {
        let path = format!("/networks?{}", filters("name", names));
        self.http().json(&Call::get("list the networks", path)).await
    }

    fn oldest_of_ours<'a>(&self, list: &'a [Raw], name: &str) -> Result<Option<&'a Raw>> {
        let named = list.iter().filter(|network| network.name == name);
        let label = |network: &Raw, key: &str, value: &str| {
            network.labels.as_ref().and_then(|labels| labels.get(key)).is_some_and(|found| found == value)
        };
        let ours =
            |network: &Raw| label(network, LABEL_MANAGED, "true") && label(network, LABEL_HOST, &self.inner.host_id);
        if !named.clone().all(ours) {
            return Err(Error::NotOurs { what: "network", name: name.to_owned() });
        }
        let age = |network: &Raw| (super::containers::time(&network.created), network.id.clone());
        Ok(named.min_by_key(|network| age(network)))
    }

    /// Removes a network by id; one that is used stays.
    async fn remove_network(&self, id: &str, name: &str) -> Result<Removal> {
        let call = Call::delete("remove the network", format!("/networks/{}", encode(id))).about("network", name);
        let reply = self.http().send(&call.within(SLOW)).await?;
        match reply.status {
            404 => Ok(Removal::Gone),
            // "has active endpoints": a container was connected in between, or one that has gone is still counted.
            403 | 409 => Ok(Removal::InUse),
            status if reply.is_success() || status == 304 => Ok(Removal::Done),
            status => Err(super::error::status_error("remove the network", "network", name, status, &reply.message())),
        }
    }
}
