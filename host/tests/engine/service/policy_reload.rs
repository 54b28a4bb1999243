//! The service reloads its chain; an invalid edit leaves the current chain in place.

use super::serve::Serving;
use crate::support::engine_api as engine;
use crate::support::sandbox::{Sandbox, until};

fn note(text: &str) -> String {
    format!("fn event(ctx) {{ if ctx.event.kind == \"started\" {{ ctx.note(\"{text}\"); }} }}\nfn pre_exec(ctx) {{ }}")
}

/// Expects a note that the service's policies leave when the workspace restarts.
#[track_caller]
fn notes_after_restart(sandbox: &Sandbox, expected: &str) {
    // Through the engine itself, so that only the service calls policies.
    let container = sandbox.own_containers()[0]["Id"].as_str().unwrap().to_owned();
    let answer = engine::call("POST", &format!("/containers/{container}/restart?t=0"), b"");
    assert_eq!(answer.status, 204);
    let id = sandbox.id().parse().unwrap();
    let notes = || sandbox.store().workspace(&id).unwrap().unwrap().notes;
    until(&format!("there is the note {expected}"), || notes().iter().any(|note| note == expected));
}

/// Expects that `wharf policy reload` is refused with these words.
#[track_caller]
fn reload_refused(sandbox: &Sandbox, args: &[&str], words: &[&str]) {
    let output = sandbox.run(args);
    assert_eq!(output.code, 3, "{}", output.stderr);
    assert!(words.iter().all(|word| output.stderr.contains(word)), "{words:?}: {}", output.stderr);
}

fn chain(sandbox: &Sandbox) -> wharf::store::ChainStatus {
    sandbox.store().service().unwrap().unwrap().chain
}

#[test]
fn an_edit_is_taken_up_by_itself_and_a_bad_one_leaves_the_version_before_it() {
    let sandbox = Sandbox::new();
    sandbox.script("notes.rhai", &note("first"));
    sandbox.up();
    let serving = Serving::start(&sandbox, &[]);
    let file = "config/policies/notes.rhai";
    let tried = |count: u64| until("the reload was tried", || chain(&sandbox).attempts >= count);
    notes_after_restart(&sandbox, "first");

    // As editors do it: a temporary file that is renamed.
    sandbox.write("config/policies/aside", note("second"));
    std::fs::rename(sandbox.path("config/policies/aside"), sandbox.path(file)).unwrap();
    tried(1);
    notes_after_restart(&sandbox, "second");
    assert_eq!(chain(&sandbox).refused, None);

    sandbox.write(file, "fn event(ctx) { let x = ; }");
    tried(2);
    let why = chain(&sandbox).refused.unwrap();
    assert!(why.contains("notes.rhai:1"), "{why}");
    notes_after_restart(&sandbox, "second");
    let listed = sandbox.run(&["policy", "ls"]).ok().text();
    assert!(listed.contains("the service refused a reload") && listed.contains("notes.rhai:1"), "{listed}");
    let doctor = sandbox.run(&["doctor"]).text();
    assert!(doctor.contains("refused a reload"), "{doctor}");

    // The file is removed and restored.
    std::fs::remove_file(sandbox.path(file)).unwrap();
    tried(3);
    assert!(chain(&sandbox).refused.unwrap().contains("cannot be read"));
    sandbox.write(file, note("third"));
    tried(4);
    assert_eq!(chain(&sandbox).refused, None);
    notes_after_restart(&sandbox, "third");
    assert!(serving.terminate().contains("notes.rhai"), "the log has the errors");
}

#[test]
fn an_edit_of_what_a_script_imports_is_taken_up_too() {
    let sandbox = Sandbox::new();
    let lib = |text: &str| format!("fn text() {{ \"{text}\" }}");
    sandbox.write("config/policies/lib/words.rhai", lib("first"));
    sandbox.script(
        "notes.rhai",
        "import \"lib/words\" as words;\nfn event(ctx) { if ctx.event.kind == \"started\" { ctx.note(words::text()); } }",
    );
    sandbox.up();
    let serving = Serving::start(&sandbox, &[]);
    notes_after_restart(&sandbox, "first");
    sandbox.write("config/policies/lib/words.rhai", lib("second"));
    until("it was reloaded", || chain(&sandbox).attempts >= 1);
    assert_eq!(chain(&sandbox).refused, None);
    notes_after_restart(&sandbox, "second");
    assert_eq!(chain(&sandbox).attempts, 1, "nothing else has changed");
    serving.terminate();
}

