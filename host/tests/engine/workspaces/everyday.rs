//! The everyday verbs: `up`, `stop`, `up` brings the same workspace back, and exit codes tell how it went.

use std::process::{Command, Stdio};

use serde_json::json;

use crate::service::remote::{Both, both_ways};
use crate::support::process::{Output, Running, until};
use crate::support::sandbox::Sandbox;

#[test]
fn up_after_a_stop_means_the_recorded_workspace_with_all_of_its_flags() {
    both_ways(|sandbox| {
        let flags = [
            "--cpus",
            "0.5",
            "--pids",
            "77",
            "-p",
            "8080",
            "-e",
            "COLOR=red",
            "-l",
            "team=web",
            "--tmpfs",
            "/cache:8MiB",
        ];
        let first = sandbox.json(&[&["up"], &flags[..], &["--", "sleep", "6543"]].concat());
        sandbox.sh("echo kept > /kept");
        sandbox.run(&["stop", "-t", "1s"]).ok();
        let second = sandbox.json(&["up"]);
        assert_eq!((&second["container_id"], &second["state"]), (&first["container_id"], &json!("running")));
        assert_eq!(sandbox.sh("cat /kept; echo $COLOR"), "kept\nred\n");
        assert_eq!(sandbox.run(&["plan", "--diff"]).ok().code, 0);
        // A flag of its own comes over the recorded ones, which stay.
        let other = sandbox.run(&["--json", "up", "--cpus", "0.7"]);
        assert_eq!(other.code, 7, "{}", other.stderr);
        let message = other.error()["message"].as_str().unwrap().to_owned();
        assert!(message.contains("resources.cpus") && !message.contains("COLOR"), "{message}");
        let replaced = sandbox.json(&["up", "--cpus", "0.7", "--recreate"]);
        assert_ne!(replaced["container_id"], first["container_id"]);
        assert_eq!(sandbox.sh("echo $COLOR"), "red\n");
        // Without them, everything that they asked for is a difference.
        let fresh = sandbox.run(&["up", "--fresh"]);
        assert_eq!(fresh.code, 7, "{}", fresh.stderr);
        for field in ["resources.cpus", "env.COLOR", "labels.team", "ports.8080/tcp", "command", "tmpfs./cache"] {
            assert!(fresh.stderr.contains(field), "{field}: {}", fresh.stderr);
        }
        assert_eq!(sandbox.run(&["plan", "--diff", "--fresh"]).code, 7);
        assert!(fresh.stderr.contains("'wharf start'") && fresh.stderr.contains("--recreate"), "{}", fresh.stderr);
        sandbox.run(&["up", "--fresh", "--recreate", "-q"]).ok();
        assert_eq!(sandbox.sh("echo \"[$COLOR]\""), "[]\n");
    });
}

#[test]
fn secrets_of_an_earlier_up_are_kept_although_no_record_has_them() {
    let sandbox = Sandbox::new();
    sandbox.config("[secrets]\nenv = [\"API_TOKEN\"]\n");
    let flags = [
        "-e",
        "API_TOKEN=of>much&value",
        "-e",
        "URL=https://u:of>much&value@db",
        "--health-cmd",
        "test x = of>much&value",
    ];
    let first = sandbox.json(&[&["up"], &flags[..]].concat());
    sandbox.run(&["stop", "-t", "1s"]).ok();
    let second = sandbox.run(&["--json", "up"]).ok();
    assert_eq!(second.json()["container_id"], first["container_id"]);
    assert!(!second.stdout.windows(8).any(|part| part == b"of>much&"), "{}", second.text());
    let replaced = sandbox.json(&["up", "--pids", "99", "--recreate"]);
    assert_ne!(replaced["container_id"], first["container_id"]);
    assert_eq!(sandbox.sh("echo \"$API_TOKEN $URL\""), "of>much&value https://u:of>much&value@db\n");
    // With the container the value is gone, and stars are no value.
    crate::support::engine_api::call(
        "DELETE",
        &format!("/containers/{}?force=1", replaced["container_id"].as_str().unwrap()),
        b"",
    );
    let gone = sandbox.run(&["up"]);
    assert_eq!(gone.code, 2, "{}", gone.stderr);
    assert!(gone.stderr.contains("env.API_TOKEN is a secret"), "{}", gone.stderr);
}

