//! Output for snapshots: what differs from run to run is masked. `INSTA_UPDATE=always` renews the snapshots.

use super::sandbox::Sandbox;

impl Sandbox {
    /// A text of this sandbox without its folder, ids, digests and ages.
    pub fn masked(&self, text: &str) -> String {
        let mut text = text.replace(&self.dir.display().to_string(), "[sandbox]").replace(&self.id(), "[workspace]");
        for (pattern, mask) in [
            ("sha256:[0-9a-f]{8,}", "sha256:[digest]"),
            (r"\b[0-9]+[smhd] ago", "[age] ago"),
            (r"\b[0-9.]+ (ms|µs|s)\b", "[time]"),
            // A value that is cut off, so that its folder is not found above.
            (r#""source":"[^"]*\.\.\."#, "\"source\":\"[path]..."),
        ] {
            text = regex::Regex::new(pattern).unwrap().replace_all(&text, mask).into_owned();
        }
        text.lines().map(|line| narrow(line) + "\n").collect()
    }
}

/// Columns are as wide as what was masked; a marked line of a script keeps its columns.
fn narrow(line: &str) -> String {
    if line.contains(" | ") || line.trim_start().starts_with('^') {
        return line.to_owned();
    }
    let indent = &line[..line.len() - line.trim_start().len()];
    let cells: Vec<&str> = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
    format!("{indent}{}", cells.join("  "))
}
