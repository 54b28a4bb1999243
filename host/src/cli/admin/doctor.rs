//! `wharf doctor`: checks of engine, configuration, policies, state and limits, each with a remedy.

use serde::Serialize;

use crate::cli::output::{Look, Output, ago, counted, times};
use crate::cli::{Context, Failure};
use crate::config;
use crate::docker::EngineInfo;
use crate::store::Store;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Status {
    Ok,
    Warn,
    Fail,
}

#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    status: Status,
    message: String,
    /// The remedy.
    remedy: Option<String>,
}

impl Check {
    fn ok(name: &'static str, message: impl Into<String>) -> Self {
        Self { name, status: Status::Ok, message: message.into(), remedy: None }
    }
    fn warn(name: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, status: Status::Warn, message: message.into(), remedy: Some(remedy.into()) }
    }
    fn fail(name: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, status: Status::Fail, message: message.into(), remedy: Some(remedy.into()) }
    }
}

/// Runs all checks. Exits with 1 when one failed.
pub(crate) async fn run(context: &Context) -> Result<u8, Failure> {
    let app = &context.app;
    let mut checks = Vec::new();
    checks.push(match &app.loaded.file {
        Some(file) => Check::ok("config", format!("{} is valid", file.display())),
        None => Check::ok("config", "no file: secure defaults ('wharf config init' writes one)"),
    });
    let untrusted = app.untrusted();
    for one in &untrusted {
        checks.push(Check::fail("files", one.to_string(), one.remedy.clone()));
    }
    for ignored in &app.loaded.ignored {
        checks.push(Check::warn("config", ignored, "correct or unset it"));
    }
    for policy in app.load_policies(true) {
        let name = &policy.config.name;
        checks.push(match &policy.result {
            Ok(entry) => {
                let hooks: Vec<_> = entry.hooks.iter().map(|hook| hook.as_str()).collect();
                Check::ok("policy", format!("{name}: {} for {}", entry.policy.kind().as_str(), hooks.join(", ")))
            }
            Err(error) if policy.config.optional => {
                Check::warn("policy", format!("{name}: {error}"), "the policy is optional and was skipped; correct it")
            }
            Err(error) => Check::fail("policy", format!("{name}: {error}"), "correct it; see 'wharf policy check'"),
        });
    }
    // A store that others can change is not opened.
    let host_id = match app.store() {
        Ok(store) => {
            checks.push(match store.verify(None) {
                Err(error) => Check::fail("state", error.to_string(), error.remedy()),
                Ok(verified) => match verified.damages.first() {
                    None => {
                        let (state, count) = (app.state_dir.display(), verified.records);
                        Check::ok("state", format!("{state}: {}, unbroken", counted(count, "decision")))
                    }
                    Some(damage) => Check::fail(
                        "state",
                        format!("the decision records are damaged: {damage}"),
                        "keep a copy and find out who can write to it; 'wharf audit verify' lists all damage, and \
                         'wharf audit acknowledge' acknowledges losses with a known reason",
                    ),
                },
            });
            service(context, &store, &mut checks);
            standings(&store, &mut checks);
            checks.extend(outdated(&store));
            store.host_id().to_owned()
        }
        Err(error) => {
            checks.push(Check::fail("state", error.to_string(), error.remedy()));
            String::new()
        }
    };
    match app.docker(&host_id).await {
        Err(error) => checks.push(Check::fail("engine", error.to_string(), error.remedy())),
        Ok(docker) => match docker.ask_info().await {
            Err(error) => checks.push(Check::fail("engine", error.to_string(), error.remedy())),
            Ok(info) => {
                let endpoint = docker.endpoint();
                checks.push(Check::ok(
                    "engine",
                    format!("{} (API {}) at {endpoint}, {}", info.version, info.api_version, info.operating_system),
                ));
                limits(context, &info, &mut checks);
            }
        },
    }
    let code = report(&checks, &context.out)?;
    // Every other command exits with 3 as well.
    Ok(if untrusted.is_empty() { code } else { 3 })
}

/// Reports policies that are suspended for a while, and canaries that were rolled back.
fn standings(store: &Store, checks: &mut Vec<Check>) {
    let standings = match store.standings() {
        Ok(standings) => standings,
        Err(error) => return checks.push(Check::fail("policy", error.to_string(), error.remedy())),
    };
    for (name, standing) in &standings {
        for (at, breaker, _) in standing.open() {
            let text = format!("{name}: its breaker is open at {at}; last failure: {}", breaker.last);
            checks.push(Check::warn("policy", text, "correct it; 'wharf policy reset' closes the breaker"));
        }
        if let Some(end) = &standing.rolled_back {
            let text = format!("{name}: the canary was rolled back: {}", end.why);
            checks.push(Check::warn("policy", text, "correct it, or run 'wharf policy reset' to try it again"));
        }
    }
}

