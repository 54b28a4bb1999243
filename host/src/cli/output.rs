//! The output of results: text for people, JSON for programs, and errors in both forms.

use serde::Serialize;

use super::{Failure, terminal};
pub(crate) use crate::config::{ago, until};
use crate::hooks::VerdictKind;
use crate::hooks::record::{StepMode, Waiver};
use crate::printable::{Printable, json, pretty_json};
use crate::wire::TrailStep;

mod table;
mod text;

pub(crate) use table::{Cell, Column, column};
#[cfg(test)]
pub(crate) use text::width;

/// The meaning of a text, which a terminal shows as a style or a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// A title.
    Strong,
    /// In order: running, healthy, allowed.
    Good,
    /// To be noticed: a warning, starting, degraded.
    Warn,
    /// Out of order: crashed, unhealthy, denied.
    Bad,
    /// Of little interest: stopped, passed.
    Dim,
}

impl Look {
    /// Returns the number of its SGR sequence.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Strong => 1,
            Self::Good => 32,
            Self::Warn => 33,
            Self::Bad => 31,
            Self::Dim => 90,
        }
    }
}

/// The columns of a trail: hook, policy, kind, verdict, time and effect.
const TRAIL: [Column; 6] = [
    column(""),
    column("").cut(12),
    column("").padded(6).optional(2),
    column("").padded(7),
    column("").padded(7).right().optional(1),
    column("").wrapped(30),
];

/// The form of the output.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    pub(crate) json: bool,
    backtrace: bool,
    color: bool,
}

impl Output {
    pub(crate) fn new(json: bool, backtrace: bool) -> Self {
        let color = terminal::is_out() && std::env::var_os("NO_COLOR").is_none();
        Self { json, backtrace, color }
    }

    /// Prints one line.
    pub(crate) fn line(&self, text: impl Into<Printable>) -> std::io::Result<()> {
        terminal::print(&text.into())
    }

    /// Prints a text that Wharf laid out in lines.
    pub(crate) fn lines(&self, text: &str) -> std::io::Result<()> {
        terminal::print_all(Printable::lines(text))
    }

    /// Prints the detail of an error.
    pub(crate) fn detail(&self, text: &str, marked: bool) -> std::io::Result<()> {
        terminal::print_all(detail_lines(text, marked))
    }

    /// Clears the terminal, to draw on it from the top.
    pub(crate) fn clear(&self) -> std::io::Result<()> {
        terminal::control("\x1b[H\x1b[2J")
    }

    /// Prints a value as JSON: indented on a terminal, otherwise on one line.
    pub(crate) fn value<T: Serialize>(&self, value: &T) -> std::io::Result<()> {
        if terminal::is_out() {
            return self.indented(value);
        }
        self.json_line(value)
    }

    /// Prints a value as JSON on one line, on a terminal too.
    pub(crate) fn json_line<T: Serialize + ?Sized>(&self, value: &T) -> std::io::Result<()> {
        terminal::print_json(&json(value).map_err(std::io::Error::other)?)
    }

    /// Prints a value as indented JSON.
    pub(crate) fn indented<T: Serialize>(&self, value: &T) -> std::io::Result<()> {
        terminal::print_json(&pretty_json(value).map_err(std::io::Error::other)?)
    }

    /// Prints a table with a head and no frame: fitted to a terminal, in full elsewhere.
    pub(crate) fn table<C: Into<Cell>>(&self, columns: &[Column], rows: Vec<Vec<C>>) -> std::io::Result<()> {
        let rows: Vec<Vec<Cell>> = rows.into_iter().map(|row| row.into_iter().map(Into::into).collect()).collect();
        terminal::print_all(table::lines(columns, &rows, terminal::width(), self.color))
    }

    /// Prints rows without a head after a prefix.
    pub(crate) fn rows(&self, prefix: &str, columns: &[Column], rows: Vec<Vec<Cell>>) -> std::io::Result<()> {
        let room = terminal::width().map(|room| room.saturating_sub(text::width(prefix)));
        let lines = table::rows(columns, &rows, room, self.color);
        terminal::print_all(lines.into_iter().map(|line| (Printable::from(prefix) + line).trimmed()))
    }

    /// Prints a text after a prefix. On a terminal, the text is wrapped and stays to the right of the prefix.
    pub(crate) fn wrapped(&self, prefix: &str, text: impl Into<Printable>) -> std::io::Result<()> {
        terminal::print_all(wrapped(prefix, &text.into(), terminal::width()))
    }

