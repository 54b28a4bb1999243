//! `wharf stats`

use std::io::IsTerminal;

use super::output::bytes;
use super::{Context, Failure};
use crate::lifecycle::StatsView;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Id or name [default: all that run]
    workspace: Option<String>,
    /// Prints one value and ends, as it does when the output is no terminal
    #[arg(long)]
    no_stream: bool,
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: &Args) -> Result<u8, Failure> {
    let lifecycle = context.lifecycle().await?;
    let id = match &args.workspace {
        Some(name) => Some(context.find(&lifecycle, Some(name)).await?),
        None => None,
    };
    let live = !args.no_stream && !context.out.json && std::io::stdout().is_terminal();
    let mut stop = lifecycle.stopper().subscribe();
    let mut drawn = 0;
    loop {
        let all = tokio::select! {
            all = lifecycle.stats(id.as_ref()) => all?,
            _ = stop.wait_for(|stop| *stop) => return Ok(130),
        };
        if context.out.json {
            context.out.value(&all)?;
            return Ok(0);
        }
        if drawn > 0 {
            // Up to the first line of the last table, and away with it.
            context.out.bytes(format!("\x1b[{drawn}A\x1b[J").as_bytes())?;
        }
        let rows: Vec<_> = all.iter().map(row).collect();
        drawn = rows.len() + 1;
        context.out.table(&["ID", "CPU %", "MEMORY", "LIMIT", "NET RX", "NET TX", "READ", "WRITTEN", "PIDS"], rows)?;
        if !live {
            return Ok(0);
        }
    }
}

fn row(stats: &StatsView) -> Vec<String> {
    vec![
        stats.id.to_string(),
        stats.cpu_percent.map_or_else(|| "-".into(), |percent| format!("{percent:.1}")),
        bytes(stats.memory_used),
        bytes(stats.memory_limit),
        bytes(stats.network_rx),
        bytes(stats.network_tx),
        bytes(stats.block_read),
        bytes(stats.block_write),
        stats.pids.map_or_else(|| "-".into(), |pids| pids.to_string()),
    ]
}
