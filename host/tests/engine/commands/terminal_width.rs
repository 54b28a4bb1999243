//! The output of commands on terminals of different widths, and without one.

use crate::support::sandbox::Sandbox;
use crate::support::terminal::on_columns;

/// A sandbox with a running, a stopped and a crashed workspace.
fn three() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.script("rule.rhai", "fn pre_create(ctx) {\n    ctx.spec.env.TEAM = \"blue\";\n}\n");
    sandbox.json(&["up", "-p", "8080", "--memory", "300MiB", "-e", "TOKEN=abc", "-l", "color=red"]);
    for (name, args) in [("shop", &["up"][..]), ("worker", &["up", "--", "sh", "-c", "sleep 1; exit 3"])] {
        let folder = sandbox.folder(name);
        assert_eq!(sandbox.run_in(&folder, args).code, 0);
    }
    sandbox.run(&["stop", "shop"]).ok();
    sandbox.run(&["wait", "worker", "--for", "exited"]).ok();
    sandbox
}

#[test]
fn tables_fit_80_columns_and_are_whole_on_160_and_without_a_terminal() {
    let sandbox = three();
    let narrow = on_columns(&sandbox, 80, "ls");
    insta::assert_snapshot!("ls_80", sandbox.masked_columns(&narrow));
    insta::assert_snapshot!("ls_160", sandbox.masked_columns(&on_columns(&sandbox, 160, "ls")));
    let piped = sandbox.run(&["ls"]).ok().text();
    assert_eq!(piped.lines().count(), 4, "{piped}");
    assert!(piped.contains(&sandbox.id()) && piped.contains(sandbox.project().to_str().unwrap()), "{piped}");
    assert!(!piped.contains('\x1b') && !piped.contains('…'), "{piped}");
    for line in [
        "ls",
        "policy ls",
        "audit",
        "plan --all",
        "why --all",
        "inspect",
        "doctor",
        "config show",
        "idle",
        "stats --no-stream",
        "cleanup --dry-run",
    ] {
        for columns in [40, 80, 200] {
            let shown = on_columns(&sandbox, columns, line);
            for shown in shown.lines() {
                assert!(shown.chars().count() <= columns, "{line} on {columns}: {shown}");
            }
        }
        let words: Vec<&str> = line.split(' ').collect();
        let piped = sandbox.run(&words).text();
        assert!(!piped.contains('\x1b') && !piped.contains('…'), "{line}: {piped}");
    }
}

#[test]
fn a_stop_on_purpose_does_not_look_like_a_crash() {
    let sandbox = three();
    let list = sandbox.run(&["ls"]).ok().text();
    let of = |name: &str| list.lines().find(|line| line.contains(name)).unwrap().to_owned();
    assert!(of("shop-").contains("  stopped  ") && of("worker-").contains("  exited (3)  "), "{list}");
    let ended = |name: &str| sandbox.json(&["inspect", name])["ended"].clone();
    assert_eq!((ended("shop"), ended("worker"), ended("project")), ("stopped".into(), "exited".into(), ().into()));
    let shown = sandbox.run(&["inspect", "worker"]).ok().text();
    assert!(shown.contains("its command ended with exit code 3"), "{shown}");
    // A workspace that crashes after another start is not stopped any more.
    let again = sandbox.folder("again");
    let args = [
        "up",
        "--",
        "sh",
        "-c",
        "[ -e /tmp/x ] && exit 4; touch /tmp/x; trap 'exit 0' TERM; while :; do sleep 0.1; done",
    ];
    assert_eq!(sandbox.run_in(&again, &args).code, 0);
    sandbox.run(&["stop", "again"]).ok();
    assert_eq!(ended("again"), "stopped");
    sandbox.run(&["start", "again"]);
    sandbox.run(&["wait", "again", "--for", "exited"]).ok();
    assert_eq!(ended("again"), "exited");
}

