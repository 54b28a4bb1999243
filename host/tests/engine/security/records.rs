//! The chain of decision records: the next decision does not conceal a truncated end, and a wiped chain does not
//! count as intact.

use serde_json::json;

use crate::support::sandbox::Sandbox;

/// Returns a sandbox with some decisions.
fn lived() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.up();
    sandbox.sh("true");
    sandbox.sh("true");
    sandbox
}

fn tamper(sandbox: &Sandbox, sql: &str) {
    let connection = rusqlite::Connection::open(sandbox.path("state/wharf.db")).unwrap();
    connection.execute_batch(sql).unwrap();
}

/// Removes the last two records, and everything in the database that refers to them.
fn cut(sandbox: &Sandbox) -> i64 {
    let newest = sandbox.store().newest_decision().unwrap();
    tamper(
        sandbox,
        &format!(
            "delete from decisions where number > {0}; update sqlite_sequence set seq = {0} where name = 'decisions';
             delete from meta where key = 'decisions-head'",
            newest - 2
        ),
    );
    newest
}

#[track_caller]
fn damaged(sandbox: &Sandbox, words: &str) {
    let run = sandbox.run(&["audit", "verify"]);
    assert!(run.code == 1 && run.text().contains(words), "{}{}", run.text(), run.stderr);
    let doctor = sandbox.run(&["doctor"]);
    assert!(doctor.code != 0 && doctor.text().contains("the decision records are damaged"), "{}", doctor.text());
}

#[test]
fn an_end_that_was_cut_off_stays_reported_until_an_admin_acknowledges_it() {
    let sandbox = lived();
    let newest = cut(&sandbox);
    let words = format!("record {} and all up to {newest} are missing", newest - 1);
    damaged(&sandbox, &words);
    for _ in 0..3 {
        sandbox.sh("true");
        damaged(&sandbox, &words);
    }
    let none = sandbox.run(&["audit", "acknowledge"]);
    assert_eq!(none.code, 2, "a reason is needed: {}", none.stderr);
    for reason in ["", " ", "two\nlines"] {
        assert_eq!(sandbox.run(&["audit", "acknowledge", "--reason", reason]).code, 2, "{reason:?}");
    }
    let said = sandbox.json(&["audit", "acknowledge", "--reason", "a drill of ours"]);
    assert_eq!((&said["reason"], &said["damages"]), (&json!("a drill of ours"), &json!([words])));
    let verified = sandbox.json(&["audit", "verify"]);
    assert_eq!((&verified["damages"], &verified["acknowledged"][0]), (&json!([]), &said));
    let text = sandbox.run(&["audit", "verify"]).ok().text();
    assert!(text.contains("a drill of ours") && text.contains(&words), "{text}");
    sandbox.sh("true");
    sandbox.run(&["audit", "verify"]).ok();
    sandbox.run(&["audit"]).ok();
    let again = sandbox.run(&["--json", "audit", "acknowledge", "--reason", "x"]);
    assert_eq!((again.code, &again.error()["code"]), (1, &json!("nothing-lost")));
}

#[test]
fn a_chain_that_was_wiped_is_not_whole() {
    let wiped = "delete from decisions; delete from sqlite_sequence where name = 'decisions';
                 delete from meta where key = 'decisions-head'";
    let sandbox = lived();
    tamper(&sandbox, wiped);
    damaged(&sandbox, "record 1 and all up to");
    sandbox.sh("true");
    damaged(&sandbox, "record 1 and all up to");
    // Including the file outside the database.
    let sandbox = lived();
    tamper(&sandbox, wiped);
    std::fs::remove_file(sandbox.path("state/decisions.head")).unwrap();
    damaged(&sandbox, "all records are missing");
    sandbox.sh("true");
    damaged(&sandbox, "does not follow the previous one");
    sandbox.run(&["audit", "acknowledge", "--reason", "known"]).ok();
    sandbox.run(&["audit", "verify"]).ok();
}

#[test]
fn a_witness_elsewhere_shows_a_state_that_was_put_back_to_an_earlier_day() {
    let sandbox = lived();
    let earlier = sandbox.path("earlier");
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        let status = std::process::Command::new("cp").arg("-a").args([from, to]).status().unwrap();
        assert!(status.success());
    };
    copy(&sandbox.path("state"), &earlier);
    sandbox.sh("true");
    let anchors = sandbox.path("anchors");
    let file = anchors.display().to_string();
    for _ in 0..2 {
        sandbox.run(&["audit", "anchor", "--append", &file]).ok();
    }
    assert_eq!(std::fs::read_to_string(&anchors).unwrap().lines().count(), 2);
    let printed = sandbox.run(&["audit", "anchor"]).ok().text();
    assert!(printed.ends_with('\n') && printed.lines().count() == 1, "{printed}");
    let held = sandbox.run(&["audit", "verify", "--anchor", &file]).ok().text();
    assert!(held.contains("the records match 2 anchors"), "{held}");

    let state = sandbox.path("state");
    std::fs::remove_dir_all(&state).unwrap();
    copy(&earlier, &state);
    sandbox.run(&["audit", "verify"]).ok();
    let found = sandbox.run(&["audit", "verify", "--anchor", &file]);
    assert!(found.code == 1 && found.text().contains("the chain ends with record"), "{}", found.text());
    // Later decisions do not hide it.
    sandbox.sh("true");
    let found = sandbox.run(&["audit", "verify", "--anchor", &file]);
    assert!(found.code == 1 && found.text().contains("differs from the one in the anchor"), "{}", found.text());

    for (text, words) in [("", "it is empty"), ("nonsense\n", "line 1 is not an anchor")] {
        std::fs::write(&anchors, text).unwrap();
        let run = sandbox.run(&["audit", "verify", "--anchor", &file]);
        assert!(run.code == 2 && run.stderr.contains(words), "{}", run.stderr);
    }
    let folder = sandbox.run(&["audit", "verify", "--anchor", &state.display().to_string()]);
    assert!(folder.code == 2 && folder.stderr.contains("is a folder"), "{}", folder.stderr);
    cut(&sandbox);
    let refused = sandbox.run(&["audit", "anchor"]);
    assert!(
        refused.code == 1 && refused.stderr.contains("are damaged"),
        "no anchor of a damaged chain: {}",
        refused.stderr
    );
}
