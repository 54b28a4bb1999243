//! The screen of `wharf top`: a table in the chosen order, and charts of the selected row. It does not use the
//! terminal.

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};

use crate::cli::output::{bytes, chart};
use crate::lifecycle::StatsView;
use crate::printable::Printable;
use crate::workspace::State;

/// The number of readings that charts show.
const HISTORY: usize = 600;
/// The height of a chart in lines, with its title.
const CHART: usize = 7;
/// The smallest height of the terminal for which charts are shown.
const ROOM_FOR_CHARTS: usize = 18;

/// Styles of lines, as SGR sequences.
const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const REVERSED: &str = "\x1b[7m";

/// A line of the screen.
#[derive(Debug, Clone, Default)]
pub(super) struct Line {
    /// The style of the whole line.
    pub(super) look: &'static str,
    pub(super) text: Printable,
}

impl Line {
    fn new(look: &'static str, text: String) -> Self {
        Self { look, text: text.into() }
    }
}

/// A column to sort by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Column {
    Id,
    State,
    #[default]
    Cpu,
    Memory,
    Received,
    Sent,
    Read,
    Written,
    Pids,
}

impl Column {
    /// All columns, with their titles, widths and keys.
    const ALL: [(Self, &'static str, usize, char); 9] = [
        (Self::Id, "ID", 24, 'n'),
        (Self::State, "STATE", 10, 's'),
        (Self::Cpu, "CPU %", 8, 'c'),
        (Self::Memory, "MEMORY", 22, 'm'),
        (Self::Received, "NET RX", 10, 'r'),
        (Self::Sent, "NET TX", 10, 't'),
        (Self::Read, "READ", 10, 'i'),
        (Self::Written, "WRITTEN", 10, 'w'),
        (Self::Pids, "PIDS", 6, 'p'),
    ];

    pub(super) fn of_key(key: char) -> Option<Self> {
        Self::ALL.iter().find(|(_, _, _, own)| *own == key).map(|(column, ..)| *column)
    }

    /// Returns the initial direction: text is sorted from a to z, numbers from the highest down.
    fn ascends(self) -> bool {
        matches!(self, Self::Id | Self::State)
    }

    fn compare(self, a: &StatsView, b: &StatsView) -> Ordering {
        let number = |get: fn(&StatsView) -> Option<u64>| get(a).cmp(&get(b));
        match self {
            Self::Id => a.id.cmp(&b.id),
            Self::State => a.state.as_str().cmp(b.state.as_str()),
            Self::Cpu => a.cpu_percent.unwrap_or(-1.0).total_cmp(&b.cpu_percent.unwrap_or(-1.0)),
            Self::Memory => number(|stats| stats.memory_used),
            Self::Received => number(|stats| stats.network_rx),
            Self::Sent => number(|stats| stats.network_tx),
            Self::Read => number(|stats| stats.block_read),
            Self::Written => number(|stats| stats.block_write),
            Self::Pids => number(|stats| stats.pids),
        }
    }

    fn show(self, stats: &StatsView) -> String {
        match self {
            Self::Id => stats.id.to_string(),
            Self::State => stats.state.to_string(),
            Self::Cpu => stats.cpu_percent.map_or_else(|| "-".into(), |percent| format!("{percent:.1}")),
            Self::Memory => match stats.memory_limit {
                Some(limit) => format!("{} / {}", bytes(stats.memory_used), bytes(Some(limit))),
                None => bytes(stats.memory_used),
            },
            Self::Received => bytes(stats.network_rx),
            Self::Sent => bytes(stats.network_tx),
            Self::Read => bytes(stats.block_read),
            Self::Written => bytes(stats.block_write),
            Self::Pids => stats.pids.map_or_else(|| "-".into(), |pids| pids.to_string()),
        }
    }
}

/// One reading of a container, for the charts.
#[derive(Debug, Clone, Copy)]
struct Point {
    cpu: Option<f64>,
    memory: Option<f64>,
}

/// The readings, and the state of the view.
#[derive(Debug, Default)]
pub(super) struct Screen {
    rows: Vec<StatsView>,
    history: BTreeMap<String, VecDeque<Point>>,
    column: Column,
    /// Whether the usual order of the column is reversed.
    reversed: bool,
    /// The selected container: the selection follows it wherever it is sorted to. None until the first move: the first
    /// row.
    selected: Option<String>,
    failure: Option<String>,
    read: bool,
}

impl Screen {
    /// Takes new readings.
    pub(super) fn update(&mut self, rows: Vec<StatsView>) {
        self.history.retain(|id, _| rows.iter().any(|row| row.container_id == *id));
        for row in &rows {
            let points = self.history.entry(row.container_id.clone()).or_default();
            if points.len() == HISTORY {
                points.pop_front();
            }
            points.push_back(Point { cpu: row.cpu_percent, memory: row.memory_used.map(|bytes| bytes as f64) });
        }
        let place = self.place();
        (self.rows, self.failure, self.read) = (rows, None, true);
        self.sort();
        // The selected container is gone: its successor in the same place is selected.
        if self.selected.is_some() && self.index().is_none() {
            let place = place.min(self.rows.len().saturating_sub(1));
            self.selected = self.rows.get(place).map(|row| row.container_id.clone());
        }
    }

