//! Standard output and standard error. This is the only file of the commands that has them in hand (`tests/repo.rs` sees to
//! it): everything else prints a [`Printable`]. The two raw doors are for bytes that are not Wharf's to change: a workspace's
//! own stream, as `docker` passes it on, and the sequences that draw the screen of `wharf top`.

use std::io::{IsTerminal, Result, Stderr, Stdout, Write};

use crate::printable::Printable;

/// Whether standard output is a terminal.
pub(crate) fn is_out() -> bool {
    std::io::stdout().is_terminal()
}

/// Whether standard error is a terminal.
pub(crate) fn is_err() -> bool {
    std::io::stderr().is_terminal()
}

/// Prints a line.
pub(crate) fn print(line: &Printable) -> Result<()> {
    writeln!(std::io::stdout().lock(), "{line}")
}

/// Prints several lines at once: standard output is written line by line otherwise.
pub(crate) fn print_all(lines: impl IntoIterator<Item = Printable>) -> Result<()> {
    let mut text = String::new();
    for line in lines {
        text.push_str(line.as_str());
        text.push('\n');
    }
    std::io::stdout().lock().write_all(text.as_bytes())
}

/// Prints JSON that `printable` made, with a line end.
pub(crate) fn print_json(json: &str) -> Result<()> {
    writeln!(std::io::stdout().lock(), "{json}")
}

/// Prints a fixed sequence for the terminal, such as one that clears it.
pub(crate) fn control(sequence: &'static str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(sequence.as_bytes())?;
    out.flush()
}

/// Writes a line to standard error. A reader that is gone is no reason to fail, and even less to leave work half done.
pub(crate) fn say(line: &Printable) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// The same with JSON that `printable` made.
pub(crate) fn say_json(json: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{json}");
}

/// Writes a fixed text to standard error, to a terminal in raw mode too.
pub(crate) fn say_raw(text: &'static str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Standard output for bytes that stay as they are.
pub(crate) fn raw_out() -> Stdout {
    std::io::stdout()
}

/// Standard error for bytes that stay as they are.
pub(crate) fn raw_err() -> Stderr {
    std::io::stderr()
}
