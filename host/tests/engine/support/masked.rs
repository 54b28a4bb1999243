//! Output for snapshots: values that differ from run to run are masked. `INSTA_UPDATE=always` renews the snapshots.

use super::sandbox::Sandbox;

impl Sandbox {
    /// Returns a text of this sandbox without its folder, ids, digests and ages.
    pub fn masked(&self, text: &str) -> String {
        let mut text = text.replace(&self.dir.display().to_string(), "[sandbox]").replace(&self.id(), "[workspace]");
        for (pattern, mask) in [
            ("sha256:[0-9a-f]{8,}", "sha256:[digest]"),
            (r"\b[0-9]+[smhd] ago", "[age] ago"),
            (r"\b[0-9.]+ (ms|µs|s)\b", "[time]"),
            // A truncated value, whose folder was not found above.
            (r#""source":"[^"]*\.\.\."#, "\"source\":\"[path]..."),
        ] {
            text = regex::Regex::new(pattern).unwrap().replace_all(&text, mask).into_owned();
        }
        text.lines().map(|line| narrow(line) + "\n").collect()
    }
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
