//! Inputs for a plugin's own tests, which run natively: `Input::for_test()` of each hook, modified where the test
//! needs it.
//!
//! ```
//! use wharf_plugin_sdk::select_image::Input;
//!
//! let input = Input::for_test().file("go.mod", "module shop\ngo 1.24\n").label("team", "web");
//! assert_eq!(input.project.file("go.mod").map(str::len), Some(20));
//! assert_eq!(input.workspace.label("team"), Some("web"));
//! ```

use crate::facts::{CallerInfo, Door, ImageInfo, Role};
use crate::types::{
    ContainerSpec, Engine, FileContent, Network, Project, Resources, RestartPolicy, Security, Workspace,
};
use crate::{
    Plugin, cleanup, event, post_start, pre_create, pre_exec, pre_stop, security_profile, select_image, settings,
};

/// The time of every test input: 2026-01-01 00:00 UTC, a Thursday.
pub const NOW_MS: u64 = 1_767_225_600_000;

thread_local! {
    static CALLER: std::cell::RefCell<Option<CallerInfo>> = const { std::cell::RefCell::new(None) };
    static IMAGE: std::cell::RefCell<Option<ImageInfo>> = const { std::cell::RefCell::new(None) };
}

/// Sets the caller that `facts::caller` returns in this thread from now on.
pub fn set_caller(name: &str, role: Role, door: Door) {
    CALLER.with(|caller| *caller.borrow_mut() = Some(CallerInfo { name: name.to_owned(), role, door }));
}

pub(crate) fn caller() -> Option<CallerInfo> {
    CALLER.with(|caller| caller.borrow().clone())
}

/// Sets the image that `facts::image_config` returns in this thread from now on.
pub fn set_image_config(image: ImageInfo) {
    IMAGE.with(|chosen| *chosen.borrow_mut() = Some(image));
}

pub(crate) fn image_config() -> Option<ImageInfo> {
    IMAGE.with(|chosen| chosen.borrow().clone())
}

impl ImageInfo {
    /// Returns an image for `linux/amd64` without other settings.
    #[must_use]
    pub fn for_test() -> Self {
        Self {
            id: format!("sha256:{}", "0".repeat(64)),
            entrypoint: Vec::new(),
            command: Vec::new(),
            user: String::new(),
            working_dir: String::new(),
            volumes: Vec::new(),
            health_check: None,
            labels: Vec::new(),
            platform: "linux/amd64".into(),
        }
    }
}

/// Parses and checks settings in the same way as the host when it loads a plugin.
///
/// # Errors
/// The host's message: the setting and its error.
pub fn settings<P: Plugin>(json: &str) -> Result<P::Settings, String> {
    let parsed: P::Settings = settings::parse(json)?;
    P::check(&parsed)?;
    Ok(parsed)
}

impl Workspace {
    /// Returns a workspace `shop-3f9a1c` of the folder `/home/ada/shop`, without labels.
    #[must_use]
    pub fn for_test() -> Self {
        Self { id: "shop-3f9a1c".into(), name: "shop".into(), project: "/home/ada/shop".into(), labels: Vec::new() }
    }
}

impl Project {
    /// Returns an empty folder.
    #[must_use]
    pub fn for_test() -> Self {
        Self { files: Vec::new(), contents: Vec::new() }
    }

    fn add(&mut self, path: &str, text: &str) {
        self.files.push(path.to_owned());
        self.files.sort();
        self.contents.push(FileContent { path: path.to_owned(), text: text.to_owned(), truncated: false });
    }
}

impl Engine {
    /// Returns an engine 20.10 with cgroup v2 on 4 cores and 8 GiB.
    #[must_use]
    pub fn for_test() -> Self {
        Self {
            version: "20.10.24".into(),
            api_version: "1.41".into(),
            cgroup_version: 2,
            cpus: 4,
            memory: 8 << 30,
            security: vec!["apparmor".into(), "seccomp".into()],
        }
    }
}

impl Security {
    /// Returns the engine's defaults for a container: its fourteen capabilities, and no tightened field.
    #[must_use]
    pub fn for_test() -> Self {
        let capabilities = [
            "AUDIT_WRITE",
            "CHOWN",
            "DAC_OVERRIDE",
            "FOWNER",
            "FSETID",
            "KILL",
            "MKNOD",
            "NET_BIND_SERVICE",
            "NET_RAW",
            "SETFCAP",
            "SETGID",
            "SETPCAP",
            "SETUID",
            "SYS_CHROOT",
        ];
        Self {
            capabilities: capabilities.map(str::to_owned).to_vec(),
            no_new_privileges: false,
            read_only_root: false,
            seccomp: "default".into(),
            apparmor: None,
            selinux: None,
            user_namespace: None,
        }
    }
}