    /// Prints an emphasised title and the text that follows it, wrapped on a terminal.
    pub(crate) fn titled(&self, title: &str, text: impl Into<Printable>) -> std::io::Result<()> {
        let title = Printable::from(title);
        self.marked(title.as_str(), Look::Strong, "", title.clone() + text.into().as_str())
    }

    /// Prints a text after a prefix as [`Self::wrapped`] does; the line begins with a word that has a look.
    pub(crate) fn marked(
        &self,
        word: &str,
        look: Look,
        prefix: &str,
        text: impl Into<Printable>,
    ) -> std::io::Result<()> {
        let mut lines = wrapped(prefix, &text.into(), terminal::width()).into_iter();
        let Some(first) = lines.next() else { return Ok(()) };
        let first = match first.as_str().strip_prefix(word) {
            Some(rest) => self.look(word, look) + rest,
            None => first,
        };
        terminal::print_all(std::iter::once(first).chain(lines))
    }

    /// Prints a text of little interest, wrapped on a terminal.
    pub(crate) fn faint(&self, text: impl Into<Printable>) -> std::io::Result<()> {
        let lines = wrapped("", &text.into(), terminal::width());
        terminal::print_all(lines.into_iter().map(|line| self.look(line, Look::Dim)))
    }

    /// Emphasises a text on a terminal.
    pub(crate) fn bold(&self, text: impl Into<Printable>) -> Printable {
        self.look(text, Look::Strong)
    }

    /// Gives a text its style or colour on a terminal.
    pub(crate) fn look(&self, text: impl Into<Printable>, look: Look) -> Printable {
        let text = text.into();
        if self.color { text.styled(look.number()) } else { text }
    }

    /// Returns the lines of a trail on standard output: one per policy, followed by the policy's log lines.
    pub(crate) fn trail(&self, steps: &[TrailStep]) -> Vec<Printable> {
        self.trail_in(steps, terminal::width())
    }

    /// Returns the lines of a trail, which the caller indents by two columns.
    fn trail_in(&self, steps: &[TrailStep], room: Option<usize>) -> Vec<Printable> {
        let room = room.map(|room| room.saturating_sub(2));
        let rows: Vec<Vec<Cell>> = steps.iter().map(trail_row).collect();
        let hook = steps.iter().map(|step| step.hook.as_str().len()).max().unwrap_or(0);
        let indent = " ".repeat(hook + 2);
        let mut lines = Vec::new();
        // Each step is laid out with the widths of all, because its log lines follow it.
        for (at, step) in steps.iter().enumerate() {
            lines.extend(table::row(&TRAIL, &rows, at, room, self.color));
            for Waiver { field, value, until, reason } in &step.waivers {
                let text = format!("waiver of {}: {field} = {value} until {until} ({reason})", step.policy);
                lines.extend(wrapped(&indent, &text.into(), room));
            }
            lines.extend(step.logs.iter().flat_map(|log| wrapped(&indent, &log.into(), room)));
        }
        lines
    }

    /// Prints a notice beside the result, on stderr; for programs as an object.
    pub(crate) fn notice(&self, text: &str) {
        if self.json {
            say_json(&serde_json::json!({ "notice": text }));
        } else {
            say(format_args!("wharf: {text}"));
        }
    }

    /// Prints the failure of a command, on stderr.
    pub(crate) fn failure(&self, failure: &Failure) {
        if failure.message.is_empty() {
            return;
        }
        let detail = failure.detail.as_ref().filter(|(_, shown)| *shown || self.backtrace);
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
                detail: detail.map(|(text, _)| text),
                trail: &failure.trail,
            };
            say_json(&serde_json::json!({ "error": body }));
            return;
        }
        for line in self.trail_in(&failure.trail, terminal::width_of_err()) {
            say(Printable::from("  ") + line);
        }
        for line in message_lines(&failure.message) {
            say(line);
        }
        for line in detail.into_iter().flat_map(|(text, marked)| detail_lines(text, *marked)) {
            say(line);
        }
        if !failure.remedy.is_empty() {
            say(format_args!("  remedy: {}", failure.remedy));
        }
    }
}

