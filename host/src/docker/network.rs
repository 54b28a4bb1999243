//! Networks: found or created, and removed when unused.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::Docker;
use super::error::{Error, Result};
use super::http::{Call, SLOW, encode, filters, parse};
use crate::workspace::{LABEL_HOST, LABEL_MANAGED};

/// Maximum wait for another client that creates the same network.
const OTHERS: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(20);
/// How long the engine may still count the endpoint of a container that it no longer lists.
const LATE: Duration = Duration::from_secs(2);

/// A network of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkId {
    /// The engine's id.
    pub id: String,
    /// Whether this call created it.
    pub created: bool,
}

/// The outcome of a network's removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Removal {
    Done,
    /// Another client has removed it.
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
    #[serde(default)]
    options: Option<BTreeMap<String, String>>,
}

impl Raw {
    /// Returns whether containers on it can reach each other.
    fn joins(&self) -> bool {
        self.options.as_ref().and_then(|options| options.get(JOINS)).is_none_or(|joins| joins != "false")
    }
}

/// Bridge option that controls whether the containers on the bridge can reach each other.
const JOINS: &str = "com.docker.network.bridge.enable_icc";

/// Whether the containers on a network can reach each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// They can reach each other.
    Joined,
    /// They can reach the outside world, but not each other.
    Apart,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    id: String,
}

/// Returns the name of a network's bridge. Linux allows 15 bytes for an interface name.
fn bridge_name(network: &str) -> String {
    let digest = crate::workspace::sha256_hex(network.as_bytes());
    format!("wh-{}", digest.get(..12).unwrap_or_default())
}

/// Detects the messages "could not find an available, non-overlapping IPv4 address pool among the defaults", "all
/// predefined address pools have been fully subnetted", and, for an explicit subnet, "Pool overlaps with other one on
/// this address space".
fn is_out_of_addresses(said: &str) -> bool {
    ["address pool", "Pool overlaps"].iter().any(|words| said.contains(words))
}

/// Subnets of 62 addresses for a network, in a network-specific order, for an engine that has none left. Subnets with
/// a route on this machine are skipped, because the engine only checks its own networks.
struct Subnets {
    routes: Vec<(u32, u32)>,
    seed: u32,
    tried: u32,
}

impl Subnets {
    /// The private range whose upper half is least used by engines and machines (RFC 1918).
    const BASE: u32 = 0x0a80_0000;
    /// Maximum number of subnets to try.
    const MOST: u32 = 64;

    fn of(name: &str) -> Self {
        let digest = crate::workspace::sha256_hex(name.as_bytes());
        let seed = digest.get(..8).and_then(|hex| u32::from_str_radix(hex, 16).ok()).unwrap_or_default();
        Self { routes: Self::routes(&std::fs::read_to_string("/proc/net/route").unwrap_or_default()), seed, tried: 0 }
    }

    /// Returns destination and mask of each route except the default routes, from the kernel's table (`proc(5)`),
    /// whose numbers are in network byte order.
    fn routes(table: &str) -> Vec<(u32, u32)> {
        let number = |text: &str| u32::from_str_radix(text, 16).ok().map(u32::from_be);
        let route = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (destination, mask) = (number(fields.get(1)?)?, number(fields.get(7)?)?);
            (mask != 0).then_some((destination, mask))
        };
        table.lines().skip(1).filter_map(route).collect()
    }

    fn is_free(&self, subnet: u32) -> bool {
        !self
            .routes
            .iter()
            .any(|(destination, mask)| subnet & mask == *destination || destination & 0xffff_ffc0 == subnet)
    }
}

impl Iterator for Subnets {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        while self.tried < Self::MOST {
            self.tried += 1;
            // An odd step visits every subnet of the half.
            let index = self.seed.wrapping_add(self.tried.wrapping_mul(40_503)) & 0x1_ffff;
            let subnet = Self::BASE | index << 6;
            if self.is_free(subnet) {
                return Some(format!("{}/26", std::net::Ipv4Addr::from(subnet)));
            }
        }
        None
    }
}

