//! `wharf volume`: the named volumes that Wharf made.

use crate::cli::output::{Column, Several, ago, column};
use crate::cli::{Context, Failure};
use crate::lifecycle::VolumeView;

/// Manage named volumes.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the named volumes that this Wharf made
    Ls,
    /// Remove volumes with their data; volumes in use stay
    Rm {
        /// Names
        #[arg(required = true)]
        volumes: Vec<String>,
    },
}

/// Runs the command.
pub(crate) async fn run(context: &Context, command: &Command) -> Result<u8, Failure> {
    let backend = context.backend(&[])?;
    match command {
        Command::Ls => {
            let all = backend.volumes().await?;
            if context.out.json {
                context.out.value(&all)?;
            } else {
                let row = |volume: &VolumeView| {
                    vec![volume.name.clone(), volume.workspace_id.clone(), ago(volume.created_at)]
                };
                const COLUMNS: [Column; 3] =
                    [column("NAME").cut(20), column("WORKSPACE").cut(12).optional(1), column("CREATED").optional(2)];
                context.out.table(&COLUMNS, all.iter().map(row).collect())?;
            }
            Ok(0)
        }
        Command::Rm { volumes } => {
            let mut several = Several::new(&context.out);
            for name in volumes {
                match backend.remove_volume(name).await {
                    Ok(()) => several.line(format!("{name} removed")),
                    Err(failure) => several.failed(&failure.into()),
                }
            }
            several.end()
        }
    }
}