/// Returns the row of a step in a trail.
fn trail_row(step: &TrailStep) -> Vec<Cell> {
    let time = if step.microseconds < 10_000 {
        format!("{} µs", step.microseconds)
    } else {
        format!("{} ms", step.microseconds / 1_000)
    };
    let mut what = step.fields.join(", ");
    if let Some(detail) = &step.detail {
        what = if what.is_empty() { detail.clone() } else { format!("{what}: {detail}") };
    }
    if step.mode != StepMode::Enforce {
        what = format!("({}) {what}", step.mode.as_str());
    }
    let look = match step.verdict {
        VerdictKind::Deny | VerdictKind::Error => Look::Bad,
        VerdictKind::Adjust | VerdictKind::Act => Look::Good,
        VerdictKind::Pass | VerdictKind::Sweep => Look::Dim,
    };
    vec![
        step.hook.as_str().into(),
        step.policy.as_str().into(),
        step.kind.as_str().into(),
        Cell::from(step.verdict.as_str()).look(look),
        time.into(),
        what.into(),
    ]
}

/// Returns the lines of a text after a prefix, wrapped to the right of it in a terminal of `room` columns.
fn wrapped(prefix: &str, text: &Printable, room: Option<usize>) -> Vec<Printable> {
    let whole = Printable::from(prefix) + text.as_str();
    let Some(room) = room else { return vec![whole] };
    let indent = text::width(prefix);
    // Beside a wide prefix, a wrapped text would be a thread.
    let Some(beside) = room.checked_sub(indent).filter(|beside| *beside >= 20) else {
        return text::wrap(whole.as_str(), room).into_iter().map(Printable::from).collect();
    };
    let before = |at: usize| if at == 0 { prefix.to_owned() } else { " ".repeat(indent) };
    let lines = text::wrap(text.as_str(), beside).into_iter().enumerate();
    lines.map(|(at, line)| (Printable::from(before(at)) + line).trimmed()).collect()
}

/// Writes a line to standard error.
pub(crate) fn say(text: impl Into<Printable>) {
    terminal::say(&text.into());
}

/// Writes an object to standard error.
fn say_json(value: &serde_json::Value) {
    // Serialization of a value cannot fail.
    terminal::say_json(&json(value).unwrap_or_default());
}

/// Formats a message on one line. The exception is an invalid pattern of the caller: the lines below it mark the
/// position, and are indented.
fn message_lines(message: &str) -> Vec<Printable> {
    if !(message.starts_with("the pattern '") && message.contains("regex parse error:\n")) {
        return vec![Printable::from("wharf: ") + message];
    }
    let set_in = |(at, line): (usize, Printable)| match (at, line.as_str().starts_with("    ")) {
        (0, _) => Printable::from("wharf: ") + line,
        (_, true) => line,
        _ => Printable::from("    ") + line,
    };
    Printable::lines(message).enumerate().map(set_in).collect()
}

/// Returns the lines of a detail. A marked line of source code already has a layout that nothing can imitate. A
/// backtrace contains names that a plugin chose, so it is indented: none of its lines can pass as a line of Wharf.
fn detail_lines(text: &str, marked: bool) -> impl Iterator<Item = Printable> {
    Printable::lines(text).map(move |line| if marked { line } else { Printable::from("  ") + line })
}

/// The output for several objects in turn. A failure is reported and does not stop the others; neither does a closed
/// reader.
pub(crate) struct Several<'a> {
    out: &'a Output,
    exit: u8,
    printed: std::io::Result<()>,
}

impl<'a> Several<'a> {
    pub(crate) fn new(out: &'a Output) -> Self {
        Self { out, exit: 0, printed: Ok(()) }
    }

    /// Runs `print`, unless printing has failed before.
    pub(crate) fn print(&mut self, print: impl FnOnce(&Output) -> std::io::Result<()>) {
        if self.printed.is_ok() {
            self.printed = print(self.out);
        }
    }

    /// Prints a line for people, not for programs.
    pub(crate) fn line(&mut self, text: impl Into<Printable>) {
        if !self.out.json {
            self.print(|out| out.line(text));
        }
    }

    /// Reports a failure.
    pub(crate) fn failed(&mut self, failure: &Failure) {
        self.out.failure(failure);
        self.exit = if self.exit == 0 { failure.exit } else { self.exit };
    }

    /// Returns the exit code of the first failure.
    pub(crate) fn end(self) -> Result<u8, Failure> {
        if self.exit == 0 {
            self.printed?;
        }
        Ok(self.exit)
    }
}