    /// Records the reason that there are no new readings.
    pub(super) fn failed(&mut self, why: String) {
        self.failure = Some(why);
    }

    /// Sorts by a column; repeated for the same column, it reverses the order.
    pub(super) fn sort_by(&mut self, column: Column) {
        self.reversed = self.column == column && !self.reversed;
        self.column = column;
        self.sort();
    }

    /// Moves the selection.
    pub(super) fn select(&mut self, by: isize) {
        let last = self.rows.len().saturating_sub(1);
        let index = self.place().saturating_add_signed(by).min(last);
        self.selected = self.rows.get(index).map(|row| row.container_id.clone());
    }

    fn index(&self) -> Option<usize> {
        let selected = self.selected.as_ref()?;
        self.rows.iter().position(|row| row.container_id == *selected)
    }

    fn place(&self) -> usize {
        self.index().unwrap_or(0)
    }

    fn sort(&mut self) {
        let (column, reversed) = (self.column, self.reversed);
        self.rows.sort_by(|a, b| {
            let order = column.compare(a, b);
            let order = if column.ascends() == reversed { order.reverse() } else { order };
            order.then_with(|| a.id.cmp(&b.id))
        });
    }

    /// Returns all lines that fit.
    pub(super) fn lines(&self, width: usize, height: usize) -> Vec<Line> {
        let mut lines = vec![Line::new(BOLD, fit(&self.title(), width))];
        let charts = if height >= ROOM_FOR_CHARTS && !self.rows.is_empty() { CHART + 1 } else { 0 };
        let head: String =
            Column::ALL.iter().map(|(column, title, wide, _)| self.cell(*column, title, *wide)).collect();
        lines.push(Line::new(REVERSED, format!("{:<width$}", fit(&head, width))));
        let room = height.saturating_sub(lines.len() + charts + 1).max(1);
        if self.rows.is_empty() {
            let text = if self.read { "no workspace has a container; 'wharf up' creates one" } else { "reading ..." };
            lines.push(Line::new("", fit(text, width)));
        }
        let selected = self.place();
        let first = (selected + 1).saturating_sub(room);
        for (index, row) in self.rows.iter().enumerate().skip(first).take(room) {
            let text: String =
                Column::ALL.iter().map(|(column, _, wide, _)| self.cell(*column, &column.show(row), *wide)).collect();
            let look = match (index == selected, row.state == State::Running) {
                (true, _) => REVERSED,
                (false, true) => "",
                (false, false) => DIM,
            };
            lines.push(Line::new(look, format!("{:<width$}", fit(&text, width))));
        }
        if charts > 0 {
            lines.resize(height.saturating_sub(CHART + 1), Line::default());
            lines.extend(self.charts(width));
        }
        lines.push(Line::new(DIM, fit(&key_line(width), width)));
        lines.truncate(height.max(1));
        lines
    }

    fn title(&self) -> String {
        if let Some(why) = &self.failure {
            return format!("wharf top   {why}; trying again");
        }
        let running = self.rows.iter().filter(|row| row.state == State::Running).count();
        let cpu: f64 = self.rows.iter().filter_map(|row| row.cpu_percent).sum();
        let memory: u64 = self.rows.iter().filter_map(|row| row.memory_used).sum();
        let others = self.rows.len() - running;
        let memory = bytes(Some(memory));
        format!("wharf top   {running} running, {others} not   CPU {cpu:.1} % (100 is one core)   memory {memory}")
    }

