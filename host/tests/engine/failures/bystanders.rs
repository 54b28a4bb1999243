//! Objects that are not Wharf's are never touched, whatever their names and labels.

use serde_json::{Value, json};
use wharf::workspace::{LABEL_HOST, LABEL_MANAGED, LABEL_NAME, LABEL_PROJECT, LABEL_WORKSPACE};

use crate::support::engine_api as engine;
use crate::support::sandbox::Sandbox;

/// Returns a container's state and start: they would reveal a restart.
fn fingerprint(id: &str) -> (Value, Value, Value) {
    let mut inspected = engine::inspect(id);
    (inspected["Id"].take(), inspected["State"].take(), inspected["NetworkSettings"]["Networks"].take())
}

/// Runs every verb that changes or removes the project's workspace.
fn whole_life(sandbox: &Sandbox) {
    sandbox.up();
    sandbox.json(&["up", "--memory", "100MiB", "--recreate"]);
    sandbox.json(&["restart", "--timeout", "1s"]);
    sandbox.json(&["rm", "--force", &sandbox.id()]);
    sandbox.up();
    sandbox.json(&["stop", "--timeout", "1s"]);
    sandbox.json(&["down"]);
}

#[test]
fn a_container_that_has_our_name_but_not_our_labels_is_left_alone_and_said_to_be_in_the_way() {
    let sandbox = Sandbox::new();
    let name = format!("wharf-{}", sandbox.id());
    let bystander = sandbox.bystander(&name, &[], true);
    let before = fingerprint(&bystander);
    sandbox.refused(&["up"], 1, "name-taken", &[&name, "in use"]);
    sandbox.refused(&["up", "--recreate"], 1, "name-taken", &[&name]);
    assert_eq!(sandbox.json(&["ls"]), json!([]));
    for args in [&["rm", "--force", "project"][..], &["down"], &["stop"]] {
        assert_eq!(sandbox.run(args).code, 5, "{args:?}");
    }
    assert_eq!(fingerprint(&bystander), before);
    engine::delete(&format!("/containers/{bystander}?force=true")).done();
    sandbox.up();
}

#[test]
fn names_that_only_begin_or_end_like_ours_are_somebody_elses() {
    let sandbox = Sandbox::new();
    let name = format!("wharf-{}", sandbox.id());
    let others = [format!("{name}0"), format!("x{name}"), format!("{name}-old")];
    let bystanders: Vec<_> = others.iter().map(|name| sandbox.bystander(name, &[], true)).collect();
    let before: Vec<_> = bystanders.iter().map(|id| fingerprint(id)).collect();
    whole_life(&sandbox);
    let after: Vec<_> = bystanders.iter().map(|id| fingerprint(id)).collect();
    assert_eq!(after, before);
}

#[test]
fn ws_1_and_ws_10_are_two_workspaces() {
    let sandbox = Sandbox::new();
    let (one, ten) = (sandbox.folder("ws-1"), sandbox.folder("ws-10"));
    sandbox.run_in(&one, &["up"]).ok();
    let ten = sandbox.run_in(&ten, &["--json", "up"]).ok().json();
    let id = ten["container_id"].as_str().unwrap();
    let before = fingerprint(id);
    sandbox.run(&["stop", "--timeout", "1s", "ws-1"]).ok();
    sandbox.run_in(&one, &["up", "--recreate", "--memory", "100MiB"]).ok();
    sandbox.run(&["rm", "--force", "ws-1"]).ok();
    assert_eq!(sandbox.run(&["rm", "--force", "ws-"]).code, 5, "a part of a name means nobody");
    assert_eq!(sandbox.run(&["rm", "--force", "ws"]).code, 5);
    // The other installation may have removed and recreated the engine's network; its container must be unchanged.
    assert_eq!(fingerprint(id), before);
}

#[test]
fn a_container_with_our_workspace_label_but_of_another_host_is_left_alone() {
    let sandbox = Sandbox::new();
    let id = sandbox.id();
    let project = sandbox.project().display().to_string();
    let all = [
        (LABEL_MANAGED, "true"),
        (LABEL_WORKSPACE, id.as_str()),
        (LABEL_NAME, "project"),
        (LABEL_PROJECT, project.as_str()),
    ];
    let mut other_host = all.to_vec();
    other_host.push((LABEL_HOST, "0123456789abcdef0123456789abcdef"));
    let host = sandbox.host();
    let mut part_of_host = all.to_vec();
    part_of_host.push((LABEL_HOST, &host[..host.len() - 1]));
    let bystanders = [
        sandbox.bystander(&format!("{id}-a"), &other_host, true),
        sandbox.bystander(&format!("{id}-b"), &part_of_host, true),
        sandbox.bystander(&format!("{id}-c"), &all, true),
    ];
    let before: Vec<_> = bystanders.iter().map(|id| fingerprint(id)).collect();
    assert_eq!(sandbox.json(&["ls"]), json!([]));
    assert_eq!(sandbox.run(&["exec", "project", "--", "true"]).code, 125);
    assert_eq!(sandbox.run(&["rm", "--force", "project"]).code, 5);
    whole_life(&sandbox);
    let after: Vec<_> = bystanders.iter().map(|id| fingerprint(id)).collect();
    assert_eq!(after, before);
}

