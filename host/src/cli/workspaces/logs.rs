//! `wharf logs`

use crate::backend::{LogItem, LogOptions, LogStream, Lost};
use crate::cli::instant::instant;
use crate::cli::{Context, Failure, terminal};
use crate::docker::StdStream;
use crate::lifecycle::{Cursor, Line, LineView, LogContainer, LogQuery};
use crate::printable::{push_line, write_json};

mod printer;
use printer::Printer;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    targets: crate::cli::workspaces::state::Targets,
    /// Continue with new lines until it ends, also after a restart of the engine
    #[arg(short, long)]
    follow: bool,
    /// Only since a time (2026-01-31T12:00:00Z) or for a duration (10m)
    #[arg(long, value_name = "TIME", value_parser = instant)]
    since: Option<jiff::Timestamp>,
    /// Only before a time, or up to so long ago
    #[arg(long, value_name = "TIME", value_parser = instant)]
    until: Option<jiff::Timestamp>,
    /// Only this many lines from the end of each container, or all
    #[arg(short = 'n', long, value_name = "LINES")]
    tail: Option<Tail>,
    /// Print the time of each line
    #[arg(short, long)]
    timestamps: bool,
    /// Only stdout
    #[arg(long, conflicts_with = "stderr")]
    stdout: bool,
    /// Only stderr
    #[arg(long)]
    stderr: bool,
    /// Only lines that match a regular expression
    #[arg(long, value_name = "REGEX")]
    grep: Option<String>,
    /// Ignore the case of letters in the expression
    #[arg(short, long, requires = "grep")]
    ignore_case: bool,
    /// Continue after a line with this cursor from '--json'; once per container
    #[arg(long, value_name = "CURSOR", conflicts_with_all = ["since", "tail"])]
    after: Vec<Cursor>,
}

/// The value of `--tail`: a number, or `all`, as docker takes it.
#[derive(Debug, Clone, Copy)]
struct Tail(Option<u64>);

impl std::str::FromStr for Tail {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self(None)),
            text => {
                text.parse().map(|lines| Self(Some(lines))).map_err(|_| "is neither a number of lines nor 'all'".into())
            }
        }
    }
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: &Args) -> Result<u8, Failure> {
    let backend = context.backend(&[])?;
    let targets = args.targets.of(context, &backend).await?;
    if targets.is_empty() {
        return Ok(0);
    }
    let query = LogQuery {
        follow: args.follow,
        since: args.since,
        until: args.until,
        tail: args.tail.and_then(|tail| tail.0),
        times: args.timestamps || context.out.json,
        only: match (args.stdout, args.stderr) {
            (true, _) => Some(StdStream::Stdout),
            (_, true) => Some(StdStream::Stderr),
            _ => None,
        },
        after: args.after.clone(),
        grep: None,
    };
    let grep = args.grep.clone().map(|pattern| (pattern, args.ignore_case));
    let mut logs = backend.logs(&targets, LogOptions { query, grep }).await?;
    let mut look = Look::new(context, args, logs.containers());
    let mut printer = Printer::new();
    let mut stop = backend.stopper().await?.subscribe();
    let mut stop_flush = stop.clone();
    loop {
        let item = {
            let mut next = std::pin::pin!(logs.next());
            loop {
                let due = printer.due();
                tokio::select! {
                    biased;
                    item = &mut next => break item?,
                    // Only a reader that does not read keeps the printer from accepting more.
                    _ = stop.wait_for(|stop| *stop) => return Ok(130),
                    () = until(due), if due.is_some() => tokio::select! {
                        flushed = printer.flush() => flushed?,
                        _ = stop_flush.wait_for(|stop| *stop) => return Ok(130),
                    },
                }
            }
        };
        let Some(item) = item else { break };
        let print = async {
            match item {
                LogItem::Lines(lines) => look.lines(&mut printer, &logs, &lines).await,
                LogItem::Interrupted(Lost { name, by }, cause) => {
                    printer.flush().await?;
                    context.out.notice(&format!("{name}: {cause}; trying again until {by} responds"));
                    Ok(())
                }
                LogItem::Resumed(Lost { name, by }, lost) => {
                    printer.flush().await?;
                    context.out.notice(&match lost {
                        true => format!("{name}: the log was rotated; lines may be missing here"),
                        false => format!("{name}: {by} responds again; continuing from the last line"),
                    });
                    Ok(())
                }
            }
        };
        tokio::select! {
            printed = print => printed?,
            _ = stop.wait_for(|stop| *stop) => return Ok(130),
        }
    }
    tokio::select! {
        printed = printer.finish() => printed?,
        _ = stop.wait_for(|stop| *stop) => return Ok(130),
    }
    Ok(0)
}

