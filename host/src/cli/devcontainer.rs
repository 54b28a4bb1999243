//! Arguments and messages about the `devcontainer.json` of a project, shared by commands.

use crate::devcontainer::Record;

/// The selection of the file.
#[derive(Debug, clap::Args)]
pub(crate) struct DevcontainerArgs {
    /// Read .devcontainer/NAME/devcontainer.json of the project
    #[arg(long, value_name = "NAME")]
    pub(crate) devcontainer: Option<String>,
    /// Read no devcontainer.json
    #[arg(long, conflicts_with = "devcontainer")]
    pub(crate) no_devcontainer: bool,
}

/// Returns the requests of a `devcontainer.json` that are not honoured, on one line.
pub(crate) fn not_honoured(record: &Record) -> Option<String> {
    const MOST: usize = 12;
    let listed: Vec<String> =
        record.not_honoured.iter().take(MOST).map(|not| format!("{} (line {})", not.property, not.line)).collect();
    let more = match record.not_honoured.len().saturating_sub(MOST) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    (!listed.is_empty())
        .then(|| format!("{}: not honoured: {}{more}; 'wharf plan' shows the reasons", record.file, listed.join(", ")))
}
