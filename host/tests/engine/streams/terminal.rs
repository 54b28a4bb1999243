//! Terminal sessions through a real terminal: `script` of util-linux gives `wharf` a pty.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::service::remote::both_ways;
use crate::support::sandbox::{Sandbox, until};

/// Runs a shell line on a terminal of 33 by 111, and types each text once the one before it is shown. Returns the
/// exit code and the terminal's output.
#[track_caller]
fn on_a_terminal(sandbox: &Sandbox, line: &str, dialog: &[(&str, &str)]) -> (i32, String) {
    let start = sandbox.write("start.sh", format!("stty rows 33 cols 111\n{line}\n"));
    let mut script = Command::new("script");
    script.arg("-qec").arg(format!("sh {}", start.display())).arg("/dev/null").env_clear();
    let wharf = sandbox.command(&[]);
    script.envs(wharf.get_envs().filter_map(|(name, value)| Some((name, value?))));
    script.env("TERM", "xterm-test").env("SHELL", "/bin/sh").env("WHARF", env!("CARGO_BIN_EXE_wharf"));
    let mut child = script
        .current_dir(sandbox.project())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("`script` of util-linux (Debian: bsdutils) gives these tests a terminal");
    let shown = Arc::new(Mutex::new(Vec::new()));
    let mut screen = child.stdout.take().unwrap();
    let reader = std::thread::spawn({
        let shown = shown.clone();
        move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                shown.lock().unwrap().extend(&bytes[..count]);
            }
        }
    });
    let text = || String::from_utf8_lossy(&shown.lock().unwrap()).into_owned();
    let mut keyboard = child.stdin.take().unwrap();
    for (after, keys) in dialog {
        until(&format!("{after:?} on the terminal"), || text().contains(after));
        keyboard.write_all(keys.as_bytes()).unwrap();
    }
    let code = child.wait().unwrap().code().unwrap_or(-1);
    drop(keyboard);
    reader.join().unwrap();
    (code, text())
}

#[test]
fn a_command_gets_a_terminal_of_the_size_of_ours_and_its_code_comes_back() {
    let sandbox = Sandbox::new();
    sandbox.up();
    // The size arrives a moment after the start.
    let line = r#"exec $WHARF exec -it -- sh -c 'until [ "$(stty size 2>/dev/null)" = "33 111" ]; do sleep 0.05; done; echo $TERM; exit 9'"#;
    let (code, shown) = on_a_terminal(&sandbox, line, &[]);
    assert_eq!(code, 9, "{shown}");
    assert!(shown.contains("xterm-test\r\n"), "{shown:?}");
}

#[test]
fn a_shell_takes_what_is_typed_and_ends_with_its_code() {
    let sandbox = Sandbox::new();
    sandbox.up();
    let dialog = [("/workspace #", "echo a-$((20+3))-z\n"), ("a-23-z\r\n", "exit 5\n")];
    let (code, shown) = on_a_terminal(&sandbox, "exec $WHARF shell", &dialog);
    assert_eq!(code, 5, "{shown}");
}

#[test]
fn control_c_goes_to_the_command_and_the_terminal_is_as_it_was_afterwards() {
    let sandbox = Sandbox::new();
    sandbox.up();
    let line = "stty -a > ../before
        $WHARF exec -it -- sh -c 'trap \"echo caught; exit 3\" INT; echo ready; while :; do sleep 0.1; done'
        echo \"code $?\"
        stty -a > ../after
        cmp ../before ../after && echo restored";
    let (code, shown) = on_a_terminal(&sandbox, line, &[("ready\r\n", "\x03")]);
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("caught\r\n") && shown.contains("code 3\r\n") && shown.contains("restored"), "{shown:?}");
}

#[test]
fn the_command_is_told_when_the_terminal_changes_its_size() {
    let sandbox = Sandbox::new();
    sandbox.up();
    // Another process on the same terminal resizes it, and the kernel then signals wharf.
    let line = r#"( while ! [ -e resize ]; do sleep 0.05; done; stty rows 44 cols 122 < /dev/tty ) &
        exec $WHARF exec -it -- sh -c 'size() { until [ "$(stty size 2>/dev/null)" = "$1" ]; do sleep 0.05; done; }
        size "33 111"; touch resize; size "44 122"; echo resized'"#;
    let (code, shown) = on_a_terminal(&sandbox, line, &[]);
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("resized\r\n"), "{shown:?}");
}

