//! `wharf policy`: the chain, its errors, and the modes of its policies.

use std::path::Path;

use crate::app::PolicyView;
use crate::app::scripts::is_configuration;
use crate::cli::output::{Cell, Column, Look, ago, column};
use crate::cli::{Context, Failure};
use crate::config::PolicyConfig;
use crate::hooks::chain::Mode;
use crate::store::ChainStatus;

mod diff;
mod mode;

mod cases;
mod replay;

/// Manage the chain of policies.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the chain, in order
    Ls,
    /// Sum up the changes that shadows would have made
    Diff(diff::Args),
    /// Make a policy count: write mode = "enforce", or a canary, into wharf.toml
    Promote {
        /// Name of a policy in the chain
        policy: String,
        /// Only for this percentage of the workspaces
        #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
        canary: Option<u8>,
    },
    /// Make a policy a shadow again: write mode = "shadow" into wharf.toml
    Rollback {
        /// Name of a policy in the chain
        policy: String,
    },
    /// Close the breakers of a policy, and undo the automatic roll-back of a canary
    Reset {
        /// Name of a policy in the chain
        policy: String,
    },
    /// Have the service reload configuration and policies now, and report the result
    Reload,
    /// Load policies and report errors: the whole chain, one policy of it, or a file (.wasm or .rhai)
    Check {
        /// Name of a policy in the chain, or a file
        policy: Option<String>,
    },
    /// Run recorded decisions again, and report changed outcomes
    Replay(replay::Args),
    /// Run golden cases: folders of inputs with expected outcomes
    Test(cases::Args),
}

impl Command {
    /// Returns whether a service can carry it out. Other commands concern files on this machine.
    pub(crate) fn goes_to_a_service(&self) -> bool {
        match self {
            Self::Ls | Self::Reload | Self::Diff(_) | Self::Replay(_) | Self::Check { .. } | Self::Test(_) => true,
            Self::Promote { .. } | Self::Rollback { .. } | Self::Reset { .. } => false,
        }
    }
}

/// Runs the command.
pub(crate) async fn run(context: &Context, command: &Command) -> Result<u8, Failure> {
    match command {
        Command::Ls => ls(context).await,
        Command::Diff(args) => diff::run(context, args).await,
        Command::Promote { policy, canary } => mode::set(context, policy, canary.map_or(Mode::Enforce, Mode::Canary)),
        Command::Rollback { policy } => mode::set(context, policy, Mode::Shadow),
        Command::Reset { policy } => mode::reset(context, policy),
        Command::Reload => mode::reload(context).await,
        Command::Check { policy } => check(context, policy.as_deref()),
        Command::Replay(args) => replay::run(context, args).await,
        Command::Test(args) => cases::run(context, args),
    }
}

const COLUMNS: [Column; 7] = [
    column("#"),
    column("NAME").cut(16),
    column("KIND").optional(2),
    column("MODE"),
    column("DIGEST").optional(4),
    column("SOURCE").path(12).optional(3),
    column("HOOKS").wrapped(16),
];

async fn ls(context: &Context) -> Result<u8, Failure> {
    let (rows, chain) = context.backend(&[])?.policies().await?;
    if context.out.json {
        context.out.value(&rows)?;
        return Ok(0);
    }
    let cells = |row: &PolicyView| {
        let digest = row.digest.as_deref().and_then(|digest| digest.get(..19)).unwrap_or("-").to_owned();
        let hooks = match &row.error {
            Some(error) => Cell::from(error).look(Look::Bad),
            None => hooks(row).into(),
        };
        let mode = Cell::from(&row.mode).look((row.mode != "enforce").then_some(Look::Warn));
        let (kind, order) = (row.kind.as_str(), row.order.to_string());
        vec![order.into(), Cell::from(&row.name), kind.into(), mode, digest.into(), Cell::from(&row.source), hooks]
    };
    context.out.table(&COLUMNS, rows.iter().map(cells).collect())?;
    for row in &rows {
        for note in &row.notes {
            context.out.wrapped("", format!("{}: {note}", row.name))?;
        }
    }
    if let Some(ChainStatus { refused: Some(why), refused_at, since, .. }) = chain {
        let (when, before) = (ago(refused_at), ago(since));
        context
            .out
            .wrapped("", format!("the service refused a reload {when} and still uses the chain of {before}: {why}"))?;
    }
    Ok(0)
}

fn hooks(row: &PolicyView) -> String {
    row.hooks.iter().map(|hook| hook.as_str()).collect::<Vec<_>>().join(", ")
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
            let text = format!("there is no policy and no file '{name}'");
            return Err(Failure::new("policy-not-found", text, "'wharf policy ls' lists the chain", 5));
        }
    }
    let rows = PolicyView::of_files(&all);
    let failed = rows.iter().filter(|row| !row.ok).count();
    if context.out.json {
        context.out.value(&rows)?;
    } else {
        for (row, policy) in rows.iter().zip(&all) {
            match &policy.result {
                Ok(_) => {
                    let text = format!("{} ({}: {})", row.name, row.kind.as_str(), hooks(row));
                    context.out.marked("ok", Look::Good, "ok      ", text)?;
                }
                Err(error) => {
                    let text = format!("{} ({}): {error}", row.name, row.source);
                    context.out.marked("failed", Look::Bad, "failed  ", text)?;
                    if let Some(detail) = error.detail.as_ref().filter(|_| error.marked) {
                        context.out.detail(detail, error.marked)?;
                    }
                }
            }
        }
    }
    Ok(if failed == 0 { 0 } else { 3 })
}

/// Returns an entry for a file outside the chain, named after the file.
pub(in crate::cli) fn of_file(path: &Path) -> Result<PolicyConfig, Failure> {
    if is_configuration(path) {
        let text = format!("{} edits the configuration and is no policy", path.display());
        return Err(Failure::new("policy-kind", text, "check it with 'wharf script check'", 2));
    }
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
