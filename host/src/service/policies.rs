//! The loop `policies`: reloads the chain when one of its files changes, and when a signal requests it.
//!
//! The files are checked once a second by path: identity, size and times. Unlike a watch on directories, this notices
//! every way in which editors and deployments write files (in place, by renaming, through links), on every file system,
//! and it costs a handful of system calls. A change is loaded once the files stayed the same from one check to the
//! next.
//!
//! The steps are: compile -> settings -> self-test -> swap. Any failure leaves the current chain in place, and reports
//! the reason.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::sync::mpsc;

use super::handle::Asker;
use super::{ServiceEvent, Shared, Stop, slept};
use crate::app::App;
use crate::app::cases::{find_cases, run_case};
use crate::config::Config;
use crate::hooks::Chain;
use crate::hooks::record::StepMode;
use crate::store::{ChainStatus, Store};

const EVERY: Duration = Duration::from_secs(1);
/// The number of recorded inputs per hook with which a changed policy is tested.
const TRIED: u32 = 20;

/// The state of the files: path -> device, inode, size, and times of change; `None` for a missing file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen(BTreeMap<PathBuf, Option<[i64; 7]>>);

impl Seen {
    pub(super) fn now(app: &App) -> Self {
        let of = |path: &PathBuf| {
            let meta = std::fs::metadata(path).ok()?;
            let signed = |number: u64| i64::from_ne_bytes(number.to_ne_bytes());
            Some([
                signed(meta.dev()),
                signed(meta.ino()),
                signed(meta.size()),
                meta.mtime(),
                meta.mtime_nsec(),
                meta.ctime(),
                meta.ctime_nsec(),
            ])
        };
        Self(app.files().into_iter().map(|path| (path.clone(), of(&path))).collect())
    }

    /// Adds the files of another chain, which was tried and refused: correcting one of them is a reason to try again.
    fn and(mut self, other: Self) -> Self {
        for (path, seen) in other.0 {
            self.0.entry(path).or_insert(seen);
        }
        self
    }

    /// Replaces the state of known files with their state before: changes since then must still be loaded.
    pub(super) fn but(mut self, before: &Self) -> Self {
        for (path, seen) in &mut self.0 {
            if let Some(before) = before.0.get(path) {
                *seen = *before;
            }
        }
        self
    }
}

/// Returns policy -> version.
pub(super) fn versions(chain: &Chain) -> BTreeMap<String, String> {
    chain.entries().iter().map(|entry| (entry.policy.name().to_owned(), entry.version())).collect()
}

/// Reloads at a change, at a signal, and at a request through the handle.
pub(super) async fn run(
    shared: Arc<Shared>,
    mut app: App,
    mut seen: Seen,
    (mut hangups, mut asked_by): (Signal, mpsc::Receiver<Asker>),
    mut stop: Stop,
) {
    let mut last = seen.clone();
    let mut refused: Option<App> = None;
    loop {
        let (asked, asker) = tokio::select! {
            on = slept(EVERY, &mut stop) => if on { (false, None) } else { return },
            Some(()) = hangups.recv() => (true, None),
            Some(asker) = asked_by.recv() => (true, Some(asker)),
        };
        let mut now = Seen::now(&app);
        if let Some(refused) = &refused {
            now = now.and(Seen::now(refused));
        }
        let still = now == last;
        last = now.clone();
        if !(asked || (still && now != seen)) {
            continue;
        }
        // A broken file is tried once, and again when it changes.
        seen = now;
        shared.notify.reloading();
        let reloaded = reload(&shared, &app).await;
        // Whatever the result, the service is ready: at worst the previous chain continues.
        shared.notify.tell("READY=1");
        match reloaded {
            Ok((next, files)) => {
                let changed = needs_restart(&app.loaded.config, &next.loaded.config);
                app = next;
                refused = None;
                // The new configuration may name other files. Files that changed while it was loaded and tested must be
                // loaded again.
                seen = files.but(&seen);
                last = seen.clone();
                let rest = match changed.is_empty() {
                    true => String::new(),
                    false => format!("; restart the service to apply changes in {}", changed.join(", ")),
                };
                shared.status.say(&ServiceEvent::Done(format!("policies and configuration were reloaded{rest}")));
                tell(asker, Ok(shared.status.chain()));
            }
            Err((next, why)) => {
                if let Some((next, files)) = next.map(|next| *next) {
                    let files = files.but(&seen);
                    // Exactly the files of these two chains, as in the next check.
                    seen = Seen::now(&app).but(&seen).and(files);
                    last = seen.clone();
                    refused = Some(next);
                }
                shared.status.chain_refused(&why);
                shared.status.say(&ServiceEvent::Done(format!(
                    "the reload was refused, the previous policies stay active: {why}"
                )));
                tell(asker, Err(why));
            }
        }
    }
}

