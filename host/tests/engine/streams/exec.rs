//! `exec` is accurate: codes, bytes and streams are those of the command.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::service::remote::both_ways;
use crate::support::engine_api as engine;
use crate::support::sandbox::{Sandbox, until};

#[test]
fn the_exit_code_is_the_commands() {
    let sandbox = Sandbox::new();
    sandbox.up();
    sandbox.write("project/not-executable", "x");
    for (command, code) in [
        (&["true"][..], 0),
        (&["false"], 1),
        (&["sh", "-c", "exit 7"], 7),
        (&["sh", "-c", "exit 125"], 125),
        (&["sh", "-c", "exit 126"], 126),
        (&["sh", "-c", "exit 127"], 127),
        (&["sh", "-c", "exit 255"], 255),
        (&["sh", "-c", "kill -9 $$"], 137),
        (&["sh", "-c", "kill -TERM $$"], 143),
        (&["no-such-command"], 127),
        (&["/no/such/command"], 127),
        (&["/etc"], 126),
        (&["/workspace/not-executable"], 126),
    ] {
        let mut args = vec!["exec", "--"];
        args.extend(command);
        let output = sandbox.run(&args);
        assert_eq!(output.code, code, "{command:?}: {}", output.stderr);
        let ours = command.len() == 1 && code > 1;
        assert_eq!(output.stderr.contains("wharf: "), ours, "{command:?}: {}", output.stderr);
    }
}

#[test]
fn wharfs_own_failures_are_125_with_a_reason() {
    let sandbox = Sandbox::new();
    let none = sandbox.run(&["--json", "exec", "--", "true"]);
    assert_eq!((none.code, &none.error()["code"]), (125, &json!("workspace-not-found")));
    sandbox.up();
    sandbox.json(&["stop", "--timeout", "1s"]);
    let stopped = sandbox.run(&["--json", "exec", "--", "true"]);
    assert_eq!((stopped.code, &stopped.error()["code"]), (125, &json!("not-running")));
    let bad = sandbox.run(&["--json", "exec", "-e", "NO_VALUE", "--", "true"]);
    assert_eq!((bad.code, &bad.error()["code"]), (125, &json!("bad-request")));
}

#[test]
fn a_detached_command_runs_on_and_one_that_does_not_exist_is_told() {
    let sandbox = Sandbox::new();
    sandbox.up();
    let output = sandbox.run(&["exec", "-d", "--", "sh", "-c", "sleep 0.3; echo done > /workspace/done"]).ok();
    assert_eq!((output.text().as_str(), output.stderr.as_str()), ("", ""));
    let begin = std::time::Instant::now();
    while sandbox.run(&["exec", "--", "cat", "/workspace/done"]).text() != "done\n" {
        assert!(begin.elapsed() < std::time::Duration::from_secs(30), "it did not run on");
    }
    let started = sandbox.json(&["exec", "-d", "--", "sleep", "60"]);
    let id = started["exec_id"].as_str().unwrap();
    assert_eq!(engine::get(&format!("/exec/{id}/json"))["Running"], json!(true));
    for (command, code) in [("/no/such/command", 127), ("/etc", 126)] {
        let output = sandbox.run(&["exec", "-d", "--", command]);
        assert_eq!(output.code, code, "{command}: {}", output.stderr);
    }
    assert_eq!(sandbox.run(&["exec", "-d", "-i", "--", "true"]).code, 2);
}

#[test]
fn stdout_and_stderr_stay_apart() {
    let sandbox = Sandbox::new();
    sandbox.up();
    let output = sandbox.run(&["exec", "--", "sh", "-c", "echo out; echo err >&2; echo out again"]).ok();
    assert_eq!((output.text().as_str(), output.stderr.as_str()), ("out\nout again\n", "err\n"));
    // Text that looks like an engine message is still output.
    let output = sandbox.run(&["exec", "--", "printf", "OCI runtime exec failed: exec failed"]).ok();
    assert_eq!((output.text().as_str(), output.stderr.as_str()), ("OCI runtime exec failed: exec failed", ""));
}

/// Returns bytes that no text filter would pass unchanged.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}

#[test]
fn twenty_megabytes_come_back_as_they_went() {
    let sandbox = Sandbox::new();
    sandbox.up();
    let bytes = noise(20 << 20);
    let output = sandbox.feed(&["exec", "-i", "--", "cat"], bytes.clone());
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert!(output.stdout == bytes, "{} bytes of {} came back, or others", output.stdout.len(), bytes.len());
}

