//! `wharf stats`

use std::time::Duration;

use crate::cli::output::{Column, bytes, column};
use crate::cli::{Context, Failure, terminal};
use crate::lifecycle::StatsView;
use crate::workspace::State;

/// The time between two refreshes of a live table.
const REFRESH: Duration = Duration::from_secs(1);
/// The time from the first table, which has no CPU figures, to the second.
const FIRST: Duration = Duration::from_millis(200);

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Ids or names [default: all running workspaces]
    workspaces: Vec<String>,
    /// Print one value and exit, as when the output is no terminal
    #[arg(long)]
    no_stream: bool,
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: &Args) -> Result<u8, Failure> {
    let backend = context.backend(&[])?;
    let mut stop = backend.stopper().await?.subscribe();
    let live = !args.no_stream && !context.out.json && terminal::is_out();
    if !live {
        let all = tokio::select! {
            all = backend.stats(&args.workspaces) => all?,
            _ = stop.wait_for(|stop| *stop) => return Ok(130),
        };
        if context.out.json {
            context.out.value(&all)?;
        } else {
            table(context, &all)?;
        }
        return Ok(0);
    }
    let mut readings = backend.readings(&args.workspaces).await?;
    let mut pause = FIRST;
    loop {
        let all = tokio::select! {
            all = readings.read() => all?,
            _ = stop.wait_for(|stop| *stop) => return Ok(130),
        };
        let running: Vec<_> = all.into_iter().filter(|stats| stats.state == State::Running).collect();
        // Only as many rows as fit: lines that scrolled away cannot be overwritten.
        let room = crossterm::terminal::size().map_or(24, |(_, rows)| usize::from(rows)).saturating_sub(2).max(1);
        let shown = running.get(..room.min(running.len())).unwrap_or_default();
        // Clears the screen from its top left corner, including leftovers below the table.
        context.out.clear()?;
        table(context, shown)?;
        if shown.len() < running.len() {
            context.out.line(format!("and {} more; 'wharf top' scrolls", running.len() - shown.len()))?;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stop.wait_for(|stop| *stop) => return Ok(130),
        }
        pause = REFRESH;
    }
}

fn table(context: &Context, all: &[StatsView]) -> std::io::Result<()> {
    const COLUMNS: [Column; 9] = [
        column("ID").cut(10),
        column("CPU %").right(),
        column("MEMORY").right(),
        column("LIMIT").right().optional(2),
        column("NET RX").right().optional(3),
        column("NET TX").right().optional(3),
        column("READ").right().optional(4),
        column("WRITTEN").right().optional(4),
        column("PIDS").right().optional(1),
    ];
    context.out.table(&COLUMNS, all.iter().map(row).collect())
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
