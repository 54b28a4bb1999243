//! Output for snapshots: values that differ from run to run are masked. `INSTA_UPDATE=always` renews the snapshots.

use super::sandbox::Sandbox;

impl Sandbox {
    /// Returns a text of this sandbox without its folder, ids, digests and ages.
    pub fn masked(&self, text: &str) -> String {
        let mut text = text.replace(&self.dir.display().to_string(), "[sandbox]").replace(&self.id(), "[workspace]");
        for (pattern, mask) in [
            ("sha256:[0-9a-f]{8,}", "sha256:[digest]"),
            (r"\b[0-9]+ (second|minute|hour)s? ago", "[age] ago"),
            (r"\b[0-9.]+ (ms|µs|s)\b", "[time]"),
        ] {
            text = regex::Regex::new(pattern).unwrap().replace_all(&text, mask).into_owned();
        }
        text.lines().map(|line| narrow(line) + "\n").collect()
    }
}

impl Sandbox {
    /// Returns a text for a terminal as [`Self::masked`] does, also where its values are cut.
    pub fn masked_columns(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (pattern, with) in [
            (r"/tmp/[^ ]*/(project|shop|worker)\b", "/[dir]/$1"),
            (r"(project|shop|worker)-[0-9a-f]+(…?)", "$1-[id]"),
            (r"sha256:[0-9a-f]+\n? *[0-9a-f]*", "sha256:[digest]"),
            (r"\([0-9a-f]{12}\)", "([container])"),
            (r"127\.0\.0\.1:[0-9]+", "127.0.0.1:[port]"),
            (r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z", "[time]"),
            (r"[0-9]+ (second|minute|hour)s? ago", "[age] ago"),
            (r" +[0-9.]+ (ms|µs)", "  [time]"),
        ] {
            text = regex::Regex::new(pattern).unwrap().replace_all(&text, with).into_owned();
        }
        text.lines().map(|line| format!("{}\n", squeezed(line))).collect()
    }
}

/// Makes runs of spaces within a line equal, because the masked values have different widths.
fn squeezed(line: &str) -> String {
    let indent = line.len() - line.trim_start().len();
    let rest = line[indent..].split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect::<Vec<_>>();
    format!("{}{}", &line[..indent], rest.join("  "))
}

/// Narrows the columns, whose width depends on the masked values. A marked line of a script keeps its columns.
fn narrow(line: &str) -> String {
    if line.contains(" | ") || line.trim_start().starts_with('^') {
        return line.to_owned();
    }
    let indent = &line[..line.len() - line.trim_start().len()];
    let cells: Vec<&str> = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
    format!("{indent}{}", cells.join("  "))
}