async fn until(due: Option<tokio::time::Instant>) {
    if let Some(due) = due {
        tokio::time::sleep_until(due).await;
    }
}

/// The format of lines.
struct Look {
    json: bool,
    timestamps: bool,
    /// One per container, if there are several.
    prefixes: Vec<String>,
    /// The stream with an incomplete line, when pieces are printed as they arrive.
    open: Option<StdStream>,
}

/// Colours of prefixes, as in Docker's own tools: cyan, yellow, green, magenta, blue, and their bright variants.
const COLORS: [u8; 10] = [36, 33, 32, 35, 34, 96, 93, 92, 95, 94];

impl Look {
    fn new(context: &Context, args: &Args, containers: &[LogContainer]) -> Self {
        let names: Vec<String> = containers.iter().map(|container| container.id.to_string()).collect();
        let width = names.iter().map(String::len).max().unwrap_or(0);
        let color = terminal::is_out() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let prefix = |(name, code): (&String, &u8)| match color {
            true => format!("\x1b[{code}m{name:<width$} |\x1b[0m "),
            false => format!("{name:<width$} | "),
        };
        let prefixes = match names.len() {
            0 | 1 => Vec::new(),
            _ => names.iter().zip(COLORS.iter().cycle()).map(prefix).collect(),
        };
        Self { json: context.out.json, timestamps: args.timestamps, prefixes, open: None }
    }

    async fn lines(&mut self, printer: &mut Printer, logs: &LogStream, lines: &[Line]) -> Result<(), Failure> {
        for line in lines {
            let view = if self.json { logs.view(line) } else { None };
            self.one(printer, line, view.as_ref()).await?;
        }
        Ok(printer.flush_if_due().await?)
    }

    /// Formats a line; `view` is its JSON.
    async fn one(&mut self, printer: &mut Printer, line: &Line, view: Option<&LineView>) -> Result<(), Failure> {
        if self.json {
            let out = printer.to(StdStream::Stdout).await?;
            if let Some(view) = view {
                write_json(out, view).map_err(std::io::Error::other)?;
                out.push(b'\n');
            }
            return Ok(());
        }
        let out = printer.to(line.stream).await?;
        if let Some(prefix) = self.prefixes.get(line.container) {
            out.extend_from_slice(prefix.as_bytes());
        }
        if let (true, Some(time)) = (self.timestamps && self.open != Some(line.stream), line.time) {
            out.extend_from_slice(format!("{time:.9} ").as_bytes());
        }
        match (self.prefixes.is_empty(), line.message.strip_suffix(b"\n")) {
            // A single workspace: its own stream, byte for byte.
            (true, _) => out.extend_from_slice(&line.message),
            (false, None) => push_line(out, &line.message),
            (false, Some(text)) => {
                push_line(out, text);
                out.push(b'\n');
            }
        }
        match (line.is_partial(), self.prefixes.is_empty()) {
            (true, false) => out.push(b'\n'),
            (partial, _) => self.open = partial.then_some(line.stream),
        }
        Ok(())
    }
}
