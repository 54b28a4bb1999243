//! `wharf wait`

use crate::cli::bars::Waiting;
use crate::cli::{Context, Failure};
use crate::config::Span;
use crate::workspace::Awaited;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Id or name [default: the workspace of this folder]
    workspace: Option<String>,
    /// The state to wait for
    #[arg(long = "for", value_enum, value_name = "STATE", default_value = "healthy")]
    state: Awaited,
    /// Fail after this time, e.g. 60s [default: no limit]
    #[arg(long, value_name = "TIME")]
    timeout: Option<Span>,
    /// Exit with the exit code of the workspace
    #[arg(long)]
    exit_code: bool,
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: &Args) -> Result<u8, Failure> {
    if args.exit_code && args.state != Awaited::Exited {
        let text = "--exit-code needs --for exited: other states have no exit code";
        return Err(Failure::new("bad-request", text, "add --for exited, or omit --exit-code", 2));
    }
    let target = context.target(args.workspace.as_deref())?;
    let awaited = args.state;
    let waiting = Waiting::new(context.out.json, format!("waiting for {} to be {}", target.shown(), awaited.as_str()));
    let waited = context.backend(&[])?.wait(&target, awaited, args.timeout).await?;
    drop(waiting);
    let exit_code = waited.exit_code;
    if context.out.json {
        context.out.value(&waited)?;
    } else {
        match (args.state, exit_code) {
            (Awaited::Exited, Some(code)) => context.out.line(code.to_string())?,
            (Awaited::Exited, None) => context.out.line("-")?,
            _ => context.out.line(format!("{} is {}", waited.id, awaited.as_str()))?,
        }
    }
    let code = exit_code.and_then(|code| u8::try_from(code).ok());
    Ok(if args.exit_code { code.unwrap_or(1) } else { 0 })
}
