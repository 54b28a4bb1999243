//! `wharf volume`: the named volumes that Wharf made.

use serde::Serialize;

use super::output::ago;
use super::{Context, Failure};
use crate::lifecycle::Error;
use crate::workspace::{LABEL_NAME, LABEL_WORKSPACE};

/// What to do with volumes.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Lists the named volumes that this Wharf made
    Ls,
    /// Removes volumes with their data; those that a container uses stay
    Rm {
        /// Names
        #[arg(required = true)]
        volumes: Vec<String>,
    },
}

#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    workspace: &'a str,
    workspace_id: &'a str,
    created_at: Option<jiff::Timestamp>,
}

/// Runs the command.
pub(crate) async fn run(context: &Context, command: &Command) -> Result<u8, Failure> {
    let lifecycle = context.lifecycle().await?;
    match command {
        Command::Ls => {
            let mut all = lifecycle.docker().our_volumes(&[]).await?;
            all.sort_by(|a, b| a.name.cmp(&b.name));
            let label =
                |volume: &'_ crate::docker::Volume, key: &str| volume.labels.get(key).cloned().unwrap_or_default();
            let names: Vec<_> =
                all.iter().map(|volume| (label(volume, LABEL_NAME), label(volume, LABEL_WORKSPACE))).collect();
            if context.out.json {
                let rows = all.iter().zip(&names).map(|(volume, (workspace, workspace_id))| Row {
                    name: &volume.name,
                    workspace,
                    workspace_id,
                    created_at: volume.created_at,
                });
                context.out.value(&rows.collect::<Vec<_>>())?;
            } else {
                let rows = all.iter().zip(&names);
                let rows = rows.map(|(volume, (_, id))| vec![volume.name.clone(), id.clone(), ago(volume.created_at)]);
                context.out.table(&["NAME", "MADE FOR", "CREATED"], rows.collect())?;
            }
            Ok(0)
        }
        Command::Rm { volumes } => {
            let mut exit = 0;
            for name in volumes {
                let removed = lifecycle.docker().remove_volume(name).await.and_then(|removed| match removed {
                    true => Ok(()),
                    false => Err(crate::docker::Error::NotFound { what: "volume", name: name.clone() }),
                });
                match removed {
                    Ok(()) if context.out.json => {}
                    Ok(()) => context.out.line(format!("{name} removed"))?,
                    Err(error) => {
                        let failure = Failure::from(Error::from(error));
                        context.out.failure(&failure);
                        exit = if exit == 0 { failure.exit } else { exit };
                    }
                }
            }
            Ok(exit)
        }
    }
}
