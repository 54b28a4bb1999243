//! Policies: the chain, its shadows, reloads and replays.
//!
//! Every method fails with [`Error`].

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::{Backend, Error};
use crate::app::{App, PolicyView};
use crate::builtin;
use crate::client::Client;
use crate::config::{PolicyConfig, instant};
use crate::hooks::redact::SecretNames;
use crate::hooks::replay::{replay, unplayable};
use crate::hooks::{Chain, Decision, Hook};
use crate::lifecycle::{self};
use crate::records::{Replayed, ShadowSummary, Target, find_record, recorded_workspace, replay_decisions};
use crate::store::{ChainStatus, DecisionQuery};
use crate::wire::{ErrorKind, ReplayRequest};

/// The time limit for a reload.
const PATIENCE: Duration = Duration::from_secs(60);
/// The limit of decisions that a service replays per request.
const REPLAYED: u32 = 2000;

/// A reload that the service carried out.
pub type Reloaded = ChainStatus;

/// The results of a replay.
#[derive(Debug)]
pub struct ReplayedAll {
    /// The results.
    pub replayed: Replayed,
    /// The place of the new policy in the chain.
    pub place: Option<String>,
    /// For a replay of one decision: the recorded and the new decision. A service does not report them.
    pub steps: Option<(Decision, Decision)>,
    /// A notice for the caller.
    pub notice: Option<String>,
}

impl Backend {
    /// Returns the policies of the chain, and the reason that the service of this state folder refused its last reload,
    /// if it did.
    pub async fn policies(&self) -> Result<(Vec<PolicyView>, Option<ChainStatus>), Error> {
        match &self.service {
            Some(client) => Ok((client.policies().await?, None)),
            None => Ok((self.app.policies()?, self.app.service()?.map(|service| service.chain))),
        }
    }

    /// Returns the changes that shadows would have made since a time: one shadow, or all.
    pub async fn shadows(
        &self,
        policy: Option<&str>,
        since: Timestamp,
    ) -> Result<BTreeMap<String, ShadowSummary>, Error> {
        match &self.service {
            Some(client) => Ok(client.shadows(policy, since).await?),
            None => Ok(self.app.shadows(&self.store().await?, policy, since)?),
        }
    }

