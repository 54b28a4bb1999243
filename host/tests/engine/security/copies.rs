//! `cp`: the path that policies see is the path that is read.

use crate::engine_api::BASE;
use crate::sandbox::Sandbox;

#[test]
fn a_denied_path_is_denied_in_every_spelling() {
    let sandbox = Sandbox::new();
    sandbox.config("[[policy]]\nname = \"no\"\nscript = \"policies/no.rhai\"\n");
    let script = r#"fn pre_exec(ctx) {
    let words = ctx.exec.command;
    if words.len() == 4 && words[0] == "wharf" && words[1] == "cp" && words[3].starts_with("/run/secrets") { ctx.deny("no", "not the secrets"); }
}"#;
    sandbox.write("config/policies/no.rhai", script);
    let value = sandbox.write("value", "hush");
    sandbox.json(&["up", "--image", BASE, "--secret", &format!("K={}", value.display())]);
    let to = sandbox.path("out");
    let spellings = [
        "/run/secrets/K",
        "//run/secrets/K",
        "/run/./secrets/K",
        "/run/../run/secrets/K",
        "/../run/secrets/K",
        "/run//secrets/./K",
        "/tmp/../run/secrets/.",
        "/run/secrets/",
    ];
    for path in spellings {
        let out = sandbox.run(&["cp", &format!("project:{path}"), to.to_str().unwrap()]);
        assert!(out.code != 0 && out.stderr.contains("not the secrets"), "{path}: {}", out.stderr);
        assert!(!to.exists(), "{path}");
        let stream = sandbox.run(&["cp", &format!("project:{path}"), "-"]);
        assert!(stream.code != 0 && stream.stdout.is_empty(), "{path}");
    }
    // What is allowed is found in each spelling.
    sandbox.sh("echo here > /tmp/file");
    for path in ["/tmp/file", "//tmp/./file", "/run/../tmp/file"] {
        sandbox.run(&["cp", &format!("project:{path}"), to.to_str().unwrap()]).ok();
        assert_eq!(std::fs::read_to_string(&to).unwrap(), "here\n");
        std::fs::remove_file(&to).unwrap();
        let from = sandbox.write("from", "in");
        sandbox.run(&["cp", from.to_str().unwrap(), &format!("project:{path}")]).ok();
        assert_eq!(sandbox.sh("cat /tmp/file; echo here > /tmp/file"), "in");
    }
}