#[test]
fn the_end_of_stdin_is_the_end_of_the_commands_input() {
    let sandbox = Sandbox::new();
    sandbox.up();
    for count in [0, 1, 100_000] {
        let output = sandbox.feed(&["exec", "-i", "--", "sh", "-c", "wc -c; echo after"], noise(count));
        assert_eq!((output.code, output.text()), (0, format!("{count}\nafter\n")));
    }
    // Without -i nothing is passed on, and the command sees an empty input.
    let output = sandbox.feed(&["exec", "--", "wc", "-c"], noise(10));
    assert_eq!((output.code, output.text().as_str()), (0, "0\n"));
    // A command that stops reading early causes no error.
    let output = sandbox.feed(&["exec", "-i", "--", "head", "-c", "5"], noise(3 << 20));
    assert_eq!((output.code, output.stdout), (0, noise(5)));
}

#[test]
fn a_reader_that_goes_away_ends_wharf_quietly() {
    let sandbox = Sandbox::new();
    sandbox.up();
    let mut run = sandbox.spawn(&["exec", "--", "sh", "-c", "yes | head -n 1000000"]);
    drop(run.child().stdout.take());
    let output = run.finish();
    assert_eq!((output.code, output.stderr.as_str()), (0, ""));
}

#[test]
fn environment_user_and_folder_can_be_chosen() {
    let sandbox = Sandbox::new();
    sandbox.up();
    let line = "id -u; id -g; pwd; echo \"$A|$B\"";
    let args =
        ["exec", "-e", "A=1=2 3", "-e", "B=", "-u", "1000:1001", "-w", "/tmp", "project", "--", "sh", "-c", line];
    assert_eq!(sandbox.run(&args).ok().text(), "1000\n1001\n/tmp\n1=2 3|\n");
    assert_eq!(sandbox.sh("id -u; pwd; echo \"[$A]\""), "0\n/workspace\n[]\n");
    let nowhere = sandbox.run(&["exec", "-w", "/no/such/folder", "--", "true"]);
    assert_ne!(nowhere.code, 0);
    assert!(nowhere.stderr.contains("/no/such/folder"), "{}", nowhere.stderr);
    let relative = sandbox.run(&["--json", "exec", "-w", "tmp", "--", "true"]);
    assert_eq!((relative.code, relative.error()["code"].as_str()), (125, Some("bad-request")), "{}", relative.stderr);
    let nobody = sandbox.run(&["exec", "-u", "nobody-here", "--", "true"]);
    assert_ne!(nobody.code, 0);
    assert!(nobody.stderr.contains("nobody-here"), "{}", nobody.stderr);
    let large = sandbox.run(&["exec", "-u", "5000000000", "--", "true"]);
    assert_eq!((large.code, large.text().as_str()), (125, ""), "{}", large.stderr);
    assert!(large.stderr.contains("must be in range"), "{}", large.stderr);
}

#[test]
fn a_process_that_ends_while_its_child_lives_on_does_not_hold_exec() {
    both_ways(|sandbox| {
        sandbox.up();
        let output = sandbox.run(&["exec", "--", "sh", "-c", "echo begun; sleep 1000 & exit 4"]);
        assert_eq!((output.code, output.text().as_str()), (4, "begun\n"));
        // Its later output is not awaited, which is reported.
        assert!(output.stderr.contains("still has its output open"), "{}", output.stderr);
        assert!(sandbox.sh("ps").contains("sleep 1000"));
        // Output that arrives soon is shown, and is known to be complete.
        let output = sandbox.run(&["exec", "--", "sh", "-c", "(sleep 0.3; echo late) & echo hi"]).ok();
        assert_eq!((output.text().as_str(), output.stderr.as_str()), ("hi\nlate\n", ""));
    });
}

/// Returns whether processes with this word in their command run in the workspace.
fn runs(sandbox: &Sandbox, word: &str) -> bool {
    sandbox.sh("ps").contains(word)
}

#[test]
fn a_limit_ends_a_command_whose_output_nobody_reads_or_whose_reader_went_away() {
    both_ways(|sandbox| {
        sandbox.up();
        let begin = Instant::now();
        let mut run = sandbox.spawn(&["exec", "--timeout", "1s", "--", "yes", "unread"]);
        until("it has ended", || run.child().try_wait().unwrap().is_some());
        assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
        let output = run.finish();
        assert_eq!(output.code, 124, "{}", output.stderr);
        assert!(output.stderr.contains("longer than 1 s"), "{}", output.stderr);
        until("it is gone", || !runs(sandbox, "yes unread"));

        let mut run = sandbox.spawn(&["exec", "--timeout", "300s", "--", "yes", "left"]);
        until("it runs", || runs(sandbox, "yes left"));
        drop(run.child().stdout.take());
        let output = run.finish();
        assert_eq!((output.code, output.stderr.as_str()), (0, ""));
        until("it is gone", || !runs(sandbox, "yes left"));
    });
}

