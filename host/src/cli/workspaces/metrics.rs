//! `wharf metrics`

use crate::cli::output::{Column, bytes, column, spark};
use crate::cli::{Context, Failure, terminal};
use crate::config::Span;
use crate::records::{History, HistoryPoint, HistoryRow};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Id or name [default: the workspace of this folder]
    workspace: Option<String>,
    /// From a time (2026-01-31T12:00:00Z) or so long ago (2h, 7d) on
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = crate::cli::instant::instant)]
    since: jiff::Timestamp,
    /// Up to a time, or so long ago [default: now]
    #[arg(long, value_name = "TIME", value_parser = crate::cli::instant::instant)]
    until: Option<jiff::Timestamp>,
    /// Length of a row, e.g. 5m [default: about 60 rows]
    #[arg(long, value_name = "DURATION")]
    step: Option<Span>,
}

const COLUMNS: [Column; 9] = [
    column("TIME"),
    column("CPU %").right(),
    column("MEMORY").right(),
    column("LIMIT").right().optional(4),
    column("NET RX/s").right().optional(2),
    column("NET TX/s").right().optional(2),
    column("READ/s").right().optional(3),
    column("WRITTEN/s").right().optional(3),
    column("PIDS").right().optional(1),
];

/// Runs the command. It needs no engine.
pub(crate) async fn run(context: &Context, args: &Args) -> Result<u8, Failure> {
    let target = context.target(args.workspace.as_deref())?;
    let until = args.until.unwrap_or_else(jiff::Timestamp::now);
    let step = args.step.map(|step| i64::try_from(step.0.as_millis()).unwrap_or(i64::MAX));
    let (id, history) = context.backend(&[])?.history(&target, (args.since, until), step).await?;
    if context.out.json && history.points.is_empty() {
        context.out.value::<[HistoryRow; 0]>(&[])?;
        return Ok(0);
    }
    if context.out.json {
        context.out.value(&HistoryRow::of(&id, history.points))?;
        return Ok(0);
    }
    if history.points.is_empty() {
        let interval = context.app.loaded.config.metrics.interval;
        context.out.notice(&format!(
            "no data about {} in that period: 'wharf serve' collects it every {interval} while it runs; 'wharf stats' \
             shows the current usage",
            id
        ));
        return Ok(0);
    }
    if terminal::is_out() {
        // The name stands before the bars, the highest value after them.
        let width = terminal::width().map_or(72, |columns| columns.saturating_sub(32).clamp(10, 120));
        for line in sparks(&history, width) {
            context.out.line(line)?;
        }
        context.out.line("")?;
    }
    context.out.table(&COLUMNS, history.points.iter().map(row).collect())?;
    Ok(0)
}

fn rate(value: Option<f64>) -> String {
    bytes(value.map(|value| value.round() as u64))
}

fn row(point: &HistoryPoint) -> Vec<String> {
    vec![
        point.time.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        point.cpu_percent.map_or_else(|| "-".into(), |percent| format!("{percent:.1}")),
        bytes(point.memory_used),
        bytes(point.memory_limit),
        rate(point.network_rx_per_second),
        rate(point.network_tx_per_second),
        rate(point.block_read_per_second),
        rate(point.block_write_per_second),
        point.pids.map_or_else(|| "-".into(), |pids| pids.to_string()),
    ]
}

/// Returns one line per quantity, from the first step to the last.
fn sparks(history: &History, width: usize) -> Vec<String> {
    type Get = fn(&HistoryPoint) -> Option<f64>;
    type Show = fn(f64) -> String;
    let size: Show = |value| bytes(Some(value.round() as u64));
    let per_second: Show = |value| format!("{}/s", bytes(Some(value.round() as u64)));
    let quantities: [(&str, Get, Show); 7] = [
        ("CPU", |p| p.cpu_percent, |value| format!("{value:.1} %")),
        ("memory", |p| p.memory_used.map(|bytes| bytes as f64), size),
        ("net rx", |p| p.network_rx_per_second, per_second),
        ("net tx", |p| p.network_tx_per_second, per_second),
        ("read", |p| p.block_read_per_second, per_second),
        ("written", |p| p.block_write_per_second, per_second),
        ("pids", |p| p.pids.map(|pids| pids as f64), |value| format!("{value:.0}")),
    ];
    let line = |(name, get, show): (&str, Get, Show)| {
        let mut values = vec![None; history.steps];
        for point in &history.points {
            let index = (point.time.as_millisecond() - history.since_ms) / history.step_ms;
            if let Some(place) = usize::try_from(index).ok().and_then(|index| values.get_mut(index)) {
                *place = get(point);
            }
        }
        let highest = values.iter().flatten().copied().fold(f64::NEG_INFINITY, f64::max);
        let highest = if highest.is_finite() { format!("up to {}", show(highest)) } else { "no data".into() };
        format!("{name:<8} {}  {highest}", spark(&values, width))
    };
    quantities.into_iter().map(line).collect()
}
