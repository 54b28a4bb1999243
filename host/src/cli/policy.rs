//! `wharf policy`: the chain, what is wrong with it, and how its policies take part.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::output::ago;
use super::{Context, Failure};
use crate::app::LoadedPolicy;
use crate::config::PolicyConfig;
use crate::hooks::Entry;
use crate::hooks::chain::{Mode, Standing};
use crate::hooks::record::Waiver;
use crate::store::ChainStatus;

mod diff;
mod mode;

pub(super) mod cases;
mod replay;

/// The chain of policies.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Lists the chain, in order
    Ls,
    /// Sums up what shadows would have changed
    Diff(diff::Args),
    /// Makes a policy count: writes mode = "enforce", or a canary, into wharf.toml
    Promote {
        /// Name of a policy in the chain
        policy: String,
        /// Only for this percentage of the workspaces
        #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
        canary: Option<u8>,
    },
    /// Makes a policy a shadow again: writes mode = "shadow" into wharf.toml
    Rollback {
        /// Name of a policy in the chain
        policy: String,
    },
    /// Closes a policy's breakers, and takes back the automatic roll-back of a canary
    Reset {
        /// Name of a policy in the chain
        policy: String,
    },
    /// Has the service reload configuration and policies now, and says how that went
    Reload,
    /// Loads policies and says what is wrong: the whole chain, one of it, or a file (.wasm or .rhai)
    Check {
        /// Name of a policy in the chain, or a file
        policy: Option<String>,
    },
    /// Runs recorded decisions again, and says which would come out otherwise
    Replay(replay::Args),
    /// Runs golden cases: folders of inputs and what has to come out
    Test(cases::Args),
}

#[derive(Serialize)]
struct Row {
    order: usize,
    name: String,
    kind: &'static str,
    source: String,
    digest: Option<String>,
    hooks: Vec<&'static str>,
    timeout_ms: u128,
    memory: usize,
    output: usize,
    host_bytes: usize,
    operations: u64,
    optional: bool,
    mode: String,
    replaces: Option<String>,
    waivers: Vec<Waiver>,
    /// How it has been doing.
    standing: Option<Standing>,
    /// Sentences about that, for people.
    notes: Vec<String>,
    ok: bool,
    error: Option<String>,
}

fn row(index: usize, policy: &LoadedPolicy, chain: &Chain<'_>) -> Row {
    let limits = policy.config.limits();
    let entry = policy.result.as_ref().ok();
    let kind = match entry {
        Some(entry) => entry.policy.kind().as_str(),
        None if policy.config.script.is_some() => "script",
        None => "plugin",
    };
    Row {
        order: index + 1,
        name: policy.config.name.clone(),
        kind,
        source: policy.source.clone(),
        digest: entry.map(|entry| format!("sha256:{}", entry.policy.digest())),
        hooks: entry.map(|entry| entry.hooks.iter().map(|hook| hook.as_str()).collect()).unwrap_or_default(),
        timeout_ms: limits.timeout.as_millis(),
        memory: limits.memory,
        output: limits.output,
        host_bytes: limits.host_bytes,
        operations: limits.operations,
        optional: policy.config.optional,
        mode: policy.config.mode.to_string(),
        replaces: policy.config.replaces.clone(),
        waivers: policy.config.waivers.clone(),
        standing: entry.and_then(|entry| chain.standing(entry)).cloned(),
        notes: chain.notes(policy),
        ok: entry.is_some(),
        error: policy.result.as_ref().err().map(ToString::to_string),
    }
}

/// What is known about the policies beside the configuration.
#[derive(Default)]
struct Chain<'a> {
    standings: BTreeMap<String, Standing>,
    /// The service's, if one runs.
    service: Option<ChainStatus>,
    /// All entries.
    all: &'a [LoadedPolicy],
}

impl<'a> Chain<'a> {
    fn read(context: &Context, all: &'a [LoadedPolicy]) -> Result<Self, Failure> {
        // Listing policies makes no state where there is none.
        if !context.app.state_dir.join("wharf.db").exists() {
            return Ok(Self { all, ..Self::default() });
        }
        let store = context.app.store()?;
        let service = store.service()?.map(|status| status.chain);
        Ok(Self { standings: store.standings()?, service, all })
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
                Mode::Canary(_) => format!("replaced by {whom} for its share"),
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
            Some(None) => notes.push("the service decides without it yet".into()),
            Some(Some(version)) if *version != entry.version() => {
                let digest = version.get(..12).unwrap_or(version);
                notes.push(format!("the service decides with another version (sha256:{digest}...)"));
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
                0 => "is asked again at the next call".to_owned(),
                ms => format!("is asked again in {} s", ms.div_ceil(1_000)),
            };
            notes.push(format!(
                "breaker open at {at}: {} failures in a row, {again}; the last: {}",
                breaker.failures, breaker.last
            ));
        }
        notes
    }
}

