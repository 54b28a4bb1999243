//! Paths: the checked path is the mounted path.

use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::service::serve::Serving;
use crate::support::engine_api::{self as engine, BASE};
use crate::support::sandbox::{Output, Sandbox, until};

/// Builds an image whose `/srv` is a link to `/`: a path through it leads to the root of the resolving process.
fn image_with_a_link(sandbox: &Sandbox) -> String {
    let context = sandbox.folder("linked");
    symlink("/", context.join("srv")).unwrap();
    sandbox.write("linked/Dockerfile", format!("FROM {BASE}\nCOPY srv /srv\n"));
    let built =
        sandbox.json(&["image", "build", context.to_str().unwrap(), "--project", sandbox.project().to_str().unwrap()]);
    built["reference"].as_str().unwrap().to_owned()
}

#[track_caller]
fn denied(refused: &Output, code: &str, words: &str) -> Value {
    let error = refused.error();
    assert_eq!((refused.code, error["code"].as_str()), (4, Some(code)), "{}", refused.stderr);
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(words), "{message}");
    error
}

#[test]
fn a_source_that_means_another_place_in_another_process_is_refused_at_every_door() {
    let sandbox = Sandbox::new();
    sandbox.folder("project/srv");
    symlink("/proc/self/cwd", sandbox.path("project/link")).unwrap();
    symlink("link", sandbox.path("project/twice")).unwrap();
    let project = sandbox.project();
    let spellings = [
        "/proc/self/cwd/srv".to_owned(),
        "/proc/self/root".to_owned(),
        "/proc/thread-self/cwd/srv".to_owned(),
        "//proc/./self/cwd/srv".to_owned(),
        format!("/proc/self/root{}", project.display()),
        format!("{}/link/srv", project.display()),
        format!("{}/twice", project.display()),
        "/sys/kernel".to_owned(),
        "/dev/shm".to_owned(),
    ];
    for source in &spellings {
        let mount = format!("{source}:/host");
        for verb in ["plan", "up"] {
            let refused = sandbox.run(&["--json", verb, "--image", BASE, "--mount", &mount]);
            assert_eq!(refused.code, 4, "{verb} {source}: {}{}", refused.text(), refused.stderr);
        }
        let file = format!(r#"{{"image":"{BASE}","mounts":["source={source},target=/host,type=bind"]}}"#);
        sandbox.write("project/.devcontainer.json", file);
        let refused = sandbox.run(&["--json", "up"]);
        assert_eq!(refused.code, 4, "{source}: {}", refused.stderr);
        std::fs::remove_file(sandbox.path("project/.devcontainer.json")).unwrap();
    }
    sandbox.up();
    for source in &spellings {
        let mount = format!("{source}:/host");
        let refused =
            sandbox.run(&["--json", "sidecar", "add", "db", "--image", BASE, "--mount", &mount, "--", "sleep", "60"]);
        assert_eq!(refused.code, 4, "{source}: {}", refused.stderr);
    }
    let contexts = ["/proc/self/cwd", "/proc/self/root/etc"];
    for context in contexts {
        let refused = sandbox.run(&["--json", "image", "build", context]);
        assert_ne!(refused.code, 0, "{context}");
    }
}

#[test]
fn the_root_of_the_host_is_not_reached_through_a_folder_of_a_process_and_a_link_of_an_image() {
    let sandbox = Sandbox::new();
    let image = image_with_a_link(&sandbox);
    sandbox.folder("project/srv");
    let file = format!(r#"{{"image":"{image}","mounts":["source=/proc/self/cwd/srv,target=/host,type=bind"]}}"#);
    sandbox.write("project/.devcontainer.json", file);
    denied(&sandbox.run(&["--json", "up"]), "invariant", "between processes");
    // A service with the working directory that systemd uses.
    sandbox.append_config("[allow]\nbind_roots = [\"/srv\"]\n");
    let mut command = sandbox.command_in(Path::new("/"), &["--json", "up", sandbox.project().to_str().unwrap()]);
    let refused = Output::of(command.output().unwrap());
    denied(&refused, "invariant", "between processes");
    assert!(sandbox.own_containers().is_empty());
}

#[test]
fn the_engine_is_given_the_path_without_links() {
    let sandbox = Sandbox::new();
    let real = sandbox.folder("project/data");
    symlink("data", sandbox.path("project/link")).unwrap();
    let made = sandbox.json(&["up", "--image", BASE, "--mount", "./link/../link:/data"]);
    let container = engine::inspect(made["container_id"].as_str().unwrap());
    let mounts = container["HostConfig"]["Mounts"].as_array().unwrap();
    let data = mounts.iter().find(|mount| mount["Target"] == "/data").unwrap();
    assert_eq!(data["Source"], real.display().to_string());
    let plan = sandbox.json(&["plan", "--image", BASE, "--mount", "./link:/data"]);
    assert_eq!(plan["spec"]["mounts"]["/data"]["source"], real.display().to_string());
    // Every spelling gives the same workspace.
    let absolute = sandbox.path("project/link/.").display().to_string();
    for source in ["./data", "./link", "./data/../link", &absolute] {
        sandbox.json(&["up", "--image", BASE, "--mount", &format!("{source}:/data")]);
    }
}

#[test]
fn a_project_that_is_another_folder_now_is_not_mounted_by_any_start() {
    let sandbox = Sandbox::new();
    let (sub, outside) = (sandbox.folder("project/sub"), sandbox.folder("outside"));
    sandbox.write("outside/secret", "hidden");
    let of_sub = |args: &[&str]| sandbox.run_in(&sub, args);
    assert_eq!(of_sub(&["up", "--image", BASE]).code, 0);
    let id = sandbox.id_of("sub", &sub);
    sandbox.up();
    let swap = |to: &str| {
        sandbox.sh(&format!("cd /workspace && mv sub sub.old && {to}"));
    };
    let back = || sandbox.sh("cd /workspace && rm -rf sub && mv sub.old sub");
    for to in [format!("ln -s {} sub", outside.display()), "ln -s /etc sub".to_owned(), "mkdir sub".to_owned()] {
        swap(&to);
        let refused = sandbox.run(&["--json", "restart", "-t", "0s", &id]);
        let code = refused.error()["code"].as_str().unwrap_or_default().to_owned();
        assert!(["mount-changed", "project-unusable"].contains(&code.as_str()), "{to}: {}", refused.stderr);
        assert_eq!(sandbox.json(&["inspect", &id])["state"], "running", "{to}: what cannot start again is not stopped");
        sandbox.json(&["pause", &id]);
        assert_ne!(sandbox.run(&["unpause", &id]).code, 0, "{to}");
        assert_ne!(sandbox.run(&["start", &id]).code, 0, "{to}");
        back();
        sandbox.json(&["unpause", &id]);
        sandbox.json(&["stop", "-t", "0s", &id]);
        swap(&to);
        for verb in [&["start", &id][..], &["restart", &id], &["exec", &id, "--", "cat", "/workspace/secret"]] {
            let refused = sandbox.run(verb);
            assert_ne!(refused.code, 0, "{to}: {verb:?}: {}", refused.text());
            assert!(!refused.text().contains("hidden"), "{to}: {verb:?}");
        }
        assert_eq!(sandbox.json(&["inspect", &id])["state"], "exited", "{to}");
        back();
        sandbox.json(&["start", &id]);
    }
}

#[test]
fn another_folder_in_the_place_of_a_project_is_taken_when_that_is_asked_for() {
    let sandbox = Sandbox::new();
    sandbox.up();
    sandbox.json(&["stop", "-t", "0s"]);
    std::fs::rename(sandbox.project(), sandbox.path("old")).unwrap();
    sandbox.folder("project");
    let refused = sandbox.run(&["--json", "start"]);
    let error = denied(&refused, "mount-changed", "no longer the file or folder");
    assert!(error["remedy"].as_str().unwrap().contains("wharf up --recreate"), "{error}");
    let differs = sandbox.run(&["--json", "up"]);
    assert_eq!((differs.code, differs.error()["code"].as_str()), (7, Some("spec-differs")), "{}", differs.stderr);
    sandbox.json(&["up", "--recreate"]);
    sandbox.json(&["restart", "-t", "0s"]);
}

#[test]
fn a_look_that_fails_refuses() {
    let sandbox = Sandbox::new();
    sandbox.folder("project/d/cache");
    sandbox.json(&["up", "--image", BASE, "--mount", "./d/cache:/cache"]);
    sandbox.json(&["stop", "-t", "0s"]);
    let cache = sandbox.path("project/d/cache");
    std::fs::remove_dir(&cache).unwrap();
    denied(&sandbox.run(&["--json", "start"]), "invariant", "does not exist");
    symlink("cache", &cache).unwrap();
    denied(&sandbox.run(&["--json", "start"]), "invariant", "too many links");
}

#[test]
fn what_an_ordinary_user_may_not_see_is_not_taken_for_missing() {
    let sandbox = Sandbox::new();
    let (cache, outside) = (sandbox.folder("project/d/cache"), sandbox.folder("outside"));
    sandbox.write("outside/secret", "hidden");
    let program = sandbox.path("wharf");
    let built = env!("CARGO_BIN_EXE_wharf");
    std::fs::hard_link(built, &program).or_else(|_| std::fs::copy(built, &program).map(drop)).unwrap();
    let own = |path: &Path| {
        let status = Command::new("chown").args(["-R", "65534:65534"]).arg(path).status();
        assert!(status.unwrap().success());
    };
    own(&sandbox.dir);
    let group = std::fs::metadata(engine::socket()).unwrap().gid();
    // A member of the engine's group, which is the usual way to use the engine without being root.
    let run = |args: &[&str]| {
        let mut command = Command::new(&program);
        let as_given = sandbox.command(args);
        command.args(as_given.get_args()).current_dir(sandbox.project()).env_clear();
        command.envs(as_given.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Output::of(command.uid(65534).gid(group).output().unwrap())
    };
    run(&["up", "--image", BASE, "--mount", "./d/cache:/cache", "--user", "root"]).ok();
    run(&["exec", "--", "sh", "-c", "rmdir /workspace/d/cache"]).ok();
    symlink(&outside, &cache).unwrap();
    denied(&run(&["--json", "restart", "-t", "0s"]), "invariant", "outside the project");
    // Root in the workspace closes the folder: the engine still sees the link, but Wharf does not.
    run(&["exec", "--", "sh", "-c", "chown 0:0 /workspace/d && chmod 700 /workspace/d"]).ok();
    denied(&run(&["--json", "restart", "-t", "0s"]), "invariant", "cannot be read");
    run(&["stop", "-t", "0s"]).ok();
    denied(&run(&["--json", "start"]), "invariant", "cannot be read");
}

#[test]
fn a_link_that_is_swapped_during_the_start_is_found_in_the_mount_table() {
    let sandbox = Sandbox::new();
    let (cache, outside) = (sandbox.folder("project/cache"), sandbox.folder("outside"));
    sandbox.write("outside/secret", "hidden");
    sandbox.json(&["up", "--image", BASE, "--mount", "./cache:/cache"]);
    let link = sandbox.path("project/link");
    symlink(&outside, &link).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let (mut refused, mut killed, mut started) = (0, 0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let swap = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(rustix::fs::CWD, &cache, rustix::fs::CWD, &link, swap).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(7));
            }
        });
        for _ in 0..25 {
            let restarted = sandbox.run(&["--json", "restart", "-t", "0s"]);
            if restarted.code == 0 {
                started += 1;
                // The running container shows the decided folder.
                let seen = sandbox.run(&["exec", "--", "ls", "/cache"]);
                assert!(!seen.text().contains("secret"), "a foreign folder is mounted");
            } else {
                assert_eq!(restarted.code, 4, "{}", restarted.stderr);
                refused += 1;
                if restarted.stderr.contains("was killed") {
                    killed += 1;
                    let shown = sandbox.json(&["inspect"]);
                    assert_eq!(shown["state"], "exited", "{shown}");
                    assert!(shown["degraded"].as_str().unwrap().contains("/cache"), "{shown}");
                }
                let _ = sandbox.run(&["start"]);
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert!(started + refused == 25 && refused > 0, "{started} started, {refused} refused, {killed} of them killed");
    eprintln!("{started} started, {refused} refused, {killed} of them killed");
}

#[test]
fn a_start_that_the_engine_makes_by_itself_with_another_folder_is_found_and_stopped() {
    let sandbox = Sandbox::new();
    let (sub, outside) = (sandbox.folder("shared/sub"), sandbox.folder("outside"));
    sandbox.write("outside/secret", "hidden");
    let ends = "while [ ! -e /tmp/end ]; do sleep 0.05; done; rm /tmp/end";
    let up = ["up", "--image", BASE, "--restart", "always", "--", "sh", "-c", ends];
    assert_eq!(sandbox.run_in(&sub, &up).code, 0);
    let id = sandbox.id_of("sub", &sub);
    let swap = || {
        std::fs::rename(&sub, sandbox.path("shared/old")).unwrap();
        symlink(&outside, &sub).unwrap();
        sandbox.run(&["exec", &id, "--", "touch", "/tmp/end"]).ok();
    };
    let back = || {
        std::fs::remove_file(&sub).unwrap();
        std::fs::rename(sandbox.path("shared/old"), &sub).unwrap();
    };
    let stopped = || {
        until("it is stopped", || {
            let shown = sandbox.json(&["inspect", &id]);
            shown["state"] == "exited"
                && shown["degraded"].as_str().is_some_and(|why| why.contains("mounts./workspace"))
        });
        // It stays stopped, and the history gives the reason.
        let events = sandbox.run(&["--json", "events", "--since", "10m", "--until", "0s"]).ok().text();
        assert!(events.contains("\"detail\":\"mounts./workspace"), "{events}");
        assert_ne!(sandbox.run(&["start", &id]).code, 0, "the link is still there");
        assert_eq!(sandbox.json(&["inspect", &id])["state"], "exited");
    };
    let serving = Serving::start(&sandbox, &[]);
    // A container that returns with its own folder keeps running.
    let runs = |count: u64| {
        until("it was started again", || {
            let container = engine::inspect(&format!("wharf-{id}"));
            container["RestartCount"].as_u64() >= Some(count) && container["State"]["Status"] == "running"
        });
    };
    sandbox.run(&["exec", &id, "--", "touch", "/tmp/end"]).ok();
    runs(1);
    assert!(sandbox.json(&["inspect", &id])["degraded"].is_null());
    swap();
    stopped();
    // Without a listening service, the engine starts it nevertheless. The next service checks running containers.
    serving.terminate();
    back();
    sandbox.run(&["start", &id]).ok();
    assert!(sandbox.json(&["inspect", &id])["degraded"].is_null());
    swap();
    until("the engine has started it again", || {
        sandbox.run(&["exec", &id, "--", "cat", "/workspace/secret"]).code == 0
    });
    let serving = Serving::start(&sandbox, &[]);
    stopped();
    serving.terminate();
    back();
    sandbox.run(&["start", &id]).ok();
}

#[test]
fn sockets_pipes_and_devices_are_no_sources() {
    let sandbox = Sandbox::new();
    let _listener = UnixListener::bind(sandbox.path("project/agent.sock")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        sandbox.path("project/pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    for source in ["./agent.sock", "./pipe"] {
        let refused = sandbox.run(&["--json", "plan", "--image", BASE, "--mount", &format!("{source}:/x")]);
        denied(&refused, "invariant", "only files and folders");
    }
    // The project that has them is mounted as before.
    sandbox.up();
}

#[test]
fn the_engines_socket_and_wharfs_own_files_are_found_wherever_they_are() {
    let mut sandbox = Sandbox::new();
    let project = sandbox.project();
    let shown = |path: &str| sandbox_path(&project, path);
    // The engine behind another socket, as with a rootless engine or a forwarder.
    let socket = sandbox.path("project/engine.sock");
    let _forward = Forwarder::start(&socket);
    sandbox.env("DOCKER_HOST", &format!("unix://{}", socket.display()));
    for mount in ["./engine.sock:/var/run/docker.sock".to_owned(), format!("{}:/x", shown("."))] {
        let refused = sandbox.run(&["--json", "plan", "--image", BASE, "--mount", &mount]);
        denied(&refused, "invariant", "allow.docker_socket");
    }
    denied(&sandbox.run(&["--json", "up"]), "invariant", "allow.docker_socket");
    sandbox.unset("DOCKER_HOST");
    // The socket of the service, which need not exist yet.
    std::fs::DirBuilder::new().mode(0o700).create(sandbox.path("project/run")).unwrap();
    sandbox.append_config(&format!("[api]\nsocket = \"{}\"\n", sandbox.path("project/run/wharf.sock").display()));
    denied(&sandbox.run(&["--json", "plan"]), "invariant", "socket of the service");
    // The configuration and the policies that it names.
    sandbox.config("");
    let own = sandbox.folder("team");
    sandbox.write("team/wharf.toml", "");
    sandbox.env("WHARF_CONFIG", sandbox.path("team/wharf.toml").to_str().unwrap());
    let refused = sandbox.run_in(&own, &["--json", "up", "--image", BASE]);
    denied(&refused, "invariant", "configuration of Wharf");
    sandbox.folder("policies");
    sandbox.write("policies/rule.rhai", "fn pre_create(ctx) { }");
    sandbox.write("team/wharf.toml", "[[policy]]\nname = \"rule\"\nscript = \"../policies/rule.rhai\"\n");
    let refused = sandbox.run_in(&sandbox.path("policies"), &["--json", "up", "--image", BASE]);
    denied(&refused, "invariant", "policy 'rule'");
    // The imports are in a subfolder, which could itself be a project.
    let lib = sandbox.folder("policies/lib");
    sandbox.write("policies/lib/names.rhai", "fn name() { \"x\" }");
    sandbox.write(
        "policies/rule.rhai",
        "import \"lib/names\" as names;\nfn pre_create(ctx) { let name = names::name(); }",
    );
    let refused = sandbox.run_in(&lib, &["--json", "up", "--image", BASE]);
    denied(&refused, "invariant", "policy imports");
}

fn sandbox_path(project: &Path, path: &str) -> String {
    project.join(path).canonicalize().unwrap().display().to_string()
}

/// Forwards a socket's connections to the engine's socket.
struct Forwarder;

impl Forwarder {
    fn start(path: &Path) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = std::os::unix::net::UnixStream::connect(engine::socket()) else { return };
                let pairs = [(client.try_clone(), server.try_clone()), (server.try_clone(), client.try_clone())];
                for (from, to) in pairs {
                    let (Ok(mut from), Ok(mut to)) = (from, to) else { continue };
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(std::net::Shutdown::Write);
                    });
                }
            }
        });
        Self
    }
}