#[test]
fn the_keys_for_detaching_leave_the_command_running() {
    both_ways(|sandbox| {
        sandbox.up();
        let line = "exec $WHARF exec -it -- sh -c 'echo ready; sleep 4321; true'";
        let (code, shown) = on_a_terminal(sandbox, line, &[("ready\r\n", "\x10\x11")]);
        assert_eq!(code, 0, "{shown}");
        assert!(shown.contains("detached; the command keeps running"), "{shown:?}");
        // If it had been ended, it would disappear within a moment.
        for _ in 0..5 {
            assert!(sandbox.sh("sleep 0.2; ps").contains("sleep 4321"));
        }
    });
}

#[test]
fn a_signal_that_ends_it_leaves_the_terminal_as_it_was() {
    both_ways(|sandbox| {
        sandbox.up();
        let line = "stty -a > ../before
            timeout --foreground -s TERM 2 $WHARF exec -it -- sh -c 'echo ready; sleep 100'
            echo \"code $?\"
            stty -a > ../after
            cmp ../before ../after && echo restored";
        let (code, shown) = on_a_terminal(sandbox, line, &[]);
        assert_eq!(code, 0, "{shown}");
        assert!(shown.contains("ready\r\n") && shown.contains("restored"), "{shown:?}");
    });
}

#[test]
fn a_terminal_is_refused_where_there_is_none() {
    let sandbox = Sandbox::new();
    sandbox.up();
    let refused = sandbox.run(&["--json", "exec", "-it", "--", "true"]);
    assert_eq!((refused.code, refused.error()["code"].as_str()), (125, Some("no-terminal")));
    // Piped input into a shell works without a terminal.
    let output = sandbox.feed(&["shell"], b"echo piped; exit 6\n".to_vec());
    assert_eq!((output.code, output.text().as_str()), (6, "piped\n"));
}

#[test]
fn top_fills_the_screen_and_leaves_the_terminal_as_it_was() {
    let sandbox = Sandbox::new();
    let id = sandbox.up()["id"].as_str().unwrap().to_owned();
    let line = "stty -a > ../before; $WHARF top; echo \"code $?\"; stty -a > ../after
        cmp ../before ../after && echo restored";
    // Sorted by memory, then by id; the chart names the selected one.
    let dialog = [("CPU of ", "m"), ("running", "nj"), ("q quits", "q")];
    let (code, shown) = on_a_terminal(&sandbox, line, &dialog);
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("code 0\r\n") && shown.contains("restored"), "{shown:?}");
    assert!(shown.contains(&format!("CPU of {id}")) && shown.contains("1 running, 0 not"), "{shown:?}");
    let (enter, leave) = (shown.find("\x1b[?1049h").unwrap(), shown.rfind("\x1b[?1049l").unwrap());
    assert!(enter < leave && shown.rfind("\x1b[?25h") > shown.rfind("\x1b[?25l"), "{shown:?}");
}

#[test]
fn top_restores_the_terminal_after_control_c_and_after_a_signal() {
    let sandbox = Sandbox::new();
    // The list is empty, which the output says.
    let line = "stty -a > ../before; $WHARF top; echo \"code $?\"
        ( sleep 1.5; kill -TERM $(cat ../pid) ) &
        sh -c 'echo $$ > ../pid; exec $WHARF top'
        echo \"killed $?\"; stty -a > ../after
        cmp ../before ../after && echo restored";
    let (code, shown) = on_a_terminal(&sandbox, line, &[("no workspace has a container", "\x03")]);
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("code 130\r\n") && shown.contains("killed 130\r\n"), "{shown:?}");
    assert!(shown.contains("restored") && shown.matches("\x1b[?1049l").count() >= 2, "{shown:?}");
}

#[test]
fn top_goes_on_when_a_workspace_goes_away_and_when_the_size_changes() {
    let sandbox = Sandbox::new();
    sandbox.up();
    let line = "( while ! [ -e ../seen ]; do sleep 0.05; done; $WHARF down; stty rows 12 cols 60 < /dev/tty ) > /dev/null 2>&1 &
        $WHARF top; echo \"code $?\"";
    let seen = sandbox.path("seen");
    let watcher = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(1500));
        std::fs::write(seen, "").unwrap();
    });
    let (code, shown) = on_a_terminal(&sandbox, line, &[("no workspace has a container", "q")]);
    watcher.join().unwrap();
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("1 running, 0 not") && shown.contains("0 running, 0 not"), "{shown:?}");
}

#[test]
fn live_statistics_are_drawn_again_until_control_c() {
    let sandbox = Sandbox::new();
    let id = sandbox.up()["id"].as_str().unwrap().to_owned();
    let (_, shown) =
        on_a_terminal(&sandbox, "trap : INT; $WHARF stats; echo \"code $?\"", &[("WRITTEN", ""), ("  0.", "\x03")]);
    assert!(shown.contains("code 130\r\n") && shown.matches(id.as_str()).count() >= 2, "{shown:?}");
}
