//! Pages of the documentation as tests: their blocks and commands, and a folder in which the commands run on the real
//! engine.
//!
//! A comment `# exits 4` after a command means that it exits with that code; without such a comment it must exit
//! with 0.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use wharf::docker::Docker;
use wharf::store::Store;
use wharf::workspace::LABEL_HOST;

/// Time limit for each command of a page.
const PATIENCE: Duration = Duration::from_secs(60);

/// Programs that a page may use in addition to wharf.
const PLAIN: [&str; 6] = ["cat", "echo", "grep", "mkdir", "printf", "sed"];

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

pub(crate) fn read(page: &str) -> String {
    let path = root().join(page);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A fenced block with its language and the number of its first line.
pub(crate) struct Block {
    pub(crate) language: String,
    pub(crate) line: usize,
    pub(crate) text: String,
}

/// Returns all fenced blocks of a page.
pub(crate) fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, usize, Vec<&str>)> = None;
    for (number, line) in text.lines().enumerate() {
        match (line.trim_start().strip_prefix("```"), open.take()) {
            (Some(info), None) => open = Some((info.trim().to_owned(), number + 2, Vec::new())),
            (Some(_), Some((language, line, lines))) => blocks.push(Block { language, line, text: lines.join("\n") }),
            (None, Some((language, start, mut lines))) => {
                lines.push(line);
                open = Some((language, start, lines));
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

/// One command, with its line in the page and its expected exit code.
#[derive(Debug, PartialEq)]
pub(crate) struct Step {
    pub(crate) line: usize,
    pub(crate) command: String,
    pub(crate) exit: i32,
}

/// Returns the commands of all `sh` blocks.
pub(crate) fn steps(blocks: &[Block]) -> Vec<Step> {
    let mut steps = Vec::new();
    for block in blocks.iter().filter(|block| block.language == "sh") {
        for (offset, line) in block.text.lines().enumerate() {
            let (command, comment) = split_comment(line);
            if command.is_empty() {
                continue;
            }
            let exit = comment.split("exits ").nth(1).map_or(0, |rest| {
                let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
                digits.parse().unwrap_or_else(|_| panic!("line {}: which code? {line}", block.line + offset))
            });
            steps.push(Step { line: block.line + offset, command: command.to_owned(), exit });
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

/// A temporary folder with a home of its own, in which the commands of a page run.
pub(crate) struct Place {
    /// The top folder, which is removed in the end.
    pub(crate) dir: PathBuf,
    /// The current folder of the commands.
    pub(crate) here: PathBuf,
    /// The state folder of its installation.
    state: PathBuf,
    env: BTreeMap<String, String>,
}

impl Place {
    /// Makes an empty folder. `state` is the path of the state folder below it.
    pub(crate) fn new(name: &str, state: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("wharf-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(dir.join("home")).unwrap();
        let dir = dir.canonicalize().unwrap();
        Self { here: dir.clone(), state: dir.join(state), dir, env: BTreeMap::new() }
    }

    /// Sets the configuration and the state folder for the next commands.
    pub(crate) fn configure(&mut self, config: &Path) {
        for (name, path) in [("WHARF_CONFIG", config), ("WHARF_STATE_DIR", self.state.as_path())] {
            self.env.insert(name.to_owned(), path.display().to_string());
        }
    }

    /// Runs a line in the current folder. Returns its exit code and its output.
    pub(crate) fn run(&self, line: &str) -> (i32, String) {
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

    /// Runs one step with wharf or a plain program, and returns its output.
    pub(crate) fn step(&self, step: &Step) -> Result<String, String> {
        let program = step.command.split_whitespace().next().unwrap_or_default();
        if program != "wharf" && !PLAIN.contains(&program) {
            return Err("the page uses a program that this test does not know".to_owned());
        }
        match self.run(&step.command) {
            (code, output) if code == step.exit => Ok(output),
            (124, output) => Err(format!("it did not end in {} s\n{output}", PATIENCE.as_secs())),
            (code, output) => Err(format!("it exited with {code}, the page says {}\n{output}", step.exit)),
        }
    }
}

impl Drop for Place {
    /// Removes the objects of this installation from the engine, and the folder.
    fn drop(&mut self) {
        if self.state.join("wharf.db").exists()
            && let Ok(store) = Store::open(&self.state)
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