#[test]
fn colours_have_a_meaning_and_go_with_no_color() {
    let sandbox = three();
    let coloured = crate::support::terminal::raw(&sandbox, 120, "ls", false);
    for state in ["\x1b[32mrunning", "\x1b[90mstopped", "\x1b[31mexited (3)"] {
        assert!(coloured.contains(state), "{coloured:?}");
    }
    assert!(!crate::support::terminal::raw(&sandbox, 120, "ls", true).contains('\x1b'));
}

#[test]
fn plan_and_why_hide_defaults_and_say_so() {
    let sandbox = three();
    insta::assert_snapshot!("plan_80", sandbox.masked_columns(&on_columns(&sandbox, 80, "plan --cpus 1")));
    insta::assert_snapshot!("why_80", sandbox.masked_columns(&on_columns(&sandbox, 80, "why")));
    for command in ["plan", "why"] {
        let few = sandbox.run(&[command]).ok().text();
        let all = sandbox.run(&[command, "--all"]).ok().text();
        assert!(few.contains("--all shows every field") && !few.contains("working_dir"), "{few}");
        assert!(!all.contains("hidden") && all.contains("working_dir"), "{all}");
    }
}

#[test]
fn inspect_shows_everything_in_sections() {
    let sandbox = three();
    insta::assert_snapshot!("inspect_80", sandbox.masked_columns(&on_columns(&sandbox, 80, "inspect")));
    let json = sandbox.json(&["inspect"]);
    assert_eq!(json["fields"]["resources.memory"], 300 << 20);
    assert_eq!(json["fields"]["env.TOKEN"], "***");
}

#[test]
fn the_help_of_up_fits_80_columns() {
    let sandbox = Sandbox::new();
    insta::assert_snapshot!("up_help_80", on_columns(&sandbox, 80, "up -h"));
}

#[test]
fn a_closed_reader_ends_every_command_quietly() {
    let sandbox = three();
    let wharf = env!("CARGO_BIN_EXE_wharf");
    for line in [
        "completions bash",
        "--help",
        "ls",
        "config show",
        "audit",
        "plan --all",
        "why --all",
        "inspect",
        "man",
        "script docs",
        "--json ls",
    ] {
        // The reader is gone before the first write.
        let script = format!("{wharf} {line} | true; echo code ${{PIPESTATUS[0]}}");
        let mut bash = std::process::Command::new("bash");
        let command = sandbox.command(&[]);
        bash.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let output = bash.args(["-c", &script]).current_dir(sandbox.project()).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!((out.as_ref(), err.as_ref()), ("code 0\n", ""), "{line}");
    }
}

#[test]
fn a_manual_page_is_written_for_every_command() {
    let sandbox = Sandbox::new();
    let folder = sandbox.path("man1");
    let written = sandbox.json(&["man", "--dir", folder.to_str().unwrap()]);
    let written = written.as_array().unwrap();
    assert!(written.len() > 70, "{}", written.len());
    for path in written {
        let page = std::fs::read_to_string(path.as_str().unwrap()).unwrap();
        for part in [".TH ", ".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION"] {
            assert!(page.contains(part), "{path}: {part}");
        }
    }
    assert!(folder.join("wharf-policy-replay.1").exists() && folder.join("wharf.1").exists());
    let text = sandbox.run(&["man"]).ok().text();
    assert!(text.contains(".TH wharf 1"), "{text}");
    // groff's own warnings find errors of the markup.
    if std::process::Command::new("groff").arg("--version").output().is_ok() {
        for page in ["wharf.1", "wharf-up.1", "wharf-policy-replay.1"] {
            let groff = std::process::Command::new("groff")
                .args(["-man", "-Tutf8", "-ww", "-P-cbou"])
                .arg(folder.join(page))
                .output();
            let groff = groff.unwrap();
            assert_eq!(String::from_utf8_lossy(&groff.stderr), "", "{page}");
            let shown = String::from_utf8_lossy(&groff.stdout).into_owned();
            assert!(shown.contains("SYNOPSIS"), "{page}: {shown}");
        }
    }
}
