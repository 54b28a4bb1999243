//! `wharf secret`: the secret files of a workspace.

use std::collections::BTreeMap;
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

/// Parses the values of a flag that gives secrets: `NAME=FILE`, or `NAME` for the variable of this name here.
///
/// # Errors
/// One line that names the flag and never holds a value.
pub(crate) fn parse(flag: &str, texts: Vec<String>) -> Result<BTreeMap<String, SecretBytes>, String> {
    let mut secrets = BTreeMap::new();
    for text in texts {
        let (name, value) = match text.split_once('=') {
            Some((name, file)) => {
                let value = std::fs::read(file);
                (name, value.map_err(|error| format!("{flag} {name}: cannot read {file}: {error}"))?)
            }
            None => {
                let value = std::env::var(&text).map_err(|_| format!("{flag} {text}: the variable is not set"))?;
                (text.as_str(), value.into_bytes())
            }
        };
        if secrets.insert(name.to_owned(), SecretBytes(value)).is_some() {
            return Err(format!("{flag} {name}: the secret {name} is set twice"));
        }
    }
    Ok(secrets)
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
