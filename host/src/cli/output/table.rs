//! Tables: full where the output is no terminal, with one line per row; fitted to the width of a terminal. There, a
//! column becomes narrower down to its least width, and columns of the highest rank are left out when that is not
//! enough.

use super::Look;
use super::text::{Keep, cut, width, wrap};
use crate::printable::Printable;

/// Columns of space between two columns of a table.
const GAP: usize = 2;
/// The width down to which a column is narrowed when no column can be left out any more.
const NARROWEST: usize = 4;

/// The treatment of a text that is longer than its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Cut(Keep),
    Wrap,
}

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    head: &'static str,
    /// 0 stays on every terminal; others are left out, the highest first.
    rank: u8,
    /// The width down to which it is narrowed before any column is left out; `None` means its longest text.
    least: Option<usize>,
    /// The width that it has at least.
    padded: usize,
    form: Form,
    right: bool,
}

/// Returns a column that stays on every terminal and is not narrowed.
pub(crate) const fn column(head: &'static str) -> Column {
    Column { head, rank: 0, least: None, padded: 0, form: Form::Cut(Keep::Start), right: false }
}

impl Column {
    /// Texts are cut down to this width.
    pub(crate) const fn cut(self, least: usize) -> Self {
        Self { least: Some(least), ..self }
    }

    /// Texts are cut down to this width, and keep their end.
    pub(crate) const fn path(self, least: usize) -> Self {
        Self { least: Some(least), form: Form::Cut(Keep::End), ..self }
    }

    /// Texts are wrapped down to this width.
    pub(crate) const fn wrapped(self, least: usize) -> Self {
        Self { least: Some(least), form: Form::Wrap, ..self }
    }

    /// The column is left out of a narrow terminal; columns of a higher rank go first.
    pub(crate) const fn optional(self, rank: u8) -> Self {
        Self { rank, ..self }
    }

    /// The column has at least this width.
    pub(crate) const fn padded(self, width: usize) -> Self {
        Self { padded: width, ..self }
    }

    /// Texts are aligned to the right.
    pub(crate) const fn right(self) -> Self {
        Self { right: true, ..self }
    }

    /// Returns the width that it keeps before another column is left out.
    fn kept(&self, natural: usize) -> usize {
        self.least.unwrap_or(natural).max(width(self.head)).max(self.padded).min(natural)
    }

    /// Returns the lines of a text in this column.
    fn lines(&self, text: &str, room: usize) -> Vec<String> {
        match self.form {
            Form::Wrap => wrap(text, room),
            Form::Cut(keep) => vec![cut(text, room, keep)],
        }
    }
}

/// A text of a table, one line.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    text: Printable,
    look: Option<Look>,
}

impl Cell {
    pub(crate) fn look(self, look: impl Into<Option<Look>>) -> Self {
        Self { look: look.into(), ..self }
    }
}

impl<T: Into<Printable>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), look: None }
    }
}

/// Returns the lines of a table with its head, for a terminal of `room` columns or without limit.
pub(crate) fn lines(columns: &[Column], rows: &[Vec<Cell>], room: Option<usize>, color: bool) -> Vec<Printable> {
    let widths = widths(columns, rows, room);
    let head: Vec<Cell> = columns.iter().map(|column| Cell::from(column.head).look(Look::Strong)).collect();
    let all = std::iter::once(&head).chain(rows);
    all.flat_map(|row| row_lines(columns, &widths, row, room.is_some(), color)).collect()
}

/// Returns the lines of a table without a head.
pub(crate) fn rows(columns: &[Column], rows: &[Vec<Cell>], room: Option<usize>, color: bool) -> Vec<Printable> {
    let widths = widths(columns, rows, room);
    rows.iter().flat_map(|row| row_lines(columns, &widths, row, room.is_some(), color)).collect()
}

