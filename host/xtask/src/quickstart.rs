//! `cargo xtask quickstart`: from a clone to a running workspace, and suggestions for the next steps.
//!
//! All its files are below `target/quickstart`: a copy of the example project, a configuration to edit, and the state.
//! A second run replaces the copy and the configuration, and finds the workspace as it is.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::command;
use crate::setup;
use crate::stage::Stages;

/// The folder of all files, below the root.
const FOLDER: &str = "target/quickstart";

/// The bundled example project, below the root.
const EXAMPLE: &str = "docs/examples/hello";

/// A script that the quickstart adds to the chain, below the root.
const SCRIPT: &str = "docs/examples/policies/serve.rhai";

/// The time limit of one command of wharf.
const LIMIT: Duration = Duration::from_secs(180);

/// The exit code of `wharf` when a workspace differs from today's decision.
const DIFFERS: i32 = 7;

/// Runs the quickstart.
///
/// # Errors
/// The stage that failed, and the cause.
pub fn run(root: &Path, install_engine: bool) -> Result<()> {
    let mut stages = Stages::new();
    setup::run(root, install_engine, &mut stages)?;
    setup::release(root, &mut stages)?;
    let place = Place { root, folder: root.join(FOLDER) };
    stages.run("prepare the example", || place.prepare())?;
    stages.run("run it", || place.show())?;
    println!("\n{}\n\n{NEXT}", stages.summary());
    Ok(())
}

const NEXT: &str = "\
The workspace `hello` stays up. Go on in this shell:

  . target/quickstart/env           puts target/release/wharf on the PATH, with this state and configuration
  cd target/quickstart/hello

  wharf shell                       a shell in it
  wharf why command                 who decided its command, and on which line
  wharf plan --cpus 6               what a request for more would get; creates nothing
  wharf policy ls                   the chain
  wharf doctor                      whether everything is as it should be

Then edit target/quickstart/config/policies/pre-create.rhai and say `wharf plan` again; docs/start/tutorial.md goes on from here.

Remove everything: . target/quickstart/env && wharf rm --force hello && rm -r target/quickstart";

struct Place<'a> {
    root: &'a Path,
    folder: PathBuf,
}

impl Place<'_> {
    /// Copies the example, and writes the configuration and the file for a shell to source.
    fn prepare(&self) -> Result<()> {
        copy(&self.root.join(EXAMPLE), &self.folder.join("hello"))?;
        let config = self.folder.join("config");
        let mut init = self.wharf();
        init.args(["config", "init", "--force", "--json"]).arg(&config).stdout(std::process::Stdio::null());
        // An earlier run may have left a broken configuration; this one replaces it.
        init.env_remove("WHARF_CONFIG");
        command::run_within(&mut init, LIMIT)?;
        copy(&self.root.join(SCRIPT), &config.join("policies/serve.rhai"))?;
        let file = config.join("wharf.toml");
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let entry =
            "\n# Added by the quickstart.\n[[policy]]\nname = \"serve.rhai\"\nscript = \"policies/serve.rhai\"\n";
        write(&file, &format!("{text}{entry}"))?;
        let exports = [
            format!("export PATH={}:\"$PATH\"", quoted(&self.root.join("target/release"))?),
            format!("export WHARF_CONFIG={}", quoted(&file)?),
            format!("export WHARF_STATE_DIR={}", quoted(&self.folder.join("state"))?),
        ];
        write(&self.folder.join("env"), &format!("{}\n", exports.join("\n")))
    }

    /// Runs the first commands of a newcomer.
    fn show(&self) -> Result<()> {
        match self.say(&["up", "hello"])? {
            0 => {}
            // Another version of the policies made it. The difference from the new decision is worth showing.
            DIFFERS => self.must(&["up", "hello", "--recreate"])?,
            code => bail!("`wharf up hello` ended with code {code}; what it said is above"),
        }
        self.must(&["ls"])?;
        self.must(&["exec", "hello", "--", "sh", "-c", "echo \"I am $(id -un) in $(hostname)\"; ls"])?;
        self.must(&["logs", "hello", "--tail", "3"])?;
        self.must(&["stats", "hello", "--no-stream"])?;
        self.must(&["why", "hello"])
    }

    fn must(&self, arguments: &[&str]) -> Result<()> {
        match self.say(arguments)? {
            0 => Ok(()),
            code => bail!("`wharf {}` ended with code {code}; what it said is above", arguments.join(" ")),
        }
    }

    /// Prints a command, then runs it.
    fn say(&self, arguments: &[&str]) -> Result<i32> {
        let shown =
            arguments.iter().map(|word| if word.contains(' ') { format!("'{word}'") } else { (*word).to_owned() });
        println!("\n$ wharf {}", shown.collect::<Vec<_>>().join(" "));
        let mut wharf = self.wharf();
        let status = command::status_within(wharf.args(arguments), LIMIT)?;
        Ok(status.code().unwrap_or(128))
    }

    /// Returns a command for the built program, in the quickstart's folder, with its configuration and state and no
    /// other variables of Wharf.
    fn wharf(&self) -> Command {
        let mut wharf = Command::new(self.root.join("target/release/wharf"));
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("WHARF_") {
                wharf.env_remove(&name);
            }
        }
        wharf.env("WHARF_CONFIG", self.folder.join("config/wharf.toml"));
        wharf.env("WHARF_STATE_DIR", self.folder.join("state")).current_dir(&self.folder);
        wharf
    }
}

/// Copies a file, or a folder with its content.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let failed = || format!("cannot copy {} to {}", from.display(), to.display());
    if !from.is_dir() {
        return fs::copy(from, to).map(drop).with_context(failed);
    }
    fs::create_dir_all(to).with_context(failed)?;
    for entry in fs::read_dir(from).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Quotes a path as one word of a shell.
fn quoted(path: &Path) -> Result<String> {
    let text = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
    Ok(format!("'{}'", text.replace('\'', "'\\''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_one_word_whatever_is_in_it() {
        assert_eq!(quoted(Path::new("/a b/it's")).unwrap(), "'/a b/it'\\''s'");
    }

    #[test]
    fn a_folder_is_copied_with_hidden_folders_and_over_an_older_copy() {
        let folder = env::temp_dir().join(format!("wharf-xtask-copy-{}", std::process::id()));
        fs::create_dir_all(folder.join("from/.hidden")).unwrap();
        fs::write(folder.join("from/.hidden/a"), "new").unwrap();
        fs::create_dir_all(folder.join("to/.hidden")).unwrap();
        fs::write(folder.join("to/.hidden/a"), "old").unwrap();
        copy(&folder.join("from"), &folder.join("to")).unwrap();
        let text = fs::read_to_string(folder.join("to/.hidden/a"));
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(text.unwrap(), "new");
    }
}