#[test]
fn a_command_that_is_in_time_loses_nothing_to_a_reader_that_is_not() {
    both_ways(|sandbox| {
        sandbox.up();
        let run = sandbox.spawn(&["exec", "--timeout", "2s", "--", "sh", "-c", "head -c 300000 /dev/zero; exit 3"]);
        std::thread::sleep(Duration::from_secs(4));
        let output = run.finish();
        assert_eq!((output.code, output.stdout.len(), output.stderr.as_str()), (3, 300_000, ""));
    });
}

#[test]
fn a_container_that_dies_meanwhile_is_not_a_success() {
    let sandbox = Sandbox::new();
    let up = sandbox.up();
    let run = sandbox.spawn(&["exec", "--", "sh", "-c", "touch /workspace/begun; sleep 1000"]);
    crate::support::sandbox::until("the command runs", || sandbox.path("project/begun").exists());
    engine::post(&format!("/containers/{}/kill", up["container_id"].as_str().unwrap()), &json!(null)).done();
    let output = run.finish();
    assert_ne!(output.code, 0, "{}", output.text());
}

#[test]
fn many_commands_at_once_get_their_own_output() {
    let sandbox = Sandbox::new();
    sandbox.up();
    let runs: Vec<_> = (0..12)
        .map(|number| {
            let line = format!("for i in 1 2 3 4 5; do echo {number}; done; exit {number}");
            (number, sandbox.spawn(&["exec", "--", "sh", "-c", &line]))
        })
        .collect();
    for (number, run) in runs {
        let output = run.finish();
        assert_eq!((output.code, output.text()), (number, format!("{number}\n").repeat(5)), "{}", output.stderr);
    }
}

#[test]
fn a_command_that_takes_too_long_is_killed_with_its_children() {
    let sandbox = Sandbox::new();
    sandbox.up();
    let line = "echo begun; sleep 12345 & sleep 12345; echo never";
    let output = sandbox.run(&["exec", "--timeout", "1s", "--", "sh", "-c", line]);
    assert_eq!((output.code, output.text().as_str()), (124, "begun\n"), "{}", output.stderr);
    assert!(output.stderr.contains("longer than 1 s"), "{}", output.stderr);
    crate::support::sandbox::until("its children are gone", || !sandbox.sh("ps").contains("sleep 12345"));
    // A command that ends in time is not affected.
    assert_eq!(sandbox.run(&["exec", "--timeout", "20s", "--", "sh", "-c", "exit 3"]).code, 3);
    assert_eq!(sandbox.run(&["exec", "--timeout", "soon", "--", "true"]).code, 2);
}

#[test]
fn a_limit_says_so_where_the_engines_processes_are_not_seen() {
    let sandbox = Sandbox::new();
    sandbox.up();
    // As in a container that has the engine's socket.
    let apart = |args: &[&str]| {
        let wharf = sandbox.command(args);
        let mut command = std::process::Command::new("unshare");
        command
            .args(["--pid", "--fork", "--mount-proc", "--kill-child"])
            .arg(wharf.get_program())
            .args(wharf.get_args());
        for (name, value) in wharf.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.current_dir(sandbox.project()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        crate::support::process::Running::new(command.spawn().unwrap())
    };
    let late = |output: crate::support::process::Output| {
        assert_eq!(output.code, 125, "{}", output.stderr);
        assert!(output.stderr.contains("not visible from here, so the command keeps running"), "{}", output.stderr);
    };
    late(apart(&["exec", "--timeout", "1s", "--", "sleep", "20"]).finish());
    assert!(sandbox.sh("ps").contains("sleep 20"));
    // A service may be in the same situation.
    let service = apart(&["serve"]);
    let socket = sandbox.path("state/wharf.sock");
    crate::support::sandbox::until("the service answers", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
    let server = ["--server", socket.to_str().unwrap()];
    late(sandbox.run(&[&server[..], &["exec", "--timeout", "1s", "--", "sleep", "21"]].concat()));
    assert!(sandbox.run(&[&server[..], &["exec", "--", "ps"]].concat()).ok().text().contains("sleep 21"));
    drop(service);
}

#[test]
fn a_variable_without_a_value_has_the_one_of_who_calls() {
    let mut sandbox = Sandbox::new();
    sandbox.env("FROM_HERE", "it is from here");
    sandbox.up();
    let line = ["--", "sh", "-c", "echo $FROM_HERE"];
    assert_eq!(sandbox.run(&[&["exec", "-e", "FROM_HERE"], &line[..]].concat()).ok().text(), "it is from here\n");
    let missing = sandbox.run(&[&["--json", "exec", "-e", "NOT_HERE"], &line[..]].concat());
    assert_eq!((missing.code, missing.error()["code"].as_str()), (125, Some("bad-request")), "{}", missing.stderr);
}