/// Returns the lines of one row of a table without a head.
pub(crate) fn row(
    columns: &[Column],
    rows: &[Vec<Cell>],
    at: usize,
    room: Option<usize>,
    color: bool,
) -> Vec<Printable> {
    let widths = widths(columns, rows, room);
    rows.get(at).map(|row| row_lines(columns, &widths, row, room.is_some(), color)).unwrap_or_default()
}

/// Returns the width of each column; none for a column that is left out.
fn widths(columns: &[Column], rows: &[Vec<Cell>], room: Option<usize>) -> Vec<Option<usize>> {
    let natural = |(index, column): (usize, &Column)| {
        let texts = rows.iter().filter_map(|row| row.get(index)).map(|cell| width(cell.text.as_str()));
        texts.max().unwrap_or(0).max(width(column.head)).max(column.padded)
    };
    let natural: Vec<usize> = columns.iter().enumerate().map(natural).collect();
    match room {
        Some(room) => fitted(columns, &natural, room),
        None => natural.into_iter().map(Some).collect(),
    }
}

/// Returns the lines of one row: one, unless a text is wrapped.
fn row_lines(columns: &[Column], widths: &[Option<usize>], row: &[Cell], limited: bool, color: bool) -> Vec<Printable> {
    let shown =
        columns.iter().zip(widths).zip(row).filter_map(|((column, width), cell)| Some((column, (*width)?, cell)));
    let cells: Vec<_> = shown
        .map(|(column, room, cell)| {
            let text = cell.text.as_str();
            let lines = if limited { column.lines(text, room) } else { vec![text.to_owned()] };
            (column, room, cell.look.filter(|_| color), lines)
        })
        .collect();
    let height = cells.iter().map(|(.., lines)| lines.len()).max().unwrap_or(1);
    let line = |at: usize| {
        let (mut line, mut spaces) = (Printable::default(), 0);
        for (column, room, look, lines) in &cells {
            let text = lines.get(at).map_or("", String::as_str);
            let free = room.saturating_sub(width(text));
            let (before, after) = if column.right { (free, 0) } else { (0, free) };
            if !text.is_empty() {
                line = line + " ".repeat(spaces + before) + styled(text, *look);
                spaces = 0;
            } else {
                spaces += before;
            }
            spaces += after + GAP;
        }
        line
    };
    (0..height).map(line).map(Printable::trimmed).collect()
}

fn styled(text: &str, look: Option<Look>) -> Printable {
    match look {
        Some(look) => Printable::from(text).styled(look.number()),
        None => text.into(),
    }
}

