//! A separate environment for each test, and the guard that cleans it up.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use wharf::store::Store;
use wharf::workspace::{LABEL_HOST, WorkspaceId};

use super::engine_api::{self as engine, BASE, label};
pub use super::process::{Output, Running, until};

/// Label of objects that a test creates without Wharf: the sandbox that they belong to.
pub const LABEL_SANDBOX: &str = "wharf-test.sandbox";

/// Compiled plugins of earlier tests, so that not every test compiles them again.
const WARM: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/wharf-compiled");

/// Exit code of `up` for a workspace that exists and is not in order.
pub const NOT_IN_ORDER: i32 = 8;

pub struct Sandbox {
    pub dir: PathBuf,
    env: BTreeMap<String, String>,
}

impl Sandbox {
    #[track_caller]
    pub fn new() -> Self {
        let image = engine::call("GET", &format!("/images/{BASE}/json"), b"");
        assert_eq!(image.status, 200, "the image {BASE} is missing: 'cargo xtask test' makes it");
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("wharf-engine-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        for folder in ["home", "config/policies", "project"] {
            std::fs::create_dir_all(dir.join(folder)).unwrap();
        }
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir.join("state/compiled")).unwrap();
        copy_files(Path::new(WARM), &dir.join("state/compiled"));
        let sandbox = Self { dir, env: BTreeMap::from([("WHARF_WORKSPACE_IMAGE".to_owned(), BASE.to_owned())]) };
        sandbox.config("");
        sandbox
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir.join(relative)
    }

    pub fn project(&self) -> PathBuf {
        self.path("project")
    }

    /// Creates another project folder.
    pub fn folder(&self, relative: &str) -> PathBuf {
        let folder = self.path(relative);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// Writes a file, creating its parent folders.
    pub fn write(&self, relative: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(relative);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Writes `wharf.toml`.
    pub fn config(&self, text: &str) {
        self.write("config/wharf.toml", text);
    }

    /// Returns the contents of `wharf.toml`.
    pub fn config_text(&self) -> String {
        std::fs::read_to_string(self.path("config/wharf.toml")).unwrap()
    }

    pub fn append_config(&self, text: &str) {
        self.config(&format!("{}\n{text}\n", self.config_text()));
    }

    /// Writes a script and appends it to the chain. A configuration without entries uses the built-in policies.
    pub fn script(&self, name: &str, text: &str) {
        self.write(&format!("config/policies/{name}"), text);
        self.append_config(&format!("[[policy]]\nname = \"{name}\"\nscript = \"policies/{name}\""));
    }

    /// Appends a built component of `target/` to the chain.
    pub fn plugin(&self, path: &str, settings: &str) {
        let name = path.rsplit('/').next().unwrap();
        let wasm = component(path);
        self.append_config(&format!(
            "[[policy]]\nname = \"{name}\"\nwasm = \"{}\"\nsettings = {settings}",
            wasm.display()
        ));
    }

    /// Sets an environment variable for all runs.
    pub fn env(&mut self, name: &str, value: &str) {
        self.env.insert(name.to_owned(), value.to_owned());
    }

    /// Removes an environment variable from all runs.
    pub fn unset(&mut self, name: &str) {
        self.env.remove(name);
    }

    /// Returns a `wharf` command in the project folder, with only the variables of this process's environment that
    /// locate the engine.
    pub fn command(&self, args: &[&str]) -> Command {
        self.command_in(&self.project(), args)
    }

    pub fn command_in(&self, folder: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wharf"));
        command.args(args).current_dir(folder).stdin(Stdio::null()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        // A Docker context is found through the home folder, which is a different one here.
        if engine::socket() != Path::new(engine::SOCKET) {
            command.env("DOCKER_HOST", format!("unix://{}", engine::socket().display()));
        }
        command
            .env("HOME", self.path("home"))
            .env("XDG_CONFIG_HOME", self.path("home/config"))
            .env("WHARF_CONFIG", self.path("config/wharf.toml"))
            .env("WHARF_STATE_DIR", self.path("state"))
            .envs(&self.env);
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.run_in(&self.project(), args)
    }

    pub fn run_in(&self, folder: &Path, args: &[&str]) -> Output {
        Output::of(self.command_in(folder, args).output().unwrap())
    }

    /// Runs with bytes on stdin, and reads stdout concurrently.
    pub fn feed(&self, args: &[&str], stdin: Vec<u8>) -> Output {
        let mut command = self.command(args);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        // A command that does not read its input does not fail the test.
        let writer = std::thread::spawn(move || drop(pipe.write_all(&stdin)));
        let output = Output::of(child.wait_with_output().unwrap());
        writer.join().unwrap();
        output
    }

    pub fn spawn(&self, args: &[&str]) -> Running {
        let mut command = self.command(args);
        Running::new(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// Runs with `--json`, and expects success; the workspace of an `up` may be degraded, as its view then says.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        let mut all = vec!["--json"];
        all.extend(args);
        let output = self.run(&all);
        if output.code == NOT_IN_ORDER && ["up", "add", "restore"].iter().any(|verb| args.contains(verb)) {
            let view = output.json();
            assert!(!view["degraded"].is_null() || view["state"] != "running", "{view}");
            return view;
        }
        output.ok().json()
    }

    /// Returns a workspace as `up` and the API tell it: `inspect` without its additions.
    pub fn view(&self, workspace: &[&str]) -> Value {
        let mut view = self.json(&[&["inspect"], workspace].concat());
        for added in ["fields", "sidecars"] {
            assert!(view.as_object_mut().unwrap().remove(added).is_some(), "{added} is missing");
        }
        view
    }

    /// Runs `wharf up` for the project.
    #[track_caller]
    pub fn up(&self) -> Value {
        self.json(&["up"])
    }

    /// Runs a shell line in the project's workspace, and expects success.
    #[track_caller]
    pub fn sh(&self, line: &str) -> String {
        self.run(&["exec", "--", "sh", "-c", line]).ok().text()
    }

    /// Returns the id that the project's workspace has or will have.
    pub fn id(&self) -> String {
        self.id_of("project", &self.project())
    }

    pub fn id_of(&self, name: &str, folder: &Path) -> String {
        WorkspaceId::derive(name, &folder.canonicalize().unwrap().display().to_string()).to_string()
    }

    pub fn store(&self) -> Store {
        Store::open(&self.path("state")).unwrap()
    }

    /// Returns the id of this sandbox's installation of Wharf.
    pub fn host(&self) -> String {
        self.store().host_id().to_owned()
    }

    /// Returns the value of [`LABEL_SANDBOX`] on the objects of this test.
    pub fn name(&self) -> String {
        self.dir.file_name().unwrap().to_string_lossy().into_owned()
    }

    /// Returns the containers that carry this installation's label.
    pub fn own_containers(&self) -> Vec<Value> {
        let host = self.host();
        engine::containers().into_iter().filter(|object| label(object, LABEL_HOST) == Some(&host)).collect()
    }

    pub fn own_networks(&self) -> Vec<Value> {
        let host = self.host();
        engine::networks().into_iter().filter(|object| label(object, LABEL_HOST) == Some(&host)).collect()
    }

    /// Checks that the engine has no objects of this installation.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        assert_eq!(self.own_containers(), Vec::<Value>::new());
        assert_eq!(self.own_networks(), Vec::<Value>::new());
        assert_eq!(self.json(&["ls"]), json!([]));
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let host = if self.path("state/wharf.db").exists() {
            Store::open(&self.path("state")).ok().map(|store| store.host_id().to_owned())
        } else {
            None
        };
        let name = self.name();
        let ours = |object: &Value| {
            (host.is_some() && label(object, LABEL_HOST) == host.as_deref())
                || label(object, LABEL_SANDBOX) == Some(&name)
        };
        for object in engine::containers().iter().filter(|object| ours(object)) {
            engine::delete(&format!("/containers/{}?force=true&v=true", object["Id"].as_str().unwrap_or_default()));
        }
        for object in engine::networks().iter().filter(|object| ours(object)) {
            engine::delete(&format!("/networks/{}", object["Id"].as_str().unwrap_or_default()));
        }
        for object in engine::volumes().iter().filter(|object| ours(object)) {
            engine::delete(&format!("/volumes/{}", object["Name"].as_str().unwrap_or_default()));
        }
        for image in engine::get("/images/json").as_array().into_iter().flatten() {
            if host.is_some() && image["Labels"]["wharf.image.host"].as_str() == host.as_deref() {
                engine::delete(&format!("/images/{}?force=true", image["Id"].as_str().unwrap_or_default()));
            }
        }
        let _ = std::fs::create_dir_all(WARM);
        copy_files(&self.path("state/compiled"), Path::new(WARM));
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Returns the path of a built component: `plugins/...` or `test-plugins/...` below `target`.
#[track_caller]
pub fn component(path: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let file = root.join("target").join(path).with_extension("wasm");
    assert!(file.exists(), "{} is missing: run 'cargo xtask plugins'", file.display());
    file
}

/// Copies missing files, each atomically, because other tests do the same.
fn copy_files(from: &Path, to: &Path) {
    let Ok(entries) = std::fs::read_dir(from) else { return };
    for entry in entries.flatten() {
        let target = to.join(entry.file_name());
        let whole = entry.path().extension().is_some_and(|extension| extension == "cwasm");
        if whole && !target.exists() {
            let thread = std::thread::current().id();
            let aside = to.join(format!("{}-{thread:?}.copy", std::process::id()));
            if std::fs::copy(entry.path(), &aside).is_ok() {
                let _ = std::fs::rename(&aside, &target);
            }
        }
    }
}
