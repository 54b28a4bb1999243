//! Completions, asked for by a real bash with the script of `wharf completions bash`.

use std::process::{Command, Stdio};

use crate::service::serve::Serving;
use crate::support::sandbox::Sandbox;

/// Returns the candidates that bash gets for a line whose last word is unfinished.
#[track_caller]
fn completed(sandbox: &Sandbox, line: &str) -> Vec<String> {
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_wharf")).parent().unwrap();
    let mut bash = Command::new("bash");
    let wharf = sandbox.command(&[]);
    bash.env_clear().envs(wharf.get_envs().filter_map(|(name, value)| Some((name, value?))));
    bash.env("PATH", format!("{}:/usr/bin:/bin", program.display()));
    // As readline calls the function: the words, the number of the current one, and that word.
    let script = r#"
        source <(wharf completions bash)
        COMP_WORDS=($1); [[ $1 == *" " ]] && COMP_WORDS+=("")
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMP_TYPE=9
        _clap_complete_wharf wharf "${COMP_WORDS[COMP_CWORD]}"
        printf '%s\n' "${COMPREPLY[@]}""#;
    let output = bash.args(["--norc", "--noprofile", "-c", script, "bash", line]).current_dir(sandbox.project());
    let output = output.stdin(Stdio::null()).output().expect("these tests need bash");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{line}");
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| line.trim().to_owned())
        .filter(|line| !line.is_empty())
        .collect()
}

#[test]
fn bash_completes_workspaces_fields_policies_and_snapshots() {
    let sandbox = Sandbox::new();
    sandbox.json(&["up", "-e", "COLOR=red"]);
    let other = sandbox.folder("shop");
    assert_eq!(sandbox.run_in(&other, &["up"]).code, 0);
    assert_eq!(completed(&sandbox, "wharf stop "), ["project", "shop"]);
    assert_eq!(completed(&sandbox, "wharf logs sh"), ["shop"]);
    // An id that is begun is completed to the end.
    let id = sandbox.id_of("shop", &other);
    assert_eq!(completed(&sandbox, &format!("wharf inspect {}", &id[..8])), [id]);
    assert_eq!(completed(&sandbox, "wharf why com"), ["command"]);
    assert_eq!(completed(&sandbox, "wharf why env.C"), ["env.COLOR"]);
    assert_eq!(completed(&sandbox, "wharf why shop env.C"), Vec::<String>::new());
    assert_eq!(completed(&sandbox, "wharf why shop resources.m"), ["resources.memory"]);
    assert_eq!(completed(&sandbox, "wharf policy promote image"), ["image-selector"]);
    assert_eq!(completed(&sandbox, "wharf audit --hook pre-c"), ["pre-create"]);
    assert_eq!(completed(&sandbox, "wharf audit --out"), ["--outcome"]);
    assert!(completed(&sandbox, "wharf re").contains(&"restart".to_owned()));
    sandbox.run(&["snapshot", "create", "--name", "before"]).ok();
    let snapshots = completed(&sandbox, "wharf snapshot restore ");
    assert!(snapshots.len() == 1 && snapshots[0].contains("before"), "{snapshots:?}");
    // Names that several workspaces have are of no use.
    let twin = sandbox.folder("other/shop");
    assert_eq!(sandbox.run_in(&twin, &["up"]).code, 0);
    let mut both = [sandbox.id_of("shop", &other), sandbox.id_of("shop", &twin)];
    both.sort();
    assert_eq!(completed(&sandbox, "wharf stop s"), both);
}

#[test]
fn names_come_from_the_service_that_the_settings_name() {
    let mut sandbox = Sandbox::new();
    sandbox.up();
    sandbox.run(&["snapshot", "create", "--name", "before"]).ok();
    let serving = Serving::start(&sandbox, &[]);
    sandbox.env("WHARF_SERVER", sandbox.path("state/wharf.sock").to_str().unwrap());
    // This machine has no state of its own.
    sandbox.env("WHARF_STATE_DIR", sandbox.path("none").to_str().unwrap());
    assert_eq!(completed(&sandbox, "wharf stop "), ["project"]);
    assert_eq!(completed(&sandbox, "wharf why project resources.m"), ["resources.memory"]);
    assert_eq!(completed(&sandbox, "wharf policy diff image"), ["image-selector"]);
    assert_eq!(completed(&sandbox, "wharf snapshot rm ").len(), 1);
    assert!(!sandbox.path("none").exists());
    serving.terminate();
}

#[test]
fn a_completion_without_state_engine_or_configuration_is_silent_and_makes_nothing() {
    let mut sandbox = Sandbox::new();
    sandbox.env("DOCKER_HOST", "unix:///no/such.sock");
    let state = sandbox.path("none");
    sandbox.env("WHARF_STATE_DIR", state.to_str().unwrap());
    assert_eq!(completed(&sandbox, "wharf stop x"), Vec::<String>::new());
    assert_eq!(completed(&sandbox, "wharf why com"), ["command"]);
    assert!(!state.exists());
    sandbox.config("nonsense = true\n");
    assert_eq!(completed(&sandbox, "wharf stop x"), Vec::<String>::new());
    assert_eq!(completed(&sandbox, "wharf --server unix:///no/such.sock stop x"), Vec::<String>::new());
    assert!(completed(&sandbox, "wharf st").contains(&"start".to_owned()));
}

#[test]
fn every_shell_has_a_script() {
    let sandbox = Sandbox::new();
    for (shell, word) in [("bash", "complete -o"), ("zsh", "compdef"), ("fish", "complete --keep-order")] {
        let script = sandbox.run(&["completions", shell]).ok().text();
        assert!(script.contains(word) && script.contains("_WHARF_COMPLETE"), "{shell}: {script}");
    }
}
