//! `wharf policy ls` and `wharf policy check`

use std::path::Path;

use serde::Serialize;

use super::{Context, Failure};
use crate::app::LoadedPolicy;
use crate::config::PolicyConfig;

/// The chain of policies.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Lists the chain, in order
    Ls,
    /// Loads policies and says what is wrong: the whole chain, one of it, or a file (.wasm or .rhai)
    Check {
        /// Name of a policy in the chain, or a file
        policy: Option<String>,
    },
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
    operations: u64,
    optional: bool,
    ok: bool,
    error: Option<String>,
}

fn row(index: usize, policy: &LoadedPolicy) -> Row {
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
        operations: limits.operations,
        optional: policy.config.optional,
        ok: entry.is_some(),
        error: policy.result.as_ref().err().map(ToString::to_string),
    }
}

/// Runs the command.
pub(crate) fn run(context: &Context, command: &Command) -> Result<u8, Failure> {
    match command {
        Command::Ls => ls(context),
        Command::Check { policy } => check(context, policy.as_deref()),
    }
}

fn ls(context: &Context) -> Result<u8, Failure> {
    let all = context.app.load_policies(true);
    let rows: Vec<_> = all.iter().enumerate().map(|(index, policy)| row(index, policy)).collect();
    if context.out.json {
        context.out.value(&rows)?;
        return Ok(0);
    }
    let cells = |row: &Row| {
        let digest = row.digest.as_deref().and_then(|digest| digest.get(..19)).unwrap_or("-").to_owned();
        let state = row.error.clone().unwrap_or_else(|| row.hooks.join(", "));
        vec![row.order.to_string(), row.name.clone(), row.kind.to_owned(), digest, row.source.clone(), state]
    };
    context.out.table(&["#", "NAME", "KIND", "DIGEST", "SOURCE", "HOOKS"], rows.iter().map(cells).collect())?;
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
    let rows: Vec<_> = all.iter().enumerate().map(|(index, policy)| row(index, policy)).collect();
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
fn of_file(path: &Path) -> Result<PolicyConfig, Failure> {
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
