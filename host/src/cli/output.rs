//! How results are printed: text for people, JSON for programs, and errors in both.

use std::io::{IsTerminal, Write};

use serde::Serialize;

use super::Failure;
pub(crate) use crate::config::ago;
use crate::hooks::record::{StepMode, Waiver};
use crate::lifecycle::TrailStep;

/// Where and how to print.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    pub(crate) json: bool,
    backtrace: bool,
    color: bool,
}

impl Output {
    pub(crate) fn new(json: bool, backtrace: bool) -> Self {
        let color = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { json, backtrace, color }
    }

    /// Prints text with a line end.
    pub(crate) fn line(&self, text: impl AsRef<str>) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", text.as_ref())
    }

    /// Prints bytes as they are.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()
    }

    /// Prints a value as JSON on one line, or indented when a person looks.
    pub(crate) fn value<T: Serialize>(&self, value: &T) -> std::io::Result<()> {
        let text = if std::io::stdout().is_terminal() {
            serde_json::to_string_pretty(value)
        } else {
            serde_json::to_string(value)
        };
        self.line(text.map_err(std::io::Error::other)?)
    }

    /// Prints a table with a head and no frame; the cells have no control characters.
    pub(crate) fn table(&self, head: &[&str], rows: Vec<Vec<String>>) -> std::io::Result<()> {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING).set_header(head);
        table.add_rows(rows.iter().map(|row| row.iter().map(|cell| tame(cell))));
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        // Standard output is written line by line otherwise.
        let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
        self.line(lines.join("\n"))
    }

    /// Emphasises a text on a terminal.
    pub(crate) fn bold(&self, text: &str) -> String {
        if self.color { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Marks a verdict with a colour on a terminal.
    fn verdict(&self, word: &str) -> String {
        let padded = format!("{word:<7}");
        if !self.color {
            return padded;
        }
        let color = match word {
            "deny" | "error" => 31,
            "adjust" | "act" => 32,
            _ => 90,
        };
        format!("\x1b[{color}m{padded}\x1b[0m")
    }

    /// The lines of a trail: one per policy, and what it logged.
    pub(crate) fn trail(&self, steps: &[TrailStep]) -> Vec<String> {
        let mut lines = Vec::new();
        let width = |of: fn(&TrailStep) -> usize| steps.iter().map(of).max().unwrap_or(0);
        let (hook, name) = (width(|step| step.hook.as_str().len()), width(|step| step.policy.len()));
        for step in steps {
            let time = if step.microseconds < 10_000 {
                format!("{} µs", step.microseconds)
            } else {
                format!("{} ms", step.microseconds / 1_000)
            };
            let mut what = step.fields.join(", ");
            if let Some(detail) = &step.detail {
                what = if what.is_empty() { detail.clone() } else { format!("{what}: {detail}") };
            }
            what = tame(&what);
            if step.mode != StepMode::Enforce {
                what = format!("({}) {what}", step.mode.as_str());
            }
            let line = format!(
                "{:<hook$}  {:<name$}  {:<6}  {} {:>8}  {what}",
                step.hook.as_str(),
                step.policy,
                step.kind.as_str(),
                self.verdict(&step.verdict),
                time,
            );
            lines.push(line.trim_end().to_owned());
            lines.extend(step.waivers.iter().map(|waiver| {
                let Waiver { field, value, until, reason } = waiver;
                format!("{:hook$}  waiver of {}: {field} = {value} until {until} ({reason})", "", step.policy)
            }));
            lines.extend(step.logs.iter().map(|log| format!("{:hook$}  {}", "", tame(log))));
        }
        lines
    }

    /// Says something beside the result, on stderr; to programs as an object.
    pub(crate) fn notice(&self, text: &str) {
        if self.json {
            say(serde_json::json!({ "notice": text }));
        } else {
            say(format_args!("wharf: {}", tame(text)));
        }
    }

    /// Prints why a command failed, on stderr.
    pub(crate) fn failure(&self, failure: &Failure) {
        if failure.message.is_empty() {
            return;
        }
        let detail = failure.detail.as_ref().filter(|(_, shown)| *shown || self.backtrace).map(|(text, _)| text);
        if self.json {
            #[derive(Serialize)]
            struct Body<'a> {
                code: &'a str,
                message: &'a str,
                remedy: &'a str,
                #[serde(skip_serializing_if = "Option::is_none")]
                detail: Option<&'a String>,
                #[serde(skip_serializing_if = "<[_]>::is_empty")]
                trail: &'a [TrailStep],
            }
            let body = Body {
                code: &failure.code,
                message: &failure.message,
                remedy: &failure.remedy,
                detail,
                trail: &failure.trail,
            };
            say(serde_json::json!({ "error": body }));
            return;
        }
        for line in self.trail(&failure.trail) {
            say(format_args!("  {line}"));
        }
        say(format_args!("wharf: {}", tame(&failure.message)));
        if let Some(detail) = detail {
            say(tame(detail));
        }
        if !failure.remedy.is_empty() {
            say(format_args!("  what to do: {}", tame(&failure.remedy)));
        }
    }
}

