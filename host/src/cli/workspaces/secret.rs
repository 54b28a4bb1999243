//! `wharf secret`: the secret files of a workspace.

use std::io::Read;

use crate::cli::{Context, Failure};
use crate::wire::SecretBytes;

/// Manage the secret files of a workspace. Their values are never shown.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the names of a workspace's secrets
    Ls {
        /// Id or name [default: the workspace of this folder]
        workspace: Option<String>,
    },
    /// Set a secret from stdin; the workspace sees it at once
    Set {
        /// Its name
        name: String,
        /// Id or name [default: the workspace of this folder]
        workspace: Option<String>,
    },
    /// Remove a secret
    Rm {
        /// Its name
        name: String,
        /// Id or name [default: the workspace of this folder]
        workspace: Option<String>,
    },
}

/// Parses `NAME=FILE`, or `NAME` for the variable of this name here.
///
/// # Errors
/// One line that never holds the value.
pub(crate) fn parse(text: &str) -> Result<(String, SecretBytes), String> {
    match text.split_once('=') {
        Some((name, file)) => {
            let value = std::fs::read(file).map_err(|error| format!("--secret {name}: cannot read {file}: {error}"))?;
            Ok((name.to_owned(), SecretBytes(value)))
        }
        None => {
            let value = std::env::var(text).map_err(|_| format!("--secret {text}: the variable is not set"))?;
            Ok((text.to_owned(), SecretBytes(value.into_bytes())))
        }
    }
}

/// Runs the command.
pub(crate) async fn run(context: &Context, command: &Command) -> Result<u8, Failure> {
    let backend = context.backend(&[])?;
    match command {
        Command::Ls { workspace } => {
            let names = backend.secrets(&context.target(workspace.as_deref())?).await?;
            if context.out.json {
                context.out.value(&names)?;
            } else {
                for name in names {
                    context.out.line(name)?;
                }
            }
        }
        Command::Set { name, workspace } => {
            let target = context.target(workspace.as_deref())?;
            let mut value = Vec::new();
            std::io::stdin().take(1 << 20).read_to_end(&mut value)?;
            let id = backend.set_secret(&target, name, SecretBytes(value)).await?;
            if !context.out.json {
                context.out.line(format!("{id}: {name} set"))?;
            }
        }
        Command::Rm { name, workspace } => {
            let id = backend.remove_secret(&context.target(workspace.as_deref())?, name).await?;
            if !context.out.json {
                context.out.line(format!("{id}: {name} removed"))?;
            }
        }
    }
    Ok(0)
}