impl ContainerSpec {
    /// Returns a container of 2 cores and 2 GiB on the shared network, without an image.
    #[must_use]
    pub fn for_test() -> Self {
        Self {
            image: None,
            command: Vec::new(),
            user: None,
            working_dir: "/workspace".into(),
            hostname: "shop".into(),
            env: Vec::new(),
            labels: Vec::new(),
            mounts: Vec::new(),
            tmpfs: Vec::new(),
            ports: Vec::new(),
            network: Network::Shared,
            resources: Resources {
                cpus: 2.0,
                memory: 2 << 30,
                pids: 4096,
                shm_size: None,
                disk: None,
                ulimits: Vec::new(),
            },
            security: Security::for_test(),
            restart: RestartPolicy::No,
            health_check: None,
            time_to_live_ms: None,
        }
    }
}

/// Adds the builder methods that most inputs share.
macro_rules! builders {
    ($input:ty) => {
        impl $input {
            /// Adds a label to the workspace.
            #[must_use]
            pub fn label(mut self, name: &str, value: &str) -> Self {
                self.workspace.labels.push((name.to_owned(), value.to_owned()));
                self.workspace.labels.sort();
                self
            }
        }
    };
    ($input:ty, files) => {
        builders!($input);
        impl $input {
            /// Adds a file to the project, as if the plugin had requested it.
            #[must_use]
            pub fn file(mut self, path: &str, text: &str) -> Self {
                self.project.add(path, text);
                self
            }
        }
    };
}

builders!(select_image::Input, files);
builders!(pre_create::Input, files);
builders!(post_start::Input, files);
builders!(security_profile::Input);
builders!(pre_exec::Input);
builders!(pre_stop::Input);
builders!(event::Input);

impl select_image::Input {
    /// Returns an empty project whose request names no image.
    #[must_use]
    pub fn for_test() -> Self {
        Self {
            workspace: Workspace::for_test(),
            project: Project::for_test(),
            engine: Engine::for_test(),
            local_images: Vec::new(),
            current: None,
            requested: false,
            now_ms: NOW_MS,
        }
    }
}

impl security_profile::Input {
    /// Returns a container with the engine's defaults and 4096 processes.
    #[must_use]
    pub fn for_test() -> Self {
        Self {
            workspace: Workspace::for_test(),
            engine: Engine::for_test(),
            image: None,
            current: Security::for_test(),
            pids: 4096,
            user: None,
            tmpfs: Vec::new(),
            now_ms: NOW_MS,
        }
    }
}

impl pre_create::Input {
    /// Returns an empty project and [`ContainerSpec::for_test`].
    #[must_use]
    pub fn for_test() -> Self {
        Self {
            workspace: Workspace::for_test(),
            project: Project::for_test(),
            engine: Engine::for_test(),
            spec: ContainerSpec::for_test(),
            now_ms: NOW_MS,
        }
    }
}

impl post_start::Input {
    /// Returns the first start of an empty project on `debian:stable-slim`.
    #[must_use]
    pub fn for_test() -> Self {
        Self {
            workspace: Workspace::for_test(),
            project: Project::for_test(),
            image: "debian:stable-slim".into(),
            first_start: true,
            now_ms: NOW_MS,
        }
    }
}

impl pre_exec::Input {
    /// Returns an interactive `sh`.
    #[must_use]
    pub fn for_test() -> Self {
        Self {
            workspace: Workspace::for_test(),
            command: vec!["sh".into()],
            env: Vec::new(),
            user: None,
            working_dir: None,
            tty: true,
            now_ms: NOW_MS,
        }
    }
}

impl pre_stop::Input {
    /// Returns a `stop`.
    #[must_use]
    pub fn for_test() -> Self {
        Self { workspace: Workspace::for_test(), verb: "stop".into(), now_ms: NOW_MS }
    }
}

impl event::Input {
    /// Returns a start.
    #[must_use]
    pub fn for_test() -> Self {
        Self {
            workspace: Workspace::for_test(),
            kind: event::Kind::Started,
            exit_code: None,
            detail: String::new(),
            now_ms: NOW_MS,
        }
    }
}

impl cleanup::Candidate {
    /// Returns a workspace `id` that started and was last used an hour ago, and is still running.
    #[must_use]
    pub fn for_test(id: &str) -> Self {
        let hour_ago = Some(NOW_MS - 3_600_000);
        Self {
            kind: cleanup::Kind::Workspace,
            id: id.to_owned(),
            name: id.to_owned(),
            project: format!("/home/ada/{id}"),
            labels: Vec::new(),
            state: Some(cleanup::State::Running),
            used: true,
            exit_code: None,
            created_ms: NOW_MS - 3_600_000,
            started_ms: hour_ago,
            finished_ms: None,
            last_activity_ms: hour_ago,
            size: None,
        }
    }
}

impl cleanup::Input {
    /// Returns these candidates, with half of a 100 GiB disk free, on a Thursday at midnight.
    #[must_use]
    pub fn for_test(candidates: impl IntoIterator<Item = cleanup::Candidate>) -> Self {
        Self {
            candidates: candidates.into_iter().collect(),
            disk_free: 50 << 30,
            disk_total: 100 << 30,
            now_ms: NOW_MS,
            local_minute: 0,
            local_weekday: 4,
        }
    }
}