fn tell(asker: Option<Asker>, result: Result<ChainStatus, String>) {
    if let Some(asker) = asker {
        // The requester may be gone.
        let _ = asker.send(result);
    }
}

/// The subject of a reload, with the state of its files before they were read.
type Tried = (App, Seen);

/// Loads the current files, and puts their chain in place. Fails with the reason, and with the tried chain if it got so
/// far.
async fn reload(shared: &Arc<Shared>, app: &App) -> Result<Tried, (Option<Box<Tried>>, String)> {
    let (shared, app) = (shared.clone(), app.clone());
    let load = move || {
        let next = app.reloaded().map_err(|error| (None, error.to_string()))?;
        let files = Seen::now(&next);
        match take(&shared, &next, &files) {
            Ok(files) => Ok((next, files)),
            Err(why) => {
                // The imports of its policies may only be known now.
                let files = Seen::now(&next).but(&files);
                Err((Some(Box::new((next, files))), why))
            }
        }
    };
    tokio::task::spawn_blocking(load).await.map_err(|error| (None, error.to_string()))?
}

/// Puts the chain in place. Returns its files, including the imports of its policies.
fn take(shared: &Shared, next: &App, files: &Seen) -> Result<Seen, String> {
    let store = shared.lifecycle.store();
    let running = store.service().map_err(|error| error.to_string())?.map(|status| status.chain.policies);
    let running = running.unwrap_or_default();
    let chain = next.checked_chain(&running).map_err(|error| error.to_string())?;
    // The imports of the policies are known from here on.
    let files = Seen::now(next).but(files);
    self_test(&chain, &running, store)?;
    golden_cases(&chain, next)?;
    let versions = versions(&chain);
    shared.lifecycle.replace_chain(next.loaded.clone(), chain);
    shared.status.chain_loaded(versions, true);
    Ok(files)
}

/// Tests each new or changed policy with the last recorded inputs. A policy that fails where it did not fail before
/// would deny, degrade or keep objects that worked until now.
fn self_test(chain: &Chain, running: &BTreeMap<String, String>, store: &Store) -> Result<(), String> {
    for entry in chain.entries() {
        let name = entry.policy.name();
        if running.get(name) == Some(&entry.version()) {
            continue;
        }
        for hook in &entry.hooks {
            for decision in store.decisions_at(*hook, TRIED).map_err(|error| error.to_string())? {
                let step = decision.steps.iter().find(|step| step.policy == name && step.mode != StepMode::Shadow);
                if step.is_some_and(|step| step.error.is_some()) || !entry.concerns(*hook, &decision.input.facts) {
                    continue;
                }
                if let Err(error) = entry.policy.evaluate(&decision.input) {
                    let kind = entry.policy.kind().as_str();
                    return Err(format!(
                        "the {kind} '{name}' fails at {hook} with the input of the decision {}: {error}",
                        decision.id
                    ));
                }
            }
        }
    }
    Ok(())
}

/// Runs the cases that an admin wrote for reloads: a case that does not hold refuses the reload.
fn golden_cases(chain: &Chain, app: &App) -> Result<(), String> {
    let mut files = Vec::new();
    for path in &app.loaded.config.reload.cases {
        let path = app.loaded.base().join(path);
        find_cases(&path, &mut files)
            .map_err(|(path, error)| format!("reload.cases: cannot read '{}': {error}", path.display()))?;
    }
    for file in files {
        let ran = run_case(chain, &file);
        let why = match ran.result {
            Ok(mismatches) => match mismatches.first() {
                None => continue,
                Some(first) => format!("{}: expected {}, got {}", first.what, first.expected, first.actual),
            },
            Err(error) => error,
        };
        return Err(format!("the case '{}' failed: {why}", ran.file.display()));
    }
    Ok(())
}

/// Returns the changed sections that the loops of the service read only at their start.
fn needs_restart(was: &Config, is: &Config) -> Vec<&'static str> {
    [
        ("[engine]", was.engine == is.engine),
        ("[secrets]", was.secrets == is.secrets),
        ("[cleanup]", was.cleanup == is.cleanup),
        ("[restart]", was.restart == is.restart),
        ("[idle]", was.idle == is.idle),
        ("[disk]", was.disk == is.disk),
        ("[events]", was.events == is.events),
        ("[metrics]", was.metrics == is.metrics),
        ("[api]", was.api == is.api),
    ]
    .into_iter()
    .filter_map(|(name, same)| (!same).then_some(name))
    .collect()
}