/// Reports workspaces without some guarantees, because an earlier version made them.
fn outdated(store: &Store) -> Option<Check> {
    let all = match store.workspaces() {
        Ok(all) => all,
        Err(error) => return Some(Check::fail("workspaces", error.to_string(), error.remedy())),
    };
    let old: Vec<String> = all.iter().filter(|one| one.image_config.is_none()).map(|one| one.id.to_string()).collect();
    let text =
        format!("made by an earlier version: {}; 'wharf inspect' shows the consequences for each", old.join(", "));
    (!old.is_empty()).then(|| Check::warn("workspaces", text, "run 'wharf up --recreate' in the folder of each"))
}

/// Reports whether the service runs, and the state of its loops.
fn service(context: &Context, store: &Store, checks: &mut Vec<Check>) {
    let restart = &context.app.loaded.config.restart;
    let idle = context.app.loaded.config.idle.after.is_some();
    let status = match store.service() {
        Ok(Some(status)) => status,
        Ok(None) if restart.unhealthy || restart.failed || idle => {
            let text = "wharf serve is not running: nothing is restarted or stopped as idle, although [restart] or \
                        [idle] asks for it";
            return checks.push(Check::warn("service", text, "run 'wharf serve', e.g. as a systemd service"));
        }
        Ok(None) => {
            let text = "wharf serve is not running: no history, no hook 'event' and no restarts";
            return checks.push(Check::ok("service", text));
        }
        Err(error) => return checks.push(Check::fail("service", error.to_string(), error.remedy())),
    };
    let text = format!("wharf serve is running (process {}, since {:.0})", status.pid, status.since);
    checks.push(match &status.engine_away {
        None => Check::ok("service", text),
        Some(why) => Check::warn("service", format!("{text}, without its engine: {why}"), "see the check 'engine'"),
    });
    if let Some(why) = &status.chain.refused {
        let text =
            format!("it refused a reload {} and keeps the previous policies: {why}", ago(status.chain.refused_at));
        checks.push(Check::warn("service", text, "correct the cause; the service tries again when the file changes"));
    }
    for failed in status.loops.iter().filter(|status| status.errors > 0) {
        let (name, count, last) = (&failed.name, failed.errors, failed.last_error.as_deref().unwrap_or_default());
        let text = format!("the loop '{name}' failed {}; last {}: {last}", times(count), ago(failed.last_error_at));
        checks.push(Check::warn("service", text, "see the log of the service; restart it after the cause is gone"));
    }
}

fn limits(context: &Context, info: &EngineInfo, checks: &mut Vec<Check>) {
    let config = &context.app.loaded.config;
    checks.push(Check::ok(
        "limits",
        format!("cgroup v{}, {} cores, {}", info.cgroup_version, info.cpus, bytesize::ByteSize(info.memory)),
    ));
    if info.security.iter().any(|feature| feature == "seccomp") {
        checks.push(Check::ok("security", format!("the engine has {}", info.security.join(", "))));
    } else {
        checks.push(Check::fail(
            "security",
            "the engine does not support seccomp",
            "use an engine and a kernel with seccomp support",
        ));
    }
    if !info.swap_limit {
        checks.push(Check::warn(
            "limits",
            "the engine cannot limit swap, so memory limits do not cover it",
            "turn swap off, or boot with swapaccount=1",
        ));
    }
    if config.limits.memory.0 > info.memory {
        checks.push(Check::warn(
            "limits",
            format!("limits.memory is {}, more than the machine has", config.limits.memory),
            "set limits.memory lower, so that one workspace cannot take the whole machine",
        ));
    }
    if !info.disk_limit_possible() {
        checks.push(Check::warn(
            "disk",
            format!(
                "watched: the storage driver {} cannot limit the disk of a workspace; wharf serve measures it \
                 and reports it to policies",
                info.storage_driver
            ),
            "use overlay2 on xfs with pquota, btrfs or zfs to enforce the limits",
        ));
    }
    if info.disk_limit_possible() {
        let text = "enforced: the storage driver can limit the disk of a workspace; without quotas in the file \
                    system, usage is only watched";
        checks.push(Check::ok("disk", text));
    }
    if !info.init_available {
        checks.push(Check::warn(
            "engine",
            "the engine has no init process, so the command of a workspace must reap its children and handle SIGTERM",
            "install docker-init (Debian: tini)",
        ));
    }
}

/// Reports a broken configuration as the diagnosis.
pub(crate) fn broken_config(error: &config::Error, out: &Output) -> Result<u8, Failure> {
    let code = report(&[Check::fail("config", error.message.clone(), error.remedy.clone())], out)?;
    Ok(if error.untrusted { 3 } else { code })
}

fn report(checks: &[Check], out: &Output) -> Result<u8, Failure> {
    if out.json {
        out.value(&checks)?;
    } else {
        for check in checks {
            let (mark, look) = match check.status {
                Status::Ok => ("ok  ", Look::Good),
                Status::Warn => ("warn", Look::Warn),
                Status::Fail => ("FAIL", Look::Bad),
            };
            let prefix = format!("{mark}  {:<8}  ", check.name);
            out.marked(mark, look, &prefix, &check.message)?;
            if let Some(remedy) = &check.remedy {
                out.wrapped("                remedy: ", remedy)?;
            }
        }
    }
    Ok(u8::from(checks.iter().any(|check| check.status == Status::Fail)))
}