    fn cell(&self, column: Column, text: &str, width: usize) -> String {
        if matches!(column, Column::Id | Column::State) {
            return format!("{} ", pad(text, width));
        }
        format!("{text:>width$} ")
    }

    /// Draws the charts: CPU at the left, memory at the right.
    fn charts(&self, width: usize) -> Vec<Line> {
        let Some(row) = self.rows.get(self.place()) else { return Vec::new() };
        let points = self.history.get(&row.container_id);
        let values =
            |get: fn(&Point) -> Option<f64>| -> Vec<Option<f64>> { points.into_iter().flatten().map(get).collect() };
        let (cpu, memory) = (values(|point| point.cpu), values(|point| point.memory));
        let highest = |values: &[Option<f64>]| values.iter().flatten().copied().fold(0.0, f64::max);
        // The scale is a whole number of cores, so that heights are comparable.
        let cores = (highest(&cpu) / 100.0).ceil().max(1.0) * 100.0;
        let bound = highest(&memory) * 1.1;
        let wide = width.saturating_sub(3) / 2;
        let title = |text: String| pad(&fit(&text, wide), wide);
        let name = &row.id;
        let up_to = bytes(Some(bound.round() as u64));
        let titles = format!(
            "{}   {}",
            title(format!("CPU of {name}, up to {cores:.0} %")),
            title(format!("memory of {name}, up to {up_to}"))
        );
        let mut lines = vec![Line::new(BOLD, titles)];
        let both = chart(&cpu, wide, CHART - 1, cores).into_iter().zip(chart(&memory, wide, CHART - 1, bound));
        lines.extend(both.map(|(left, right)| Line::new("", format!("{left}   {right}"))));
        lines
    }
}

/// Cuts the printed form of a text to a width.
fn fit(text: &str, width: usize) -> String {
    Printable::from(text).as_str().chars().take(width).collect()
}

/// Pads or cuts a text to exactly this width; two dots mark a cut.
fn pad(text: &str, width: usize) -> String {
    if text.chars().count() > width {
        format!("{}..", fit(text, width.saturating_sub(2)))
    } else {
        format!("{text:<width$}")
    }
}

/// Returns the line with the keys, shorter on a narrow screen.
fn key_line(width: usize) -> String {
    let title = |title: &str| title.to_lowercase();
    let keys: String = Column::ALL.iter().map(|(_, name, _, key)| format!("{key} {}  ", title(name))).collect();
    let line = format!("q quits   sort: {}", keys.trim_end());
    if line.len() <= width {
        return line;
    }
    let short = |name: &str| title(name).replace("net ", "").replace(" %", "");
    let keys: Vec<String> = Column::ALL.iter().map(|(_, name, _, key)| format!("{key}:{}", short(name))).collect();
    format!("q:quit  sort by {}", keys.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::WorkspaceId;

    fn stats(name: &str, cpu: Option<f64>, memory: u64) -> StatsView {
        StatsView {
            id: WorkspaceId::derive(name, "/p"),
            name: name.into(),
            container_id: format!("c-{name}"),
            state: if cpu.is_some() { State::Running } else { State::Exited },
            read_at: None,
            cpu_percent: cpu,
            memory_used: cpu.map(|_| memory),
            memory_limit: cpu.map(|_| 1 << 30),
            network_rx: None,
            network_tx: None,
            block_read: None,
            block_write: None,
            pids: cpu.map(|_| 1),
        }
    }

    /// The lines without their styles.
    fn plain(screen: &Screen, width: usize, height: usize) -> Vec<String> {
        screen.lines(width, height).into_iter().map(|line| line.text.to_string()).collect()
    }

    fn order(screen: &Screen) -> Vec<&str> {
        screen.rows.iter().map(|row| row.name.as_str()).collect()
    }

    fn three() -> Screen {
        let mut screen = Screen::default();
        screen.update(vec![stats("a", Some(5.0), 300), stats("b", Some(50.0), 100), stats("c", None, 0)]);
        screen
    }

    #[test]
    fn every_key_is_named_on_80_columns() {
        let line = key_line(80);
        assert!(line.len() <= 80, "{line}");
        assert!(Column::ALL.iter().all(|(.., key)| line.contains(&format!(" {key}:"))), "{line}");
        assert!(key_line(120).contains("sort: n id  s state"));
    }

    #[test]
    fn rows_are_sorted_by_a_column_and_the_other_way_round() {
        let mut screen = three();
        assert_eq!(order(&screen), ["b", "a", "c"]);
        screen.sort_by(Column::of_key('m').unwrap());
        assert_eq!(order(&screen), ["a", "b", "c"]);
        screen.sort_by(Column::Memory);
        assert_eq!(order(&screen), ["c", "b", "a"]);
        screen.sort_by(Column::Id);
        assert_eq!(order(&screen), ["a", "b", "c"]);
        assert_eq!(Column::of_key('x'), None);
    }

    #[test]
    fn the_selection_stays_with_its_row_and_moves_on_when_that_is_gone() {
        let mut screen = three();
        screen.select(1);
        assert_eq!(screen.selected.as_deref(), Some("c-a"));
        screen.update(vec![stats("a", Some(99.0), 1), stats("b", Some(5.0), 1), stats("c", None, 0)]);
        assert_eq!((screen.selected.as_deref(), screen.place()), (Some("c-a"), 0));
        screen.update(vec![stats("b", Some(5.0), 1), stats("c", None, 0)]);
        assert_eq!(screen.selected.as_deref(), Some("c-b"));
        screen.select(isize::MAX);
        assert_eq!(screen.selected.as_deref(), Some("c-c"));
        screen.select(isize::MIN);
        assert_eq!(screen.selected.as_deref(), Some("c-b"));
        screen.update(vec![]);
        screen.select(1);
        assert_eq!(screen.selected, None);
    }

    #[test]
    fn every_size_of_a_terminal_gets_as_many_lines_as_fit_and_no_wider_ones() {
        let mut empty = Screen::default();
        assert!(plain(&empty, 80, 24)[2].starts_with("reading"));
        empty.update(vec![]);
        assert!(plain(&empty, 80, 24)[2].starts_with("no workspace"));
        let mut failed = three();
        failed.failed("the engine is gone".into());
        assert!(plain(&failed, 80, 24)[0].contains("the engine is gone; trying again"));
        for screen in [&empty, &three(), &failed] {
            for (width, height) in [(0, 0), (1, 1), (5, 3), (40, 10), (80, 24), (300, 100)] {
                let lines = plain(screen, width, height);
                assert!(lines.len() <= height.max(1), "{width}x{height}: {} lines", lines.len());
                assert!(lines.iter().all(|line| line.chars().count() <= width), "{width}x{height}: {lines:?}");
            }
        }
    }

    #[test]
    fn the_table_says_what_is_known_and_a_chart_shows_the_selected_one() {
        let lines = plain(&three(), 120, 24);
        assert!(lines[0].contains("2 running, 1 not   CPU 55.0 %"), "{lines:?}");
        let row = lines.iter().find(|line| line.starts_with("c-")).unwrap();
        assert!(row.contains("exited") && row.contains(" - "), "{row}");
        assert!(lines.iter().any(|line| line.starts_with("CPU of b-") && line.contains("memory of b-")), "{lines:?}");
        assert!(lines.iter().any(|line| line.contains('█')), "{lines:?}");
        assert!(!plain(&three(), 120, 12).iter().any(|line| line.contains("CPU of")));
    }

    #[test]
    fn many_rows_scroll_with_the_selection_and_history_is_bounded() {
        let mut screen = Screen::default();
        let many: Vec<_> = (0..200).map(|n| stats(&format!("w{n:03}"), Some(f64::from(n)), 1)).collect();
        for _ in 0..HISTORY + 10 {
            screen.update(many.clone());
        }
        assert!(screen.history.values().all(|points| points.len() == HISTORY));
        screen.select(isize::MAX);
        assert!(plain(&screen, 100, 30).iter().any(|line| line.starts_with("w000-")));
        assert!(!plain(&screen, 100, 30).iter().any(|line| line.starts_with("w199-")));
    }
}