#[test]
fn a_new_policy_that_was_refused_is_tried_again_when_its_file_is_corrected() {
    let sandbox = Sandbox::new();
    sandbox.script("notes.rhai", &note("first"));
    sandbox.up();
    let serving = Serving::start(&sandbox, &[]);
    let before = sandbox.config_text();
    sandbox.script("new.rhai", "fn pre_exec(ctx) { let x = ; }");
    assert_ne!(sandbox.config_text(), before);
    until("it was refused", || chain(&sandbox).refused.is_some_and(|why| why.contains("new.rhai")));
    let tried = chain(&sandbox).attempts;
    sandbox.write("config/policies/new.rhai", "fn pre_exec(ctx) { }");
    until("it was tried again", || chain(&sandbox).attempts > tried);
    until("it was taken", || chain(&sandbox).refused.is_none());
    assert!(chain(&sandbox).policies.contains_key("new.rhai"));
    serving.terminate();
}

#[test]
fn wharf_policy_reload_and_a_hangup_reload_at_once_and_say_how_it_went() {
    let sandbox = Sandbox::new();
    sandbox.refused(&["policy", "reload"], 5, "no-service", &["no wharf serve is running"]);
    sandbox.script("notes.rhai", &note("first"));
    sandbox.up();
    let serving = Serving::start(&sandbox, &[]);
    sandbox.write("config/policies/notes.rhai", note("second"));
    let said = sandbox.run(&["policy", "reload"]).ok().text();
    assert!(said.contains("its chain has 1 policy"), "{said}");
    notes_after_restart(&sandbox, "second");
    sandbox.append_config("[limits]\nnonsense = 3");
    reload_refused(
        &sandbox,
        &["--config", "/dev/null", "policy", "reload"],
        &["nonsense", "keeps the previous policies"],
    );
    notes_after_restart(&sandbox, "second");
    serving.terminate();
}

#[test]
fn a_policy_that_fails_with_what_was_asked_last_is_not_taken() {
    let sandbox = Sandbox::new();
    sandbox.script("notes.rhai", &note("first"));
    sandbox.up();
    sandbox.run(&["exec", "--", "true"]).ok();
    let serving = Serving::start(&sandbox, &[]);
    sandbox.write("config/policies/notes.rhai", "fn pre_exec(ctx) { throw \"half done\"; }");
    reload_refused(&sandbox, &["policy", "reload"], &["fails at pre-exec", "half done"]);
    serving.terminate();
}

#[test]
fn an_optional_policy_that_decides_is_not_dropped_because_its_file_was_broken() {
    let sandbox = Sandbox::new();
    sandbox.script("notes.rhai", &note("first"));
    sandbox.append_config("optional = true");
    sandbox.up();
    let serving = Serving::start(&sandbox, &[]);
    sandbox.write("config/policies/notes.rhai", "fn event(ctx) { let x = ; }");
    reload_refused(&sandbox, &["policy", "reload"], &["notes.rhai:1"]);
    notes_after_restart(&sandbox, "first");
    serving.terminate();
}

#[test]
fn a_failure_at_event_degrades_the_workspace_where_the_entry_says_so() {
    let sandbox = Sandbox::new();
    sandbox.script("bad.rhai", "fn event(ctx) { throw \"broken\"; }");
    sandbox.append_config("on_error = { event = \"degrade\" }");
    sandbox.up();
    let serving = Serving::start(&sandbox, &[]);
    let container = sandbox.own_containers()[0]["Id"].as_str().unwrap().to_owned();
    assert_eq!(engine::call("POST", &format!("/containers/{container}/restart?t=0"), b"").status, 204);
    let id = sandbox.id().parse().unwrap();
    let degraded = || sandbox.store().workspace(&id).unwrap().unwrap().degraded;
    until("it is marked", || degraded().is_some_and(|why| why.contains("broken")));
    serving.terminate();
}

#[test]
fn a_reload_whose_golden_cases_do_not_hold_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.config("[reload]\ncases = [\"cases\"]\n");
    sandbox.script("team.rhai", "fn pre_create(ctx) { ctx.spec.env.TEAM = \"pay\"; }");
    let case = "about = \"everybody is of the team\"\nhook = \"pre-create\"\npolicies = [\"team.rhai\"]\n[expect.changed]\n\"env.TEAM\" = \"pay\"\n";
    sandbox.write("config/cases/team.toml", case);
    assert!(sandbox.run(&["policy", "test"]).ok().text().contains("1 case: 1 passed"));
    let serving = Serving::start(&sandbox, &[]);
    sandbox.run(&["policy", "reload"]).ok();
    sandbox.write("config/policies/team.rhai", "fn pre_create(ctx) { ctx.spec.env.TEAM = \"ship\"; }");
    reload_refused(&sandbox, &["policy", "reload"], &["team.toml", "failed: ", "env.TEAM", "pay", "ship"]);
    // The existing chain decides.
    sandbox.write("config/policies/team.rhai", "fn pre_create(ctx) { ctx.spec.env.TEAM = \"pay\"; }");
    sandbox.run(&["policy", "reload"]).ok();
    sandbox.config("[reload]\ncases = [\"nowhere\"]\n");
    reload_refused(&sandbox, &["policy", "reload"], &["reload.cases", "nowhere"]);
    assert!(serving.terminate().contains("team.toml"), "the log says it");
}
