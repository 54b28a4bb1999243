//! What commands have in common about the `devcontainer.json` of a project.

use crate::devcontainer::Record;
use crate::lifecycle::DevcontainerChoice;

/// Which one is read.
#[derive(Debug, clap::Args)]
pub(crate) struct DevcontainerArgs {
    /// Reads .devcontainer/NAME/devcontainer.json of the project
    #[arg(long, value_name = "NAME")]
    devcontainer: Option<String>,
    /// Reads no devcontainer.json
    #[arg(long, conflicts_with = "devcontainer")]
    no_devcontainer: bool,
}

impl DevcontainerArgs {
    pub(crate) fn choice(self) -> DevcontainerChoice {
        match self.devcontainer {
            Some(name) => DevcontainerChoice::Named(name),
            None if self.no_devcontainer => DevcontainerChoice::Off,
            None => DevcontainerChoice::Usual,
        }
    }
}

/// What a `devcontainer.json` asks for in vain, on one line.
pub(crate) fn not_honoured(record: &Record) -> Option<String> {
    const MOST: usize = 12;
    let listed: Vec<String> =
        record.not_honoured.iter().take(MOST).map(|not| format!("{} (line {})", not.property, not.line)).collect();
    let more = match record.not_honoured.len().saturating_sub(MOST) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    (!listed.is_empty())
        .then(|| format!("{}: not honoured: {}{more}; 'wharf plan' says why", record.file, listed.join(", ")))
}