/// Returns the width of each column in `room`; none for a column that is left out.
fn fitted(columns: &[Column], natural: &[usize], room: usize) -> Vec<Option<usize>> {
    let mut widths: Vec<Option<usize>> = natural.iter().copied().map(Some).collect();
    let total = |widths: &[Option<usize>]| {
        let shown = widths.iter().flatten();
        shown.clone().sum::<usize>() + GAP * shown.count().saturating_sub(1)
    };
    if total(&widths) <= room {
        return widths;
    }
    for ((width, column), natural) in widths.iter_mut().zip(columns).zip(natural) {
        *width = Some(column.kept(*natural));
    }
    while total(&widths) > room {
        let shown = columns.iter().enumerate().filter(|(index, _)| widths.get(*index).is_some_and(Option::is_some));
        // Of the same rank, the last goes first.
        let Some((index, _)) = shown.filter(|(_, column)| column.rank > 0).max_by_key(|(_, column)| column.rank) else {
            break;
        };
        if let Some(width) = widths.get_mut(index) {
            *width = None;
        }
    }
    // Without columns to leave out, the widest becomes narrower.
    while total(&widths) > room {
        let Some(widest) = widths.iter_mut().flatten().max().filter(|width| **width > NARROWEST) else { break };
        *widest -= 1;
    }
    // The narrowest column that lacks space gets the next free one.
    while total(&widths) < room {
        let lacking = widths.iter_mut().zip(natural).filter_map(|(width, natural)| Some((width.as_mut()?, *natural)));
        let Some((width, _)) = lacking.filter(|(width, natural)| **width < *natural).min_by_key(|(width, _)| **width)
        else {
            break;
        };
        *width += 1;
    }
    widths
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 4] = [
        column("ID").cut(8),
        column("STATE"),
        column("IMAGE").cut(10).optional(1),
        column("PROJECT").path(12).optional(2),
    ];

    fn shown(columns: &[Column], rows: &[&[&str]], room: Option<usize>) -> Vec<String> {
        let rows: Vec<Vec<Cell>> = rows.iter().map(|row| row.iter().map(|text| Cell::from(*text)).collect()).collect();
        lines(columns, &rows, room, false).iter().map(ToString::to_string).collect()
    }

    const ROWS: [&[&str]; 2] = [
        &["shop-5d9b3c", "running", "registry.example/team/image:1", "/home/ada/projects/shop"],
        &["api-000001", "stopped", "debian", "/srv/api"],
    ];

    #[test]
    fn a_wide_terminal_and_a_pipe_get_every_column_in_full() {
        let full = [
            "ID           STATE    IMAGE                          PROJECT",
            "shop-5d9b3c  running  registry.example/team/image:1  /home/ada/projects/shop",
            "api-000001   stopped  debian                         /srv/api",
        ];
        assert_eq!(shown(&COLUMNS, &ROWS, None), full);
        assert_eq!(shown(&COLUMNS, &ROWS, Some(160)), full);
    }

    #[test]
    fn a_narrow_terminal_gets_shorter_texts_and_then_fewer_columns() {
        assert_eq!(
            shown(&COLUMNS, &ROWS, Some(60)),
            [
                "ID           STATE    IMAGE               PROJECT",
                "shop-5d9b3c  running  registry.example/…  …ada/projects/shop",
                "api-000001   stopped  debian              /srv/api",
            ]
        );
        assert_eq!(
            shown(&COLUMNS, &ROWS, Some(34)),
            ["ID           STATE    IMAGE", "shop-5d9b3c  running  registry.ex…", "api-000001   stopped  debian"]
        );
        assert_eq!(
            shown(&COLUMNS, &ROWS, Some(20)),
            ["ID           STATE", "shop-5d9b3c  running", "api-000001   stopped"]
        );
    }

    #[test]
    fn every_line_fits_into_any_terminal() {
        let rows: [&[&str]; 2] = [ROWS[0], &["猫猫猫猫猫猫猫猫", "出口", "e\u{301}", "/猫/猫/猫/猫/猫/猫/猫"]];
        for room in 12..100 {
            for line in shown(&COLUMNS, &rows, Some(room)) {
                assert!(width(&line) <= room, "{room}: {line}");
            }
        }
    }

    #[test]
    fn a_wrapped_text_stays_in_its_column() {
        let columns = [column("POLICY"), column("REASON").wrapped(10)];
        let rows: [&[&str]; 2] = [&["team", "set the label team first"], &["x", "-"]];
        assert_eq!(
            shown(&columns, &rows, Some(20)),
            ["POLICY  REASON", "team    set the", "        label team", "        first", "x       -"]
        );
        assert_eq!(shown(&columns, &rows, None).len(), 3);
    }

    #[test]
    fn a_colour_takes_no_column_and_a_text_brings_none() {
        let columns = [column(""), column("")];
        let rows =
            [vec![Cell::from("a\x1b[31m\nb").look(Look::Bad), "c".into()], vec!["longer text".into(), "d".into()]];
        let lines: Vec<_> = lines(&columns, &rows, Some(40), true).iter().map(ToString::to_string).collect();
        assert_eq!(lines, ["", "\x1b[31ma[31m b\x1b[0m      c", "longer text  d"]);
    }

    #[test]
    fn numbers_are_aligned_to_the_right() {
        let columns = [column("N").right(), column("X")];
        let rows: [&[&str]; 2] = [&["1", "a"], &["100", "b"]];
        assert_eq!(shown(&columns, &rows, None), ["  N  X", "  1  a", "100  b"]);
    }
}
