//! Runs README.md: every command of its `sh` blocks, in order, on the real engine, as a newcomer would type them.
//!
//! The test creates the folder that the quickstart leaves behind in the same way, without the release build. A
//! comment `# exits 4` after a command means that it exits with that code; without such a comment it must exit with
//! 0.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use wharf::docker::Docker;
use wharf::store::Store;
use wharf::workspace::LABEL_HOST;

/// Time limit for each command of a README.
const PATIENCE: Duration = Duration::from_secs(60);

/// Programs that a README may use in addition to wharf.
const PLAIN: [&str; 6] = ["cat", "echo", "grep", "mkdir", "printf", "sed"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn readme() -> String {
    std::fs::read_to_string(root().join("README.md")).unwrap()
}

/// Returns the fenced blocks of a language, each with its first line number.
fn blocks(text: &str, language: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, usize, Vec<&str>)> = None;
    for (number, line) in text.lines().enumerate() {
        match (line.trim_start().strip_prefix("```"), open.take()) {
            (Some(info), None) => open = Some((info.trim().to_owned(), number + 2, Vec::new())),
            (Some(_), Some((info, start, lines))) if info == language => blocks.push((start, lines.join("\n"))),
            (Some(_), Some(_)) => {}
            (None, Some((info, start, mut lines))) => {
                lines.push(line);
                open = Some((info, start, lines));
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block of README.md is not closed");
    blocks
}

/// One command, with its expected exit code.
#[derive(Debug, PartialEq)]
struct Step {
    line: usize,
    command: String,
    exit: i32,
}

fn steps(text: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    for (start, block) in blocks(text, "sh") {
        for (offset, line) in block.lines().enumerate() {
            let (command, comment) = split_comment(line);
            if command.is_empty() {
                continue;
            }
            let exit = comment.split("exits ").nth(1).map_or(0, |rest| {
                let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
                digits.parse().unwrap_or_else(|_| panic!("README.md:{}: which code? {line}", start + offset))
            });
            steps.push(Step { line: start + offset, command: command.to_owned(), exit });
        }
    }
    steps
}

/// Splits the comment off a line; a `#` inside quotes does not start one.
fn split_comment(line: &str) -> (&str, &str) {
    let mut quote = None;
    let mut before = ' ';
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            (None, '#') if before.is_whitespace() => return (line[..at].trim(), line[at..].trim()),
            _ => {}
        }
        before = c;
    }
    (line.trim(), "")
}

/// A clone after the quickstart, in a temporary folder.
struct Clone {
    dir: PathBuf,
    here: PathBuf,
    env: BTreeMap<String, String>,
}

impl Clone {
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("wharf-readme-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(dir.join("home")).unwrap();
        let dir = dir.canonicalize().unwrap();
        let mut clone = Self { here: dir.clone(), dir, env: BTreeMap::new() };
        let quickstart = clone.dir.join("target/quickstart");
        copy(&root().join("docs/examples/hello"), &quickstart.join("hello"));
        clone.succeed("wharf config init target/quickstart/config");
        let config = quickstart.join("config");
        copy(&root().join("docs/examples/policies/serve.rhai"), &config.join("policies/serve.rhai"));
        let toml = std::fs::read_to_string(config.join("wharf.toml")).unwrap();
        let entry = "\n[[policy]]\nname = \"serve.rhai\"\nscript = \"policies/serve.rhai\"\n";
        std::fs::write(config.join("wharf.toml"), toml + entry).unwrap();
        clone.env = [("WHARF_CONFIG", config.join("wharf.toml")), ("WHARF_STATE_DIR", quickstart.join("state"))]
            .map(|(name, path)| (name.to_owned(), path.display().to_string()))
            .into();
        clone.succeed("wharf up target/quickstart/hello");
        clone
    }

    /// Provides the output of `cargo xtask plugins` for the README's plugin.
    fn plugins(&self) {
        let built = root().join("target/test-plugins/readme-plugin.wasm");
        assert!(built.is_file(), "{} is missing: run 'cargo xtask plugins'", built.display());
        copy(&built, &self.dir.join("target/plugins/owner.wasm"));
    }

    /// Runs a line in the current folder. Returns its exit code and its output.
    fn run(&self, line: &str) -> (i32, String) {
        let program = Path::new(env!("CARGO_BIN_EXE_wharf"));
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{path}", program.parent().unwrap().display());
        let out = self.dir.join("output");
        let file = std::fs::File::create(&out).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(&self.here).stdin(Stdio::null()).env_clear();
        command.stdout(file.try_clone().unwrap()).stderr(file);
        // A Docker context is found through the home folder, which is a different one here.
        let socket = wharf::docker::socket(None).filter(|socket| socket != Path::new("/var/run/docker.sock"));
        if let Some(socket) = socket {
            command.env("DOCKER_HOST", format!("unix://{}", socket.display()));
        } else if let Some(host) = std::env::var_os("DOCKER_HOST") {
            command.env("DOCKER_HOST", host);
        }
        let home = self.dir.join("home");
        command.env("PATH", path).env("HOME", &home).env("XDG_CONFIG_HOME", home.join(".config")).envs(&self.env);
        let mut child = command.spawn().unwrap();
        let begin = Instant::now();
        let code = loop {
            match child.try_wait().unwrap() {
                Some(status) => break status.code().unwrap_or(128),
                None if begin.elapsed() > PATIENCE => {
                    let _ = child.kill();
                    let _ = child.wait();
                    break 124;
                }
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        (code, String::from_utf8_lossy(&std::fs::read(&out).unwrap()).into_owned())
    }

    #[track_caller]
    fn succeed(&self, line: &str) {
        let (code, output) = self.run(line);
        assert_eq!(
            code, 0,
            "'{line}' ended with {code}; without an engine and the image wharf-base:local nothing works here, \
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
                let main = std::fs::read_to_string(root().join("host/xtask/src/main.rs")).unwrap();
                if !main.contains(&format!("[\"{command}\"")) {
                    return Err(format!("xtask has no command '{command}'"));
                }
                if command == "plugins" {
                    self.plugins();
                }
                Ok(String::new())
            }
            ["cd", path] => {
                self.here = self.here.join(path).canonicalize().map_err(|error| format!("{path}: {error}"))?;
                Ok(String::new())
            }
            // The variables that this file sets are present from the start.
            [".", "target/quickstart/env"] => Ok(String::new()),
            [program, ..] if *program == "wharf" || PLAIN.contains(program) => match self.run(&step.command) {
                (code, output) if code == step.exit => Ok(output),
                (124, output) => Err(format!("it did not end in {} s\n{output}", PATIENCE.as_secs())),
                (code, output) => Err(format!("it ended with {code}, README.md says {}\n{output}", step.exit)),
            },
            _ => Err("README.md uses a program that this test does not know".to_owned()),
        }
    }
}

impl Drop for Clone {
    /// Removes the objects of this installation from the engine, and the folder.
    fn drop(&mut self) {
        let state = self.dir.join("target/quickstart/state");
        if state.join("wharf.db").exists()
            && let Ok(store) = Store::open(&state)
        {
            let host = store.host_id().to_owned();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let Ok(docker) = Docker::connect(None, &host).await else { return };
                for container in docker.list(&[(LABEL_HOST, &host)], true).await.unwrap_or_default() {
                    let _ = docker.remove(&container.id, true, true).await;
                }
                let shared = format!("wharf-{}", &host[host.len().saturating_sub(8)..]);
                let _ = docker.remove_network_if_unused(&shared).await;
            });
        }
        let _ = std::fs::remove_dir_all(&self.dir);
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

#[test]
fn every_command_of_the_readme_works_in_the_order_in_which_it_stands_there() {
    let steps = steps(&readme());
    let count = steps.iter().filter(|step| step.command.starts_with("wharf ")).count();
    assert!(count >= 10, "README.md has only {count} commands of wharf");
    let mut clone = Clone::new();
    for step in &steps {
        let begin = Instant::now();
        match clone.step(step) {
            Ok(output) => eprintln!("README.md:{}: $ {} ({:?})\n{output}", step.line, step.command, begin.elapsed()),
            Err(why) => panic!("README.md:{}: '{}': {why}", step.line, step.command),
        }
    }
    let (_, left) = clone.run("wharf ls -q");
    assert_eq!(left, "", "README.md does not remove what it makes");
}

#[test]
fn a_command_that_does_not_work_is_found() {
    let text = "```sh\nwharf --no-such-flag\nwharf config show  # exits 3\nwharf --version # exits 0\ncargo xtask dance\nrm -r x\n```\n";
    let mut clone = Clone { dir: std::env::temp_dir().join("wharf-readme-bad"), here: root(), env: BTreeMap::new() };
    std::fs::create_dir_all(&clone.dir).unwrap();
    let results: Vec<bool> = steps(text).iter().map(|step| clone.step(step).is_ok()).collect();
    assert_eq!(results, [false, false, true, false, false]);
}

#[test]
fn commands_are_read_with_the_code_that_they_end_with() {
    let text = "a\n```sh\n# a comment\nwharf plan --label 'a=#b'   # exits 4, since ...\n\ncd x\n```\n```text\nwharf nope\n```\n";
    let step = |line, command: &str, exit| Step { line, command: command.to_owned(), exit };
    assert_eq!(steps(text), [step(4, "wharf plan --label 'a=#b'", 4), step(6, "cd x", 0)]);
}

/// Returns the lines of code without blank lines and documentation, so that texts about the same code can be
/// compared.
fn code(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| line.trim_end());
    lines.filter(|line| !line.is_empty() && !line.trim_start().starts_with("//")).map(str::to_owned).collect()
}

#[test]
fn the_plugin_of_the_readme_is_the_one_that_is_built_and_short() {
    let built = std::fs::read_to_string(root().join("host/tests/plugins/readme/src/lib.rs")).unwrap();
    let expected = code(&built);
    for document in ["README.md", "docs/plugins.md"] {
        let text = std::fs::read_to_string(root().join(document)).unwrap();
        let (_, shown) =
            blocks(&text, "rust").into_iter().next().unwrap_or_else(|| panic!("{document} shows no plugin"));
        assert_eq!(code(&shown), expected, "{document}");
    }
    let sdk = std::fs::read_to_string(root().join("plugin-sdk/src/lib.rs")).unwrap();
    let doc: String =
        sdk.lines().filter_map(|line| line.strip_prefix("//! ")).map(|line| format!("{line}\n")).collect();
    let start = doc.find("```\n").unwrap() + 4;
    assert_eq!(code(&doc[start..start + doc[start..].find("```").unwrap()]), expected, "plugin-sdk/src/lib.rs");
    assert!(expected.len() < 20, "a plugin takes {} lines", expected.len());
}
