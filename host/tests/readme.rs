//! Runs README.md and the tutorial: every command of their `sh` blocks, in order, on the real engine, as a newcomer
//! would type them.
//!
//! The test creates the folder that the quickstart leaves behind in the same way, without the release build.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod pages;

use std::path::Path;
use std::time::Instant;

use pages::{Place, Step, blocks, read, root, steps};

/// The page that goes on after the README, from the same state.
const TUTORIAL: &str = "docs/start/tutorial.md";

/// A clone after the quickstart, in a temporary folder.
struct Clone {
    place: Place,
}

impl Clone {
    fn new(name: &str) -> Self {
        let mut clone = Self { place: Place::new(name, "target/quickstart/state") };
        let quickstart = clone.place.dir.join("target/quickstart");
        copy(&root().join("docs/examples/hello"), &quickstart.join("hello"));
        clone.succeed("wharf config init target/quickstart/config");
        let config = quickstart.join("config");
        copy(&root().join("docs/examples/policies/serve.rhai"), &config.join("policies/serve.rhai"));
        let toml = std::fs::read_to_string(config.join("wharf.toml")).unwrap();
        let entry = "\n[[policy]]\nname = \"serve.rhai\"\nscript = \"policies/serve.rhai\"\n";
        std::fs::write(config.join("wharf.toml"), toml + entry).unwrap();
        clone.place.configure(&config.join("wharf.toml"));
        clone.succeed("wharf up target/quickstart/hello");
        clone
    }

    /// Provides the output of `cargo xtask plugins` for the tutorial's plugin.
    fn plugins(&self) {
        let built = root().join("target/test-plugins/readme-plugin.wasm");
        assert!(built.is_file(), "{} is missing: run 'cargo xtask plugins'", built.display());
        copy(&built, &self.place.dir.join("target/plugins/owner.wasm"));
    }

    #[track_caller]
    fn succeed(&self, line: &str) {
        let (code, output) = self.place.run(line);
        assert_eq!(
            code, 0,
            "'{line}' exited with {code}; without an engine and the image wharf-base:local nothing works here, \
             'cargo xtask setup' arranges both\n{output}"
        );
    }

    /// Runs one step and returns its output.
    fn step(&mut self, step: &Step) -> Result<String, String> {
        let words: Vec<&str> = step.command.split_whitespace().collect();
        match words.as_slice() {
            ["git", "clone", ..] => Ok(String::new()),
            ["cargo", "xtask", rest @ ..] => {
                let command = rest.first().copied().unwrap_or_default();
                if !read("host/xtask/src/main.rs").contains(&format!("[\"{command}\"")) {
                    return Err(format!("xtask has no command '{command}'"));
                }
                if command == "plugins" {
                    self.plugins();
                }
                Ok(String::new())
            }
            ["cd", path] => {
                let here = self.place.here.join(path);
                self.place.here = here.canonicalize().map_err(|error| format!("{path}: {error}"))?;
                Ok(String::new())
            }
            // The variables that this file sets are present from the start.
            [".", "target/quickstart/env"] => Ok(String::new()),
            _ => self.place.step(step),
        }
    }
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(from, to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    }
}

/// Runs all commands of a page after the quickstart.
fn run(name: &str, page: &str) {
    let steps = steps(&blocks(&read(page)));
    let count = steps.iter().filter(|step| step.command.starts_with("wharf ")).count();
    assert!(count >= 10, "{page} has only {count} commands of wharf");
    let mut clone = Clone::new(name);
    for step in &steps {
        let begin = Instant::now();
        match clone.step(step) {
            Ok(output) => eprintln!("{page}:{}: $ {} ({:?})\n{output}", step.line, step.command, begin.elapsed()),
            Err(why) => panic!("{page}:{}: '{}': {why}", step.line, step.command),
        }
    }
    let (_, left) = clone.place.run("wharf ls -q");
    assert_eq!(left, "", "{page} does not remove what it makes");
}

#[test]
fn every_command_of_the_readme_works_in_the_order_in_which_it_stands_there() {
    run("readme", "README.md");
}

#[test]
fn every_command_of_the_tutorial_works_in_the_order_in_which_it_stands_there() {
    run("tutorial", TUTORIAL);
}

#[test]
fn a_command_that_does_not_work_is_found() {
    let text = "```sh\nwharf --no-such-flag\nwharf config show  # exits 3\nwharf --version # exits 0\ncargo xtask dance\nrm -r x\n```\n";
    let mut clone = Clone { place: Place::new("readme-bad", "state") };
    let results: Vec<bool> = steps(&blocks(text)).iter().map(|step| clone.step(step).is_ok()).collect();
    assert_eq!(results, [false, false, true, false, false]);
}

#[test]
fn commands_are_read_with_the_code_that_they_exit_with() {
    let text = "a\n```sh\n# a comment\nwharf plan --label 'a=#b'   # exits 4, since ...\n\ncd x\n```\n```text\nwharf nope\n```\n";
    let step = |line, command: &str, exit| Step { line, command: command.to_owned(), exit };
    assert_eq!(steps(&blocks(text)), [step(4, "wharf plan --label 'a=#b'", 4), step(6, "cd x", 0)]);
}

/// Returns the lines of code without blank lines and documentation, so that texts about the same code can be
/// compared.
fn code(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| line.trim_end());
    lines.filter(|line| !line.is_empty() && !line.trim_start().starts_with("//")).map(str::to_owned).collect()
}

#[test]
fn the_plugin_of_the_tutorial_is_the_one_that_is_built_and_short() {
    let expected = code(&read("host/tests/plugins/readme/src/lib.rs"));
    for page in [TUTORIAL, "docs/plugins.md"] {
        let shown = blocks(&read(page)).into_iter().find(|block| block.language == "rust");
        let shown = shown.unwrap_or_else(|| panic!("{page} shows no plugin"));
        assert_eq!(code(&shown.text), expected, "{page}");
    }
    let sdk = read("plugin-sdk/src/lib.rs");
    let doc: String =
        sdk.lines().filter_map(|line| line.strip_prefix("//! ")).map(|line| format!("{line}\n")).collect();
    let start = doc.find("```\n").unwrap() + 4;
    assert_eq!(code(&doc[start..start + doc[start..].find("```").unwrap()]), expected, "plugin-sdk/src/lib.rs");
    assert!(expected.len() < 20, "a plugin takes {} lines", expected.len());
}