/// Formats a point in time for a list that goes on: the local time of day, with the date if it is not today's.
pub(crate) fn clock(time: jiff::Timestamp) -> String {
    let (time, today) = (time.to_zoned(jiff::tz::TimeZone::system()), jiff::Zoned::now().date());
    time.strftime(if time.date() == today { "%H:%M:%S" } else { "%m-%d %H:%M" }).to_string()
}

/// Formats bytes for people.
pub(crate) fn bytes(count: Option<u64>) -> String {
    count.map_or_else(|| "-".into(), |count| bytesize::ByteSize(count).to_string())
}

/// Formats a count with its noun, such as "1 record", "2 records" or "2 policies".
pub(crate) fn counted<N: Copy + PartialEq + From<u8> + std::fmt::Display>(count: N, noun: &str) -> String {
    match noun.strip_suffix('y') {
        _ if count == N::from(1) => format!("{count} {noun}"),
        Some(stem) => format!("{count} {stem}ies"),
        None => format!("{count} {noun}s"),
    }
}

/// Formats a number of times: "once" or "2 times".
pub(crate) fn times<N: Copy + PartialEq + From<u8> + std::fmt::Display>(count: N) -> String {
    if count == N::from(1) { "once".to_owned() } else { format!("{count} times") }
}

/// Heights of a bar in eighths.
const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Draws values as one line of bars, at most `width` of them, scaled to the highest. Unknown values are blank.
pub(crate) fn spark(values: &[Option<f64>], width: usize) -> String {
    let per_bar = values.len().div_ceil(width.max(1)).max(1);
    let highest = values.iter().flatten().copied().fold(0.0, f64::max);
    let bar = |several: &[Option<f64>]| {
        let value = several.iter().flatten().copied().reduce(f64::max)?;
        // A known value is visible even when it is zero.
        let height = if highest > 0.0 { (value / highest * 8.0).ceil().clamp(1.0, 8.0) } else { 1.0 };
        BARS.get(height as usize).copied()
    };
    values.chunks(per_bar).map(|several| bar(several).unwrap_or(' ')).collect()
}

/// Draws values as a chart of bars from the bottom up, the newest at the right; `top` is the full height.
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
    fn a_line_of_a_backtrace_cannot_pass_as_one_of_wharf() {
        let lines: Vec<_> =
            detail_lines("1 | x\n  | ^\rwharf: ok\nwharf: done\x1b[1A", false).map(|line| line.to_string()).collect();
        assert_eq!(lines, ["  1 | x", "    | ^wharf: ok", "  wharf: done[1A"]);
    }

    #[test]
    fn a_trail_has_no_line_of_a_policy() {
        let step: TrailStep = serde_json::from_value(serde_json::json!({
            "hook": "pre-create", "policy": "p\nq", "kind": "script", "verdict": "deny", "fields": [], "microseconds": 1,
            "detail": "a\u{202e}b\x1b[2J\nwharf: all is well", "logs": ["l\u{9b}\n"], "mode": "enforce", "waivers": [],
        }))
        .unwrap();
        let out = Output { json: false, backtrace: false, color: true };
        let text = out.trail_in(&[step], None).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(text.len(), 2, "{text:?}");
        assert!(
            text[0].contains("\x1b[31mdeny\x1b[0m   ") && text[0].ends_with("ab[2J wharf: all is well"),
            "{text:?}"
        );
    }

    #[test]
    fn a_wrapped_text_stays_beside_its_prefix_where_there_is_room() {
        let shown = |prefix: &str, room| {
            let lines = wrapped(prefix, &"one two three four five six".into(), room);
            lines.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(shown("note: ", Some(26)), ["note: one two three four", "      five six"]);
        assert_eq!(shown("note: ", Some(22)), ["note: one two three", "four five six"]);
        assert_eq!(shown("note: ", None), ["note: one two three four five six"]);
    }

    #[test]
    fn a_line_of_bars_has_blanks_for_what_is_not_known() {
        assert_eq!(spark(&[Some(0.0), None, Some(4.0), Some(8.0)], 10), "▁ ▄█");
        assert_eq!(spark(&[Some(0.0), Some(0.0)], 10), "▁▁");
        assert_eq!(spark(&[], 10), "");
        // Of several values in one bar, the highest is shown.
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