impl Docker {
    /// Finds the bridge network with this exact name that this installation created, or creates it.
    ///
    /// Engines before 25 allow two networks of the same name if two creators race, whatever `CheckDuplicate` says.
    /// But no engine has two bridges of the same name, and it checks that under a lock. The bridge's name is
    /// therefore derived from the network's name: one creator wins, and the others find its network. `labels` are
    /// added to the labels that mark the network as ours.
    ///
    /// # Errors
    /// [`Error::NotOurs`] if a network of that name exists that this installation did not create.
    pub async fn ensure_network(
        &self,
        name: &str,
        reach: Reach,
        labels: &BTreeMap<String, String>,
    ) -> Result<NetworkId> {
        let mut call = self.create_network(name, reach, labels, None)?;
        let (mut subnets, started) = (Subnets::of(name), Instant::now());
        loop {
            if let Some(found) = self.our_network(name).await? {
                if reach == Reach::Apart && found.joins() {
                    // The network disappears with its last container, and its replacement then isolates the
                    // containers.
                    tracing::warn!(
                        "the network '{name}' was created by an earlier Wharf, and workspaces on it can reach each \
                         other; remove all of them with 'wharf down' and recreate them, or name another network in \
                         engine.network"
                    );
                }
                return Ok(NetworkId { id: found.id, created: false });
            }
            let reply = self.http().send(&call).await?;
            if reply.is_success() {
                let answer: Answer = parse(call.operation, &reply.body)?;
                return Ok(NetworkId { id: answer.id, created: true });
            }
            // An engine has about 30 address pools of its own. When they run out, it answers with 404.
            if is_out_of_addresses(&reply.message())
                && let Some(subnet) = subnets.next()
            {
                call = self.create_network(name, reach, labels, Some(subnet))?;
                continue;
            }
            match call.error(&reply) {
                // Another client is creating the network. Lists show it once it is complete.
                Error::Conflict { .. } if started.elapsed() < OTHERS => {}
                Error::Engine { message, .. } if message.contains("same bridge name") && started.elapsed() < OTHERS => {
                }
                error => return Err(error),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn create_network(
        &self,
        name: &str,
        reach: Reach,
        labels: &BTreeMap<String, String>,
        subnet: Option<String>,
    ) -> Result<Call> {
        let mut labels = labels.clone();
        labels.insert(LABEL_MANAGED.to_owned(), "true".to_owned());
        labels.insert(LABEL_HOST.to_owned(), self.inner.host_id.clone());
        let mut options = BTreeMap::from([("com.docker.network.bridge.name".to_owned(), bridge_name(name))]);
        if reach == Reach::Apart {
            options.insert(JOINS.to_owned(), "false".to_owned());
        }
        let pools: Vec<_> = subnet.map(|subnet| serde_json::json!({ "Subnet": subnet })).into_iter().collect();
        // Written by hand: bollard's type has no CheckDuplicate, which engines before 25 respect.
        let body = serde_json::json!({
            "Name": name,
            "Driver": "bridge",
            "Attachable": true,
            "CheckDuplicate": true,
            "Labels": labels,
            "Options": options,
            "IPAM": { "Driver": "default", "Config": pools },
        });
        Call::post("create the network", "/networks/create").about("network", name).within(SLOW).json(&body)
    }

    /// Connects a container to another network of ours. A container that is already connected stays so.
    ///
    /// # Errors
    /// [`Error::NotFound`]; the errors of a failing engine or a broken connection.
    pub async fn connect_to_network(&self, network: &str, container: &str) -> Result<()> {
        let call = self.membership(network, container, "connect")?;
        let reply = self.http().send(&call).await?;
        // "already exists in network": the status depends on the engine.
        if reply.is_success() || reply.message().contains("already exists in network") {
            return Ok(());
        }
        Err(call.error(&reply))
    }

    /// Disconnects a container from a network of ours. A container that is not connected stays so.
    ///
    /// # Errors
    /// The errors of a failing engine or a broken connection.
    pub async fn disconnect_from_network(&self, network: &str, container: &str) -> Result<()> {
        let call = self.membership(network, container, "disconnect")?;
        let reply = self.http().send(&call).await?;
        if reply.is_success() || reply.status == 404 || reply.message().contains("is not connected to") {
            return Ok(());
        }
        Err(call.error(&reply))
    }

    fn membership(&self, network: &str, container: &str, verb: &str) -> Result<Call> {
        let body = serde_json::json!({ "Container": container });
        Call::post("connect the container to the network", format!("/networks/{}/{verb}", encode(network)))
            .about("network", network)
            .within(SLOW)
            .json(&body)
    }

    /// Returns the names of the networks that this installation created, with their creation times, sorted.
    ///
    /// # Errors
    /// The errors of a failing engine or a broken connection.
    pub async fn our_networks(&self) -> Result<Vec<(String, Option<jiff::Timestamp>)>> {
        let path = format!("/networks?{}", filters("label", &[format!("{LABEL_HOST}={}", self.inner.host_id)]));
        let list: Vec<Raw> = self.http().json(&Call::get("list the networks", path)).await?;
        let mut names: Vec<_> = list.into_iter().map(|raw| (raw.name, super::containers::time(&raw.created))).collect();
        names.sort();
        Ok(names)
    }

    /// Removes the network with this exact name if this installation created it and no container, running or not, is
    /// connected to it. Returns whether it was removed.
    ///
    /// # Errors
    /// [`Error::NotOurs`]; the errors of a failing engine or a broken connection.
    pub async fn remove_network_if_unused(&self, name: &str) -> Result<bool> {
        match self.our_network(name).await? {
            Some(found) => self.remove_if_unused(&found).await,
            None => Ok(false),
        }
    }

    /// Removes several unused networks, and all whose names begin with `prefix`. Networks that are not ours are
    /// skipped.
    ///
    /// # Errors
    /// The errors of a failing engine or a broken connection.
    pub async fn remove_unused_networks(&self, names: &[String], prefix: &str) -> Result<()> {
        let mut parts = names.to_vec();
        parts.push(prefix.to_owned());
        let list = self.networks_like(&parts).await?;
        let mut wanted: Vec<&str> = list.iter().map(|network| network.name.as_str()).collect();
        wanted.retain(|name| names.iter().any(|named| named == name) || name.starts_with(prefix));
        wanted.sort_unstable();
        wanted.dedup();
        for name in wanted {
            if let Ok(Some(found)) = self.oldest_of_ours(&list, name) {
                self.remove_if_unused(found).await?;
            }
        }
        Ok(())
    }

    /// Disconnects a container from a network of ours that no other container is on.
    ///
    /// # Errors
    /// The errors of a failing engine or a broken connection.
    pub async fn leave_network(&self, name: &str, container: &str) -> Result<()> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct User {
            id: String,
        }
        let Ok(Some(found)) = self.our_network(name).await else { return Ok(()) };
        let users = filters("network", &[found.id.clone(), found.name.clone()]);
        let call = Call::get("list the containers of the network", format!("/containers/json?all=true&{users}"));
        let users: Vec<User> = self.http().json(&call).await?;
        match users.as_slice() {
            [only] if only.id == container => self.disconnect_from_network(name, container).await,
            _ => Ok(()),
        }
    }

    async fn remove_if_unused(&self, found: &Raw) -> Result<bool> {
        // A stopped container is not an endpoint of the network, but needs it to start.
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

    /// Returns the oldest network with exactly this name, if it is ours.
    async fn our_network(&self, name: &str) -> Result<Option<Raw>> {
        let list = self.networks_like(&[name.to_owned()]).await?;
        Ok(self.oldest_of_ours(&list, name)?.cloned())
    }

    /// Returns the networks whose names contain one of these names: the engine's filter matches substrings.
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

    /// Removes a network by id. A network in use stays.
    async fn remove_network(&self, id: &str, name: &str) -> Result<Removal> {
        let call = Call::delete("remove the network", format!("/networks/{}", encode(id))).about("network", name);
        let reply = self.http().send(&call.within(SLOW)).await?;
        match reply.status {
            404 => Ok(Removal::Gone),
            // "has active endpoints": a container was connected in between, or a removed container is still counted.
            403 | 409 => Ok(Removal::InUse),
            status if reply.is_success() || status == 304 => Ok(Removal::Done),
            status => Err(super::error::status_error("remove the network", "network", name, status, &reply.message())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_lie_in_the_upper_half_of_ten_and_cross_no_route_of_this_machine() {
        let table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
                     eth0\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                     tun0\t0000800A\t00000000\t0001\t0\t0\t0\t0000C0FF\t0\t0\t0\n";
        let routes = Subnets::routes(table);
        assert_eq!(routes, [(0x0a80_0000, 0xffc0_0000)]);
        let all: Vec<String> = Subnets { routes, seed: 7, tried: 0 }.collect();
        assert!(all.len() > 10, "{all:?}");
        for subnet in &all {
            let address: std::net::Ipv4Addr = subnet.strip_suffix("/26").unwrap().parse().unwrap();
            assert!(u32::from(address) >= 0x0ac0_0000 && u32::from(address) < 0x0b00_0000, "{subnet}");
        }
        let unbounded: std::collections::BTreeSet<String> = Subnets { routes: vec![], seed: 1, tried: 0 }.collect();
        assert_eq!(unbounded.len(), 64);
    }
}