/// Writes a line to stderr. That nobody reads it is no reason to fail, and even less to leave work half done.
pub(crate) fn say(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// What is said of several things, one after the other. One that fails is reported and does not keep the others from
/// their turn; neither does a reader that has gone.
pub(crate) struct Several<'a> {
    out: &'a Output,
    exit: u8,
    printed: std::io::Result<()>,
}

impl<'a> Several<'a> {
    pub(crate) fn new(out: &'a Output) -> Self {
        Self { out, exit: 0, printed: Ok(()) }
    }

    /// Prints what `print` does, unless printing has failed before.
    pub(crate) fn print(&mut self, print: impl FnOnce(&Output) -> std::io::Result<()>) {
        if self.printed.is_ok() {
            self.printed = print(self.out);
        }
    }

    /// Prints a line for people; programs get none.
    pub(crate) fn line(&mut self, text: impl AsRef<str>) {
        if !self.out.json {
            self.print(|out| out.line(text));
        }
    }

    /// Reports a failure.
    pub(crate) fn failed(&mut self, failure: &Failure) {
        self.out.failure(failure);
        self.exit = if self.exit == 0 { failure.exit } else { self.exit };
    }

    /// The exit code: that of the first failure.
    pub(crate) fn end(self) -> Result<u8, Failure> {
        if self.exit == 0 {
            self.printed?;
        }
        Ok(self.exit)
    }
}

/// A text that others chose, without control characters: those of a workspace must not reach the terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// The same of a text that may have several lines.
pub(crate) fn tame(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

/// Bytes as people read them.
pub(crate) fn bytes(count: Option<u64>) -> String {
    count.map_or_else(|| "-".into(), |count| bytesize::ByteSize(count).to_string())
}

/// Heights of a bar in eighths.
const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Values as one line of bars, at most `width` of them, scaled to the highest; what is not known is a blank.
pub(crate) fn spark(values: &[Option<f64>], width: usize) -> String {
    let per_bar = values.len().div_ceil(width.max(1)).max(1);
    let highest = values.iter().flatten().copied().fold(0.0, f64::max);
    let bar = |several: &[Option<f64>]| {
        let value = several.iter().flatten().copied().reduce(f64::max)?;
        // What is known shows, even when it is zero.
        let height = if highest > 0.0 { (value / highest * 8.0).ceil().clamp(1.0, 8.0) } else { 1.0 };
        BARS.get(height as usize).copied()
    };
    values.chunks(per_bar).map(|several| bar(several).unwrap_or(' ')).collect()
}

/// Values as a chart of bars from the bottom up, the newest at the right; `top` is the full height.
pub(crate) fn chart(values: &[Option<f64>], width: usize, height: usize, top: f64) -> Vec<String> {
    let shown = values.get(values.len().saturating_sub(width)..).unwrap_or_default();
    let line = |row: usize| {
        let below = (height - 1 - row) as f64 * 8.0;
        let bar = |value: &Option<f64>| {
            let Some(value) = value else { return ' ' };
            let eighths = if top > 0.0 { (value / top * height as f64 * 8.0).max(1.0) } else { 1.0 };
            BARS.get((eighths - below).clamp(0.0, 8.0).round() as usize).copied().unwrap_or(' ')
        };
        let bars: String = shown.iter().map(bar).collect();
        format!("{bars:>width$}")
    };
    (0..height).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_reaches_the_terminal_without_control_characters() {
        let bad = "a\x1b[2Jb\u{9b}1m\r\n\tc\u{7f}";
        assert_eq!((tame(bad).as_str(), printable(bad).as_str()), ("a[2Jb1m\n\tc", "a[2Jb1mc"));
    }

    #[test]
    fn a_line_of_bars_has_blanks_for_what_is_not_known() {
        assert_eq!(spark(&[Some(0.0), None, Some(4.0), Some(8.0)], 10), "▁ ▄█");
        assert_eq!(spark(&[Some(0.0), Some(0.0)], 10), "▁▁");
        assert_eq!(spark(&[], 10), "");
        // Of several values in one place the highest shows.
        assert_eq!(spark(&[Some(1.0), Some(8.0), None, Some(4.0)], 2), "█▄");
    }

    #[test]
    fn a_chart_is_filled_from_the_bottom_and_the_newest_is_at_the_right() {
        assert_eq!(chart(&[Some(50.0), None, Some(100.0)], 4, 2, 100.0), ["   █", " █ █"]);
        assert_eq!(chart(&[Some(25.0), Some(75.0)], 1, 2, 100.0), ["▄", "█"]);
        assert_eq!(chart(&[Some(0.0)], 2, 1, 0.0), [" ▁"]);
        assert_eq!(chart(&[], 2, 1, 1.0), ["  "]);
    }
}
