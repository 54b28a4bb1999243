//! Isolation: workspaces on the shared network neither reach each other nor take names.

use serde_json::Value;

use crate::support::engine_api::{self as engine, BASE};
use crate::support::sandbox::Sandbox;

/// Returns a workspace that answers `hello-from-NAME` on port 9999.
fn listening(sandbox: &Sandbox, folder: &str, extra: &[&str]) -> String {
    let project = sandbox.folder(folder);
    let answer = format!("while :; do echo hello-from-{folder} | nc -l -p 9999; done");
    let args = [&["--json", "up"], extra, &["--", "sh", "-c", &answer]].concat();
    sandbox.run_in(&project, &args).ok().json()["id"].as_str().unwrap().to_owned()
}

fn addresses(id: &str) -> Vec<String> {
    let container = engine::inspect(&format!("wharf-{id}"));
    let networks = container["NetworkSettings"]["Networks"].as_object().unwrap();
    networks.values().map(|one| one["IPAddress"].as_str().unwrap().to_owned()).filter(|one| !one.is_empty()).collect()
}

/// Returns what a workspace reads from another place in each of several attempts. Engines before 25 rewrite their
/// rules between networks whenever they create a network, and then let packets pass for a moment. One attempt is
/// therefore no proof.
fn reach_each_time(sandbox: &Sandbox, from: &str, to: &str) -> String {
    (0..3).map(|_| reach(sandbox, from, to)).find(|found| !found.contains("hello")).unwrap_or_else(|| "hello".into())
}

/// Returns what a workspace reads from another place within two seconds.
fn reach(sandbox: &Sandbox, from: &str, to: &str) -> String {
    sandbox.run(&["exec", from, "--", "sh", "-c", &format!("nc -w 2 {to} 9999 </dev/null 2>&1")]).text()
}

#[test]
fn workspaces_on_the_shared_network_reach_the_world_and_none_of_each_other() {
    let sandbox = Sandbox::new();
    let (a, b) = (listening(&sandbox, "a", &[]), listening(&sandbox, "b", &[]));
    assert_eq!(addresses(&b).len(), 1);
    for to in addresses(&b).into_iter().chain([format!("wharf-{b}"), b.clone()]) {
        assert!(!reach(&sandbox, &a, &to).contains("hello-from-b"), "{to}");
    }
    // It reaches itself and the outside: the gateway answers.
    let gateway = engine::inspect(&format!("wharf-{a}"))["NetworkSettings"]["Networks"]
        .as_object()
        .unwrap()
        .values()
        .next()
        .unwrap()["Gateway"]
        .as_str()
        .unwrap()
        .to_owned();
    // A closed port answers at once, but a dropped packet gets no answer.
    let begin = std::time::Instant::now();
    sandbox.run(&["exec", &a, "--", "nc", "-w", "10", &gateway, "9"]);
    assert!(begin.elapsed().as_secs() < 8, "the gateway does not answer");
    // The same after both were restarted.
    for id in [&a, &b] {
        sandbox.json(&["restart", "-t", "0s", id]);
    }
    for to in addresses(&b) {
        assert!(!reach(&sandbox, &a, &to).contains("hello-from-b"), "{to}");
    }
}

