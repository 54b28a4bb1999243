//! Standard output and standard error. No other file of the commands uses them directly (`tests/repo.rs` checks it):
//! all others print a [`Printable`]. The two raw functions are for bytes that Wharf must not change: a workspace's own
//! stream, passed on as by `docker`, and the sequences that draw the screen of `wharf top`.

use std::io::{IsTerminal, Result, Stderr, Stdout, Write};

use crate::printable::Printable;

/// Returns whether standard output is a terminal.
pub(crate) fn is_out() -> bool {
    std::io::stdout().is_terminal()
}

/// Returns whether standard error is a terminal.
pub(crate) fn is_err() -> bool {
    std::io::stderr().is_terminal()
}

/// Returns the width of the terminal in columns, if standard output is one.
pub(crate) fn width() -> Option<usize> {
    is_out().then(columns)
}

/// Returns the width of the terminal in columns, if standard error is one.
pub(crate) fn width_of_err() -> Option<usize> {
    is_err().then(columns)
}

/// Returns the width of the terminal: 80 columns where it does not tell, and never so few that nothing fits.
fn columns() -> usize {
    let told = crossterm::terminal::size().map(|(columns, _)| usize::from(columns)).unwrap_or_default();
    let given = || std::env::var("COLUMNS").ok()?.parse().ok();
    let columns = Some(told).filter(|columns| *columns > 0).or_else(given);
    columns.unwrap_or(80).max(20)
}

/// Prints a line.
pub(crate) fn print(line: &Printable) -> Result<()> {
    writeln!(std::io::stdout().lock(), "{line}")
}

/// Prints several lines with one write; standard output would otherwise write them line by line.
pub(crate) fn print_all(lines: impl IntoIterator<Item = Printable>) -> Result<()> {
    let mut text = String::new();
    for line in lines {
        text.push_str(line.as_str());
        text.push('\n');
    }
    std::io::stdout().lock().write_all(text.as_bytes())
}

/// Prints JSON from `printable`, followed by a line break.
pub(crate) fn print_json(json: &str) -> Result<()> {
    writeln!(std::io::stdout().lock(), "{json}")
}

/// Prints a fixed sequence for the terminal, such as the sequence that clears it.
pub(crate) fn control(sequence: &'static str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(sequence.as_bytes())?;
    out.flush()
}

/// Writes a line to standard error. A closed reader is no reason to fail, or to leave work half done.
pub(crate) fn say(line: &Printable) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Writes JSON from `printable` to standard error in the same way.
pub(crate) fn say_json(json: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{json}");
}

/// Writes a fixed text to standard error; works in raw mode too.
pub(crate) fn say_raw(text: &'static str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Returns standard error as the place of progress.
pub(crate) fn draw_target() -> indicatif::ProgressDrawTarget {
    indicatif::ProgressDrawTarget::stderr()
}

/// Returns standard output for bytes that must stay unchanged.
pub(crate) fn raw_out() -> Stdout {
    std::io::stdout()
}

/// Returns standard error for bytes that must stay unchanged.
pub(crate) fn raw_err() -> Stderr {
    std::io::stderr()
}
