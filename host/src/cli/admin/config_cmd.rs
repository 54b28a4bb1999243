//! `wharf config show` and `wharf config init`

use std::fs::{DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use serde::Serialize;

use crate::builtin::{self, BuiltIn};
use crate::cli::output::{Cell, Column, Look, Output, column};
use crate::cli::{Context, Failure};
use crate::config::Sources;

/// Show or write the configuration.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Print every value and where it came from
    Show,
    /// Write wharf.toml, wharf.rhai and the built-in scripts, commented, to edit
    Init(InitArgs),
}

/// Arguments of `init`.
#[derive(Debug, clap::Args)]
pub(crate) struct InitArgs {
    /// Folder to write to [default: that of the usual wharf.toml]
    dir: Option<PathBuf>,
    /// Replace files that exist
    #[arg(long)]
    force: bool,
}

const TOML: &str = include_str!("../../config/wharf.toml");
const RHAI: &str = include_str!("../../config/wharf.rhai");

#[derive(Serialize)]
struct Shown {
    key: String,
    value: serde_json::Value,
    origin: String,
}

/// Runs `show`.
pub(crate) fn run(context: &Context, command: &Command) -> Result<u8, Failure> {
    let Command::Show = command else { return Ok(0) };
    let loaded = &context.app.loaded;
    let values: Vec<_> = loaded
        .values()
        .into_iter()
        .map(|(key, value, origin)| Shown { key, value, origin: origin.to_string() })
        .collect();
    if context.out.json {
        context.out.value(&values)?;
        return Ok(0);
    }
    let file = loaded.file.as_ref().map_or_else(|| "none (defaults)".into(), |path| path.display().to_string());
    context.out.wrapped("", format!("# file: {file}"))?;
    if let Some(script) = &loaded.script {
        context.out.wrapped("", format!("# script: {}", script.display()))?;
    }
    context.out.wrapped("", format!("# state: {}", context.app.state_dir.display()))?;
    const COLUMNS: [Column; 3] =
        [column("KEY").cut(24), column("VALUE").cut(16), column("ORIGIN").path(16).optional(1)];
    // Defaults step back behind the values that a file, a variable or a flag has set.
    let look = |origin: &str| (origin == "default").then_some(Look::Dim);
    let row = |shown: Shown| {
        let look = look(&shown.origin);
        [shown.key, shown.value.to_string(), shown.origin].map(|text| Cell::from(text).look(look)).into()
    };
    context.out.table::<Cell>(&COLUMNS, values.into_iter().map(row).collect())?;
    Ok(0)
}

/// Writes an initial configuration. Without `--force` nothing is replaced, and nothing at all is written if one of the
/// files exists.
pub(crate) fn init(args: &InitArgs, sources: &Sources, out: &Output) -> Result<u8, Failure> {
    let usual = sources.file.as_ref().or(sources.search.first()).and_then(|file| file.parent());
    let Some(dir) = args.dir.as_deref().or(usual) else {
        return Err(Failure::new("no-folder", "there is no home folder", "name a folder", 2));
    };
    let mut files = vec![(dir.join("wharf.toml"), TOML), (dir.join("wharf.rhai"), RHAI)];
    for (name, policy) in builtin::ALL {
        if let BuiltIn::Script(text) = policy {
            files.push((dir.join("policies").join(name), text));
        }
    }
    if let Some((path, _)) = files.iter().find(|(path, _)| path.exists() && !args.force) {
        let text = format!("{} exists", path.display());
        return Err(Failure::new("exists", text, "use --force to replace it, or name another folder", 1));
    }
    let failed = |path: &std::path::Path, error: std::io::Error| {
        let text = format!("cannot write '{}': {error}", path.display());
        Failure::new("unwritable", text, "name a writable folder", 1)
    };
    for (path, text) in &files {
        let folder = path.parent().unwrap_or(dir);
        // These modes hold under a permissive umask too: Wharf refuses files that others can write.
        DirBuilder::new().recursive(true).mode(0o755).create(folder).map_err(|error| failed(folder, error))?;
        let file = File::options().write(true).create(true).truncate(true).mode(0o644).open(path);
        let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|error| failed(path, error))?;
    }
    let written: Vec<_> = files.iter().map(|(path, _)| path.display().to_string()).collect();
    if out.json {
        out.value(&written)?;
    } else {
        for path in written {
            out.line(format!("wrote {path}"))?;
        }
        out.wrapped("", "edit them, then see 'wharf config show' and 'wharf policy check'")?;
    }
    Ok(0)
}