#[test]
fn a_network_that_has_our_name_but_not_our_label_is_never_used_or_removed() {
    let sandbox = Sandbox::new();
    let host = sandbox.host();
    let name = format!("wharf-{}-apart", &host[host.len() - 8..]);
    let network = sandbox.bystander_network(&name, &[]);
    let bystander = sandbox.bystander(&format!("{name}-user"), &[], true);
    let body = json!({ "Container": bystander });
    engine::post(&format!("/networks/{network}/connect"), &body).done();
    let before = fingerprint(&bystander);
    sandbox.refused(&["up"], 1, "not-ours", &[&name, "did not create it"]);
    assert_eq!(engine::get(&format!("/networks/{network}"))["Name"], json!(name));
    // With its own network it works, and ends without touching the first network.
    sandbox.config(&format!("[engine]\nnetwork = \"{name}-own\"\n"));
    whole_life(&sandbox);
    assert_eq!(engine::get(&format!("/networks/{network}"))["Name"], json!(name));
    assert_eq!(fingerprint(&bystander), before);
    assert!(engine::networks().iter().all(|network| network["Name"] != format!("{name}-own")));
}

#[test]
fn our_network_stays_while_somebody_elses_container_is_on_it() {
    let sandbox = Sandbox::new();
    sandbox.up();
    let network = sandbox.own_networks()[0]["Id"].as_str().unwrap().to_owned();
    let bystander = sandbox.bystander(&format!("{}-guest", sandbox.id()), &[], true);
    engine::post(&format!("/networks/{network}/connect"), &json!({ "Container": bystander })).done();
    let before = fingerprint(&bystander);
    sandbox.json(&["down"]);
    assert_eq!(sandbox.own_containers(), Vec::<Value>::new());
    assert_eq!(fingerprint(&bystander), before);
    assert_eq!(sandbox.own_networks().len(), 1);
    engine::delete(&format!("/containers/{bystander}?force=true")).done();
    sandbox.up();
    sandbox.json(&["down"]);
    sandbox.assert_nothing_left();
}

#[test]
fn a_volume_with_a_name_outlives_its_workspace() {
    let sandbox = Sandbox::new();
    let volume = format!("wharf-test-{}", sandbox.id());
    let mount = format!("{volume}:/cache");
    sandbox.json(&["up", "--mount", &mount]);
    sandbox.sh("echo kept > /cache/file");
    sandbox.json(&["down"]);
    sandbox.json(&["up", "--mount", &mount]);
    assert_eq!(sandbox.sh("cat /cache/file"), "kept\n");
    sandbox.json(&["down"]);
    engine::delete(&format!("/volumes/{volume}")).done();
}

#[test]
fn what_somebody_makes_from_an_image_that_was_committed_from_a_workspace_is_his() {
    let sandbox = Sandbox::new();
    let view = sandbox.up();
    let (id, image) = (view["container_id"].as_str().unwrap(), format!("wharf-test-committed-{}", sandbox.name()));
    engine::post(&format!("/commit?container={id}&repo={image}&tag=1"), &json!({})).done();
    let body = json!({ "Image": format!("{image}:1"), "Cmd": ["sleep", "1000"], "HostConfig": { "Init": true } });
    let made = engine::post(&format!("/containers/create?name={image}"), &body).done().json();
    let his = made["Id"].as_str().unwrap();
    engine::post(&format!("/containers/{his}/start"), &json!({})).done();
    assert_eq!(engine::inspect(his)["Config"]["Labels"][LABEL_HOST], sandbox.host().as_str(), "it has our labels");
    let before = fingerprint(his);

    whole_life(&sandbox);
    assert_eq!(sandbox.json(&["ls"]), json!([]), "his is no workspace");
    for args in [&["rm", "--all", "--force"][..], &["stop", "--all"], &["cleanup", "--no-grace"]] {
        sandbox.run(args).ok();
    }
    sandbox.up();
    assert_eq!(sandbox.json(&["ls"]).as_array().unwrap().len(), 1);
    sandbox.run(&["rm", "--all", "--force"]).ok();
    assert_eq!(fingerprint(his), before);
    engine::delete(&format!("/containers/{his}?force=true")).done();
    engine::delete(&format!("/images/{image}:1")).done();
}