#[test]
fn a_label_of_the_configuration_joins_workspaces_and_no_label_of_a_project_does() {
    let sandbox = Sandbox::new();
    sandbox.append_config("[engine]\njoin = \"team\"\n");
    let a = listening(&sandbox, "a", &["--label", "team=pay"]);
    let b = listening(&sandbox, "b", &["--label", "team=pay"]);
    let c = listening(&sandbox, "c", &["--label", "team=ops"]);
    let file = format!(r#"{{"image":"{BASE}","runArgs":["--label","team=pay"]}}"#);
    sandbox.folder("d");
    sandbox.write("d/.devcontainer.json", file);
    let d = listening(&sandbox, "d", &[]);
    assert!(reach(&sandbox, &a, &format!("wharf-{b}")).contains("hello-from-b"));
    for other in [&c, &d] {
        for (from, to) in [(&a, other), (other, &a)] {
            for to in addresses(to) {
                assert!(!reach_each_time(&sandbox, from, &to).contains("hello"), "{from} reaches {to}");
            }
        }
    }
    for id in [a, b, c, d] {
        sandbox.json(&["down", &id]);
    }
    sandbox.assert_nothing_left();
}

#[test]
fn a_workspace_reaches_its_sidecars_and_no_other_workspaces_do() {
    let sandbox = Sandbox::new();
    let (a, b) = (listening(&sandbox, "a", &[]), listening(&sandbox, "b", &[]));
    let answer = "while :; do echo hello-from-db | nc -l -p 9999; done";
    for of in [&a, &b] {
        sandbox.json(&["sidecar", "add", "db", "--workspace", of, "--image", BASE, "--", "sh", "-c", answer]);
    }
    let own = |of: &str| {
        for name in ["db".to_owned(), format!("{of}-db"), format!("wharf-{of}-db")] {
            assert!(reach(&sandbox, of, &name).contains("hello-from-db"), "{of} does not reach {name}");
        }
        assert!(
            reach(&sandbox, &format!("{of}-db"), &format!("wharf-{of}")).contains("hello-from"),
            "the sidecar of {of}"
        );
    };
    let apart = || {
        for to in addresses(&format!("{b}-db")).into_iter().chain(addresses(&b)) {
            for from in [a.clone(), format!("{a}-db")] {
                let found = reach_each_time(&sandbox, &from, &to);
                assert!(!found.contains("hello"), "{from} ({:?}) reaches {to}", addresses(&from));
            }
        }
    };
    own(&a);
    own(&b);
    apart();
    // Unchanged after a restart, and after the workspace was recreated.
    sandbox.json(&["restart", "-t", "0s", &a]);
    own(&a);
    let project = sandbox.path("a");
    sandbox
        .run_in(
            &project,
            &["--json", "up", "--recreate", "--", "sh", "-c", "while :; do echo hello-from-a | nc -l -p 9999; done"],
        )
        .ok();
    own(&a);
    apart();
    sandbox.json(&["rm", "--force", &format!("{a}-db")]);
    sandbox.json(&["inspect", &a]);
    for id in [a, b] {
        sandbox.json(&["down", &id]);
    }
    sandbox.assert_nothing_left();
}

#[test]
fn no_project_answers_for_a_name_on_the_shared_network() {
    let sandbox = Sandbox::new();
    let host_name = |name: &str| format!(r#"{{"image":"{BASE}","runArgs":["-h","{name}"]}}"#);
    for name in ["registry.example.org", "db", "localhost"] {
        sandbox.write("project/.devcontainer.json", host_name(name));
        let plan = sandbox.json(&["plan"]);
        assert_eq!(plan["spec"]["hostname"], Value::from(sandbox.id()), "{name}");
        assert!(plan["devcontainer"]["not_honoured"].to_string().contains("allow.hostnames"), "{plan}");
        sandbox.json(&["up", "--recreate"]);
        assert_eq!(sandbox.sh("hostname").trim(), sandbox.id());
    }
    // A policy that sets such a name is refused.
    sandbox.config("[[policy]]\nname = \"name\"\nscript = \"policies/name.rhai\"\n");
    sandbox.write("config/policies/name.rhai", "fn pre_create(ctx) { ctx.spec.hostname = \"registry.example.org\"; }");
    sandbox.refused(&["up", "--recreate"], 4, "invariant", &["hostname", "allow.hostnames"]);
    sandbox.config("");
    // On a network of its own, the project chooses the name freely. On the shared network, an administrator may allow
    // a name.
    sandbox.write("project/.devcontainer.json", host_name("db"));
    sandbox.json(&["up", "--recreate", "--network", "own"]);
    assert_eq!(sandbox.sh("hostname").trim(), "db");
    sandbox.append_config("[allow]\nhostnames = [\"db\"]\n");
    sandbox.json(&["up", "--recreate"]);
    assert_eq!(sandbox.sh("hostname").trim(), "db");
}

#[test]
fn more_workspaces_have_networks_of_their_own_than_the_engine_has_address_pools() {
    let sandbox = Sandbox::new();
    let mut taken: Vec<String> = Vec::new();
    // Use up all of the engine's remaining addresses, with unused networks.
    for number in 0..40 {
        let name = format!("{}-pool-{number}", sandbox.name());
        let body =
            serde_json::json!({ "Name": name, "Labels": { crate::support::sandbox::LABEL_SANDBOX: sandbox.name() } });
        if engine::post("/networks/create", &body).status != 201 {
            break;
        }
        taken.push(name);
    }
    let made =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| sandbox.run(&["--json", "up", "--network", "own"])));
    for name in &taken {
        engine::delete(&format!("/networks/{name}"));
    }
    assert!(taken.len() < 40, "the engine has more pools than this test takes");
    let made = made.unwrap().ok().json();
    assert_eq!(made["state"], Value::from("running"));
    assert!(addresses(made["id"].as_str().unwrap())[0].starts_with("10."));
}
