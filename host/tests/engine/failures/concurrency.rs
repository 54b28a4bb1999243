//! Concurrent wharf processes: on one project, on many, and of two installations.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::engine_api as engine;
use crate::support::sandbox::Sandbox;

#[test]
fn two_ups_of_one_project_at_once_make_one_container() {
    let sandbox = Sandbox::new();
    for round in 0..3 {
        let runs: Vec<_> = (0..3).map(|_| sandbox.spawn(&["--json", "up"])).collect();
        let ids: BTreeSet<String> =
            runs.into_iter().map(|run| run.finish().ok().json()["container_id"].to_string()).collect();
        assert_eq!((ids.len(), sandbox.own_containers().len()), (1, 1), "round {round}");
        sandbox.json(&["down"]);
    }
    sandbox.assert_nothing_left();
    sandbox.store().verify(None).unwrap().whole().unwrap();
}

#[test]
fn six_projects_at_once_all_work_and_all_go_at_once() {
    let sandbox = Sandbox::new();
    let folders: Vec<_> = (0..6).map(|number| sandbox.folder(&format!("p{number}"))).collect();
    let each = |verb: &str| {
        let paths = folders.iter().map(|folder| folder.to_str().unwrap());
        let runs: Vec<_> = match verb {
            "up" => paths.map(|path| sandbox.spawn(&["--json", "up", path])).collect(),
            verb => folders
                .iter()
                .map(|folder| sandbox.spawn(&["--json", verb, folder.file_name().unwrap().to_str().unwrap()]))
                .collect(),
        };
        for run in runs {
            run.finish().ok();
        }
    };
    each("up");
    let listed = sandbox.json(&["ls"]);
    let states: Vec<_> = listed.as_array().unwrap().iter().map(|workspace| workspace["state"].clone()).collect();
    assert_eq!(states, vec![json!("running"); 6]);
    assert_eq!((sandbox.own_containers().len(), sandbox.own_networks().len()), (6, 1));
    each("restart");
    each("down");
    sandbox.assert_nothing_left();
    assert!(sandbox.store().verify(None).unwrap().whole().unwrap() >= 6 * 4);
}

#[test]
fn one_goes_while_another_comes() {
    // The last workspace to leave removes the shared network, which a new one needs.
    let sandbox = Sandbox::new();
    let (a, b) = (sandbox.folder("a"), sandbox.folder("b"));
    let path = |folder: &std::path::Path| folder.to_str().unwrap().to_owned();
    sandbox.json(&["up", &path(&a)]);
    let (mut here, mut there) = (("a", path(&a)), ("b", path(&b)));
    for round in 0..8 {
        let (down, up) = (sandbox.spawn(&["down", here.0]), sandbox.spawn(&["--json", "up", &there.1]));
        let (down, up) = (down.finish(), up.finish());
        assert_eq!((down.code, up.code), (0, 0), "round {round}: {}{}", down.stderr, up.stderr);
        assert_eq!(up.json()["state"], "running");
        std::mem::swap(&mut here, &mut there);
    }
    sandbox.run(&["down", here.0]).ok();
    sandbox.assert_nothing_left();
}

#[test]
fn up_and_down_of_one_project_at_once_end_in_one_or_none() {
    let sandbox = Sandbox::new();
    sandbox.up();
    for round in 0..4 {
        let runs = [
            sandbox.spawn(&["up"]),
            sandbox.spawn(&["down", "project"]),
            sandbox.spawn(&["up"]),
            sandbox.spawn(&["stop", "project"]),
        ];
        for run in runs {
            let output = run.finish();
            // A verb may find no work to do, and reports that.
            assert!([0, 5].contains(&output.code), "round {round}: {} {}", output.code, output.stderr);
        }
        let known = sandbox.store().workspaces().unwrap().len();
        assert_eq!(known, sandbox.own_containers().len(), "round {round}");
        assert!(known <= 1 && sandbox.store().open_entries().unwrap().is_empty(), "round {round}");
    }
    let up = sandbox.up();
    assert_eq!(up["state"], "running");
}

#[test]
fn two_installations_on_one_engine_do_not_see_or_touch_each_other() {
    let (one, two) = (Sandbox::new(), Sandbox::new());
    // The same folder in both: the same id, and so the same container name.
    let shared = one.folder("shared");
    let path = shared.to_str().unwrap();
    let first = one.json(&["up", path]);
    assert_eq!(two.json(&["ls"]), json!([]));
    let taken = two.run(&["--json", "up", path]);
    assert_eq!((taken.code, taken.error()["code"].as_str()), (1, Some("name-taken")));
    for args in [&["rm", "-f", "shared"][..], &["down", "shared"], &["stop", "shared"], &["inspect", "shared"]] {
        assert_eq!(two.run(args).code, 5, "{args:?}");
    }
    assert_eq!(one.view(&["shared"]), first);
    // Separate projects coexist, each on its own network.
    let (mine, yours) = (one.up(), two.up());
    let network = |workspace: &Value| {
        let inspected = engine::inspect(workspace["container_id"].as_str().unwrap());
        let networks = inspected["NetworkSettings"]["Networks"].as_object().unwrap();
        networks.keys().next().unwrap().clone()
    };
    assert_ne!(network(&mine), network(&yours));
    two.json(&["down"]);
    two.assert_nothing_left();
    assert_eq!(one.json(&["ls"]).as_array().map(Vec::len), Some(2));
}