    /// Makes the service reload configuration and policies, and waits for the result.
    pub async fn reload_policies(&self) -> Result<Reloaded, Error> {
        if let Some(client) = &self.service {
            return Ok(client.reload_policies().await?);
        }
        let store = self.app.store()?;
        let none = || Error::Other {
            kind: ErrorKind::NotFound,
            code: "no-service",
            message: "no wharf serve is running with this state folder".into(),
            remedy: "no reload is needed: every command reads configuration and policies at its start".into(),
        };
        let before = store.service()?.ok_or_else(none)?;
        let pid = i32::try_from(before.pid).ok().and_then(rustix::process::Pid::from_raw).ok_or_else(none)?;
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).map_err(|error| Error::Other {
            kind: ErrorKind::Unknown,
            code: "no-service",
            message: format!("cannot signal the service (process {}): {error}", before.pid),
            remedy: "run the command as the user of the service".into(),
        })?;
        let begin = Instant::now();
        let chain = loop {
            let status = store.service()?.ok_or_else(none)?;
            if status.chain.attempts > before.chain.attempts {
                break status.chain;
            }
            if begin.elapsed() > PATIENCE {
                return Err(Error::Other {
                    kind: ErrorKind::TimedOut,
                    code: "timeout",
                    message: format!("the service has not reloaded within {} s", PATIENCE.as_secs()),
                    remedy: "see the log of the service, and 'wharf doctor'".into(),
                });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        match chain.refused {
            Some(why) => Err(Error::Other {
                kind: ErrorKind::ReloadRefused,
                code: "reload-refused",
                message: format!("the service refused the reload and keeps the previous policies: {why}"),
                remedy: "correct the cause and reload again".into(),
            }),
            None => Ok(chain),
        }
    }

    /// Replays recorded decisions; `with` first puts a policy into the chain, under its name or in place of a named
    /// one.
    pub async fn replay(
        &self,
        request: &ReplayRequest,
        with: Option<(PolicyConfig, Option<&str>)>,
    ) -> Result<ReplayedAll, Error> {
        if let Some(client) = &self.service {
            return replay_there(client, request, with.is_some()).await;
        }
        let store = self.store().await?;
        let (chain, missing, place) = self.replay_chain(with)?;
        let secrets = SecretNames(self.app.loaded.config.secrets.env.clone());
        let mut steps = None;
        let replayed = match &request.decision {
            Some(wanted) => {
                let stored = find_record(&store, wanted)?;
                let decision = stored.decision()?;
                if unplayable(&decision, &missing).is_none() {
                    let again = replay(&chain, &secrets, &decision);
                    steps = Some((decision, again));
                }
                replay_decisions(&chain, &secrets, &missing, std::iter::once(Ok(stored)))?
            }
            None => {
                let about = |name: &String| recorded_workspace(&store, &Target::Named(name.clone()));
                let workspace = request.workspace.as_ref().map(about).transpose()?;
                let time =
                    |text: &Option<String>| text.as_deref().map(instant).transpose().map_err(lifecycle::Error::Request);
                let (since, until) = (time(&request.since)?, time(&request.until)?);
                let query = DecisionQuery { workspace, hook: request.hook, since, until, counting: false };
                replay_decisions(&chain, &secrets, &missing, store.decision_pages(query))?
            }
        };
        Ok(ReplayedAll { replayed, place, steps, notice: None })
    }

    /// Returns the chain of the configuration with a new policy in it, its optional policies that cannot be loaded, and
    /// the place of the new policy.
    fn replay_chain(
        &self,
        with: Option<(PolicyConfig, Option<&str>)>,
    ) -> Result<(Chain, Vec<String>, Option<String>), Error> {
        let mut loaded = self.app.loaded.clone();
        let mut list = std::mem::take(&mut loaded.config.policy);
        if list.is_empty() {
            list = builtin::default_chain();
        }
        let place = with.map(|(policy, name)| put(&mut list, policy, name));
        loaded.config.policy = list;
        let app = App::new(self.app.sources.clone(), loaded, self.app.state_dir.clone());
        let (app, missing) = app.for_replays()?;
        Ok((app.prepared_chain(&Hook::ALL)?, missing, place))
    }
}

async fn replay_there(client: &Client, request: &ReplayRequest, with: bool) -> Result<ReplayedAll, Error> {
    if with {
        let text =
            format!("--with takes a file of this machine, but the service at {} has its own chain", client.server());
        let remedy = "run the command on the machine of the service without --server, or add the policy to the chain \
                      as a shadow";
        return Err(Error::usage(text, remedy));
    }
    let limit = request.decision.is_none().then_some(REPLAYED);
    let replayed = client.replay(&ReplayRequest { limit, ..request.clone() }).await?;
    let all = replayed.replayed + replayed.not_replayed.values().sum::<u64>();
    let cut = limit.is_some_and(|limit| all >= u64::from(limit));
    let notice =
        cut.then(|| format!("a service replays at most the newest {REPLAYED} records; use --until for older ones"));
    Ok(ReplayedAll { replayed, place: None, steps: None, notice })
}

/// Puts a policy into a chain: in place of the policy with the same name, whose settings and rights it inherits, or at
/// the end. Returns a description of the place.
fn put(list: &mut Vec<PolicyConfig>, new: PolicyConfig, name: Option<&str>) -> String {
    let stem = new.name.rsplit_once('.').map_or(new.name.as_str(), |(stem, _)| stem).to_owned();
    let names = name.map_or_else(|| vec![new.name.clone(), stem], |name| vec![name.to_owned()]);
    match list.iter_mut().find(|policy| names.contains(&policy.name)) {
        Some(old) => {
            let place = format!("in place of '{}'", old.name);
            (old.builtin, old.wasm, old.script) = (None, new.wasm, new.script);
            // The digest was that of the replaced file.
            old.digest = None;
            place
        }
        None => {
            let name = name.map_or(new.name.clone(), str::to_owned);
            let place = format!("'{name}' at the end of the chain");
            list.push(PolicyConfig { name, ..new });
            place
        }
    }
}
