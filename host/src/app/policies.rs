//! Policies for people and programs: the JSON of `wharf policy ls`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{App, LoadedPolicy};
use crate::builtin;
use crate::config::ago;
use crate::hooks::Entry;
use crate::hooks::chain::{Mode, Standing};
use crate::hooks::record::Waiver;
use crate::hooks::{Hook, PolicyKind};
use crate::lifecycle::{self};
use crate::records::{ShadowSummary, shadow_report};
use crate::store::{self, ChainStatus, ServiceStatus};

/// A policy of the chain.
#[derive(Debug, Clone, Deserialize, Serialize, utoipa::ToSchema)]
pub struct PolicyView {
    /// Its position, from 1.
    pub order: usize,
    /// Its name.
    pub name: String,
    /// `plugin` or `script`.
    pub kind: PolicyKind,
    /// A path, or `builtin`.
    pub source: String,
    /// `sha256:...` of its bytes, when it loads.
    pub digest: Option<String>,
    /// The hooks that it is called at.
    pub hooks: Vec<Hook>,
    /// Time limit of a call, in milliseconds.
    pub timeout_ms: u64,
    /// Limit of its memory, in bytes.
    pub memory: usize,
    /// Limit of an answer, in bytes.
    pub output: usize,
    /// Limit of the data between it and the host, in bytes.
    pub host_bytes: usize,
    /// Limit of operations of a script.
    pub operations: u64,
    /// Whether it may be missing.
    pub optional: bool,
    /// The configured mode: `enforce`, `shadow` or `canary: N %`.
    pub mode: String,
    /// The policy that it will replace.
    pub replaces: Option<String>,
    /// Limits that it may loosen, each with its end.
    pub waivers: Vec<Waiver>,
    /// Its failure statistics.
    pub standing: Option<Standing>,
    /// Sentences about its standing, for people.
    pub notes: Vec<String>,
    /// Whether it loads.
    pub ok: bool,
    /// The reason that it does not load.
    pub error: Option<String>,
}

impl App {
    /// Returns the policies of the configuration, each loaded, with the information of the store and the service about
    /// them.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn policies(&self) -> Result<Vec<PolicyView>, store::Error> {
        let all = self.load_policies(true);
        let mut chain = Chain { all: &all, ..Chain::default() };
        // Listing policies must not create a missing store.
        if self.state_dir.join("wharf.db").exists() {
            let store = self.store()?;
            chain.service = store.service()?.map(|status| status.chain);
            chain.standings = store.standings()?;
        }
        Ok(chain.views())
    }

    /// Returns the changes that shadows would have made since a time: one shadow, or all.
    ///
    /// # Errors
    /// See [`shadow_report`].
    pub fn shadows(
        &self,
        store: &store::Store,
        policy: Option<&str>,
        since: jiff::Timestamp,
    ) -> Result<BTreeMap<String, ShadowSummary>, lifecycle::Error> {
        Ok(shadow_report(store, &builtin::chain(&self.loaded.config), policy, since)?)
    }

    /// Returns the service of this state folder, if one runs.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn service(&self) -> Result<Option<ServiceStatus>, store::Error> {
        if self.state_dir.join("wharf.db").exists() { self.store()?.service() } else { Ok(None) }
    }
}

impl PolicyView {
    /// Returns the information about policies that needs no store.
    pub fn of_files(all: &[LoadedPolicy]) -> Vec<Self> {
        Chain { all, ..Chain::default() }.views()
    }
}

/// The information about the policies besides the configuration.
#[derive(Default)]
struct Chain<'a> {
    standings: BTreeMap<String, Standing>,
    /// The chain of the service, if one runs.
    service: Option<ChainStatus>,
    /// All entries.
    all: &'a [LoadedPolicy],
}

impl Chain<'_> {
    fn views(&self) -> Vec<PolicyView> {
        self.all.iter().enumerate().map(|(index, policy)| self.view(index, policy)).collect()
    }

    fn view(&self, index: usize, policy: &LoadedPolicy) -> PolicyView {
        let limits = policy.config.limits();
        let entry = policy.result.as_ref().ok();
        let kind = match entry {
            Some(entry) => entry.policy.kind(),
            None if policy.config.script.is_some() => PolicyKind::Script,
            None => PolicyKind::Plugin,
        };
        PolicyView {
            order: index + 1,
            name: policy.config.name.clone(),
            kind,
            source: policy.source.clone(),
            digest: entry.map(|entry| format!("sha256:{}", entry.policy.digest())),
            hooks: entry.map(|entry| entry.hooks.clone()).unwrap_or_default(),
            timeout_ms: u64::try_from(limits.timeout.as_millis()).unwrap_or(u64::MAX),
            memory: limits.memory,
            output: limits.output,
            host_bytes: limits.host_bytes,
            operations: limits.operations,
            optional: policy.config.optional,
            mode: policy.config.mode.to_string(),
            replaces: policy.config.replaces.clone(),
            waivers: policy.config.waivers.clone(),
            standing: entry.and_then(|entry| self.standing(entry)).cloned(),
            notes: self.notes(policy),
            ok: entry.is_some(),
            error: policy.result.as_ref().err().map(ToString::to_string),
        }
    }

    fn standing(&self, entry: &Entry) -> Option<&Standing> {
        self.standings.get(entry.policy.name()).filter(|standing| standing.version == entry.version())
    }

    fn notes(&self, policy: &LoadedPolicy) -> Vec<String> {
        let mut notes = Vec::new();
        let Ok(entry) = &policy.result else { return notes };
        let name = entry.policy.name();
        if let Some(successor) = self.all.iter().find(|other| other.config.replaces.as_deref() == Some(name)) {
            let whom = &successor.config.name;
            notes.push(match successor.config.mode {
                Mode::Enforce => format!("replaced by {whom}"),
                Mode::Canary(_) => format!("replaced by {whom} in its share of workspaces"),
                Mode::Shadow => format!("would be replaced by {whom}"),
            });
        }
        let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
        notes.extend(policy.config.waivers.iter().map(|waiver| {
            let ends = if waiver.until < today { "ended on" } else { "until" };
            format!("waiver: {} = {} {ends} {} ({})", waiver.field, waiver.value, waiver.until, waiver.reason)
        }));
        let running = self.service.as_ref().map(|service| service.policies.get(name));
        match running {
            Some(None) => notes.push("the service does not use it yet".into()),
            Some(Some(version)) if *version != entry.version() => {
                let digest = version.get(..12).unwrap_or(version);
                notes.push(format!("the service uses another version (sha256:{digest}...)"));
            }
            _ => {}
        }
        let Some(standing) = self.standing(entry) else { return notes };
        if let (Mode::Canary(_), Some(end)) = (policy.config.mode, &standing.rolled_back) {
            let at = i64::try_from(end.at_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
            notes.push(format!("rolled back {}: {}", ago(at), end.why));
        } else if matches!(policy.config.mode, Mode::Canary(_)) {
            notes.push(format!("{} calls as a canary, {} failed", standing.calls, standing.errors));
        }
        let now = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0);
        for (at, breaker, until) in standing.open() {
            let again = match until.saturating_sub(now) {
                0 => "asked again at the next call".to_owned(),
                ms => format!("asked again in {} s", ms.div_ceil(1_000)),
            };
            notes.push(format!(
                "breaker open at {at}: {} failures in a row, {again}; last: {}",
                breaker.failures, breaker.last
            ));
        }
        notes
    }
}