/// Runs the command.
pub(crate) async fn run(context: &Context, command: &Command) -> Result<u8, Failure> {
    match command {
        Command::Ls => ls(context),
        Command::Diff(args) => diff::run(context, args),
        Command::Promote { policy, canary } => mode::set(context, policy, canary.map_or(Mode::Enforce, Mode::Canary)),
        Command::Rollback { policy } => mode::set(context, policy, Mode::Shadow),
        Command::Reset { policy } => mode::reset(context, policy),
        Command::Reload => mode::reload(context).await,
        Command::Check { policy } => check(context, policy.as_deref()),
        Command::Replay(args) => replay::run(context, args),
        Command::Test(args) => cases::run(context, args),
    }
}

fn ls(context: &Context) -> Result<u8, Failure> {
    let all = context.app.load_policies(true);
    let chain = Chain::read(context, &all)?;
    let rows: Vec<_> = all.iter().enumerate().map(|(index, policy)| row(index, policy, &chain)).collect();
    if context.out.json {
        context.out.value(&rows)?;
        return Ok(0);
    }
    let cells = |row: &Row| {
        let digest = row.digest.as_deref().and_then(|digest| digest.get(..19)).unwrap_or("-").to_owned();
        let state = row.error.clone().unwrap_or_else(|| row.hooks.join(", "));
        let (kind, mode) = (row.kind.to_owned(), row.mode.clone());
        vec![row.order.to_string(), row.name.clone(), kind, mode, digest, row.source.clone(), state]
    };
    context.out.table(&["#", "NAME", "KIND", "MODE", "DIGEST", "SOURCE", "HOOKS"], rows.iter().map(cells).collect())?;
    for row in &rows {
        for note in &row.notes {
            context.out.line(format!("{}: {note}", row.name))?;
        }
    }
    if let Some(ChainStatus { refused: Some(why), refused_at, since, .. }) = &chain.service {
        let (when, before) = (ago(*refused_at), ago(*since));
        context
            .out
            .line(format!("the service refused a reload {when} and decides with the chain of {before}: {why}"))?;
    }
    Ok(0)
}

fn check(context: &Context, which: Option<&str>) -> Result<u8, Failure> {
    let mut all = match which.map(Path::new).filter(|path| path.exists()) {
        Some(path) => vec![context.app.load_policy(of_file(path)?)],
        None => context.app.load_policies(true),
    };
    if let Some(name) = which
        && !Path::new(name).exists()
    {
        all.retain(|policy| policy.config.name == name);
        if all.is_empty() {
            let text = format!("there is neither a policy nor a file '{name}'");
            return Err(Failure::new("policy-not-found", text, "'wharf policy ls' lists the chain", 5));
        }
    }
    let chain = Chain { all: &all, ..Chain::default() };
    let rows: Vec<_> = all.iter().enumerate().map(|(index, policy)| row(index, policy, &chain)).collect();
    let failed = rows.iter().filter(|row| !row.ok).count();
    if context.out.json {
        context.out.value(&rows)?;
    } else {
        for (row, policy) in rows.iter().zip(&all) {
            match &policy.result {
                Ok(_) => context.out.line(format!("ok      {} ({}: {})", row.name, row.kind, row.hooks.join(", ")))?,
                Err(error) => {
                    context.out.line(format!("failed  {} ({}): {error}", row.name, row.source))?;
                    if let Some(detail) = error.detail.as_ref().filter(|_| error.marked) {
                        context.out.line(detail)?;
                    }
                }
            }
        }
    }
    Ok(if failed == 0 { 0 } else { 3 })
}

/// An entry for a file that is in no chain, under its own name.
pub(super) fn of_file(path: &Path) -> Result<PolicyConfig, Failure> {
    let absolute = std::path::absolute(path)?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut config = PolicyConfig::builtin(&name);
    config.builtin = None;
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("wasm") => config.wasm = Some(absolute),
        Some("rhai") => config.script = Some(absolute),
        _ => {
            let text = format!("{} is neither a .wasm nor a .rhai file", path.display());
            return Err(Failure::new("policy-kind", text, "name a plugin or a script", 2));
        }
    }
    Ok(config)
}