#[test]
fn a_project_file_that_was_excluded_stays_excluded() {
    let sandbox = Sandbox::new();
    sandbox.write("project/.devcontainer.json", r#"{"containerEnv": {"FROM_FILE": "yes"}}"#);
    let first = sandbox.json(&["up", "--no-devcontainer"]);
    assert_eq!(sandbox.json(&["up"])["container_id"], first["container_id"]);
    assert_eq!(sandbox.run(&["plan", "--diff"]).code, 0);
    assert_eq!(sandbox.run(&["up", "--fresh"]).code, 7);
}

#[test]
fn up_of_a_workspace_that_is_not_in_order_exits_with_8() {
    both_ways(|sandbox| {
        let ended = sandbox.run(&["up", "--", "sh", "-c", "exit 3"]);
        assert_eq!(ended.code, 8, "{}", ended.stderr);
        assert!(ended.text().contains("is exited"), "{}", ended.text());
        sandbox.run(&["down"]).ok();
        sandbox.write("project/.devcontainer.json", r#"{"postCreateCommand": "exit 5"}"#);
        let degraded = sandbox.run(&["--json", "up"]);
        assert_eq!((degraded.code, degraded.json()["state"].as_str()), (8, Some("running")), "{}", degraded.stderr);
        assert_eq!(sandbox.run(&["up", "-q"]).code, 8, "it is still degraded");
        sandbox.write("project/.devcontainer.json", r#"{"postCreateCommand": "true"}"#);
        assert_eq!(sandbox.run(&["up", "--recreate", "-q"]).ok().code, 0);
    });
}

#[test]
fn a_repeated_up_says_that_the_workspace_is_already_running() {
    let sandbox = Sandbox::new();
    assert!(!sandbox.run(&["up"]).ok().stderr.contains("already running"));
    let again = sandbox.run(&["up"]).ok();
    assert!(again.stderr.contains(&format!("{} is already running", sandbox.id())), "{}", again.stderr);
    assert!(!sandbox.run(&["up", "-q"]).ok().stderr.contains("already"));
}

#[test]
fn a_signal_ends_exec_and_the_command_with_it() {
    let both = Both::new();
    both.sandbox.up();
    let sleeps = |seconds: &str| {
        let line = format!("cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'sleep[ ]{seconds}'");
        both.sandbox.run(&["exec", "--", "sh", "-c", &line]).text().trim() != "0"
    };
    for (seconds, signal, code, args) in [
        ("7711", "INT", 130, vec!["exec", "--"]),
        ("7712", "TERM", 143, vec!["exec", "--"]),
        ("7713", "INT", 130, vec!["--server", &both.server, "exec", "--"]),
    ] {
        let mut running = both.sandbox.spawn(&[args.as_slice(), &["sleep", seconds]].concat());
        until("it runs", || sleeps(seconds));
        running.signal(signal);
        let output = running.finish();
        assert_eq!(output.code, code, "{}", output.stderr);
        assert!(output.stderr.contains("interrupted; the command was killed"), "{}", output.stderr);
        until("it is killed", || !sleeps(seconds));
    }
}

#[test]
fn a_signal_that_the_caller_ignores_stays_ignored() {
    let sandbox = Sandbox::new();
    sandbox.up();
    for (signal, args) in
        [("HUP", "exec -- sleep 2"), ("INT", "exec -- sleep 2"), ("INT", "wait --for exited --timeout 2s")]
    {
        let wharf = sandbox.command(&[]);
        let line = format!("trap '' {signal}; echo ready; exec '{}' {args}", wharf.get_program().to_str().unwrap());
        let mut command = Command::new("sh");
        command
            .args(["-c", &line])
            .current_dir(sandbox.project())
            .env_clear()
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.envs(wharf.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let mut running = Running::new(command.spawn().unwrap());
        std::thread::sleep(std::time::Duration::from_millis(700));
        running.signal(signal);
        let output = running.finish();
        let waited = args.starts_with("wait");
        assert_eq!(output.code, i32::from(waited), "{signal} {args}: {}", output.stderr);
        assert!(!output.stderr.contains("interrupted"), "{signal} {args}: {}", output.stderr);
    }
}

/// Runs a command on a terminal, with this input.
fn on_a_terminal(sandbox: &Sandbox, args: &[&str], input: &str) -> Output {
    let wharf = sandbox.command(args);
    let words: Vec<String> = std::iter::once(wharf.get_program())
        .chain(wharf.get_args())
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    let mut command = Command::new("script");
    command.args(["-qec", &words.join(" "), "/dev/null"]).current_dir(sandbox.project()).env_clear();
    command.envs(wharf.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("script(1) of the package bsdutils");
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), input.as_bytes()).unwrap();
    Output::of(child.wait_with_output().unwrap())
}

#[test]
fn removing_all_workspaces_asks_on_a_terminal() {
    let sandbox = Sandbox::new();
    sandbox.up();
    for args in [&["down", "--all"][..], &["rm", "--all", "--force"]] {
        let asked = on_a_terminal(&sandbox, args, "n\n");
        assert_eq!(asked.code, 1, "{}", asked.text());
        assert!(
            asked.text().contains("remove 1 workspace: ") && asked.text().contains("nothing was removed"),
            "{}",
            asked.text()
        );
        assert_eq!(sandbox.own_containers().len(), 1);
    }
    let yes = on_a_terminal(&sandbox, &["down", "--all"], "y\n");
    assert_eq!(yes.code, 0, "{}", yes.text());
    assert!(sandbox.own_containers().is_empty());
    sandbox.up();
    assert_eq!(on_a_terminal(&sandbox, &["down", "--all", "--yes"], "").code, 0);
    sandbox.up();
    // A script cannot answer.
    sandbox.run(&["down", "--all"]).ok();
    sandbox.assert_nothing_left();
}

#[test]
fn the_entry_point_of_an_image_does_not_swallow_the_command_that_keeps_a_workspace_up() {
    let sandbox = Sandbox::new();
    let base = crate::support::engine_api::BASE;
    sandbox.write("image/Dockerfile", format!("FROM {base}\nENTRYPOINT [\"cat\"]\n"));
    let folder = sandbox.path("image").display().to_string();
    let image = sandbox.json(&["image", "build", &folder])["reference"].as_str().unwrap().to_owned();
    sandbox.config(&format!("[allow]\nimages = [\"{image}\"]\n"));
    assert_eq!(sandbox.json(&["up", "--image", &image])["state"], "running");
    sandbox.run(&["down"]).ok();
    // A command of its own gets the image's entry point, as with docker run.
    sandbox.run(&["up", "--image", &image, "--", "/etc/hostname"]);
    crate::support::process::until("cat printed it", || sandbox.run(&["logs"]).text().contains(&sandbox.id()));
    sandbox.run(&["down"]).ok();
    let file = |text: &str| sandbox.write("project/.devcontainer.json", text.replace("IMAGE", &image));
    file(r#"{"image": "IMAGE"}"#);
    assert_eq!(sandbox.json(&["up"])["state"], "running");
    sandbox.run(&["down"]).ok();
    file(r#"{"image": "IMAGE", "overrideCommand": false}"#);
    let entered = sandbox.json(&["plan"]);
    assert_eq!(entered["spec"]["entrypoint"], json!(["cat"]));
}
