//! Snapshots: created, listed, restored, removed, and free of secrets.

use serde_json::{Value, json};

use crate::support::engine_api::{self as engine, BASE};
use crate::support::registry::has_image;
use crate::support::sandbox::Sandbox;

/// A sandbox whose images are removed with it.
pub struct Kept(pub Sandbox);

impl Drop for Kept {
    fn drop(&mut self) {
        let host = self.0.host();
        for container in self.0.own_containers() {
            engine::delete(&format!("/containers/{}?force=true", container["Id"].as_str().unwrap_or_default()));
        }
        for image in images_of(&host) {
            engine::delete(&format!("/images/{image}?force=true"));
        }
    }
}

pub fn images_of(host: &str) -> Vec<String> {
    let all = engine::get("/images/json");
    let ours = all.as_array().unwrap().iter().filter(|image| image["Labels"]["wharf.image.host"] == host);
    ours.map(|image| image["Id"].as_str().unwrap().to_owned()).collect()
}

pub fn sandbox_with_volume() -> (Kept, String) {
    let sandbox = Sandbox::new();
    let volume = format!("data-{}", sandbox.name());
    sandbox.json(&[
        "up",
        "--image",
        BASE,
        "--mount",
        &format!("{volume}:/data"),
        "--label",
        "team=red",
        "-e",
        "PLAIN=1",
    ]);
    sandbox.sh("echo layer > /kept; mkdir /data/deep; echo volume > /data/deep/file; ln -s deep/file /data/link");
    (Kept(sandbox), volume)
}

#[test]
fn a_snapshot_keeps_layer_and_volumes_and_a_restore_brings_them_back_beside_the_first() {
    let (kept, volume) = sandbox_with_volume();
    let sandbox = &kept.0;
    let snapshot = sandbox.json(&["snapshot", "create", "--name", "before"]);
    let name = format!("{}/before", sandbox.id());
    assert_eq!(snapshot["name"], name.as_str());
    assert_eq!(sandbox.json(&["inspect"])["state"], "running", "it goes on");
    // Later changes are not part of it.
    sandbox.sh("echo changed > /kept; echo changed > /data/deep/file");

    let view = sandbox.json(&["snapshot", "restore", &name, "--as", "again"]);
    assert_eq!(
        (&view["name"], &view["state"], &view["labels"]["team"]),
        (&json!("again"), &json!("running"), &json!("red"))
    );
    let id = view["id"].as_str().unwrap();
    let read = sandbox
        .run(&["exec", id, "--", "sh", "-c", "cat /kept /data/deep/file /data/link; echo $PLAIN $WORKSPACE_ID"])
        .ok();
    assert_eq!(read.text(), format!("layer\nvolume\nvolume\n1 {id}\n"));
    // The snapshot stays unchanged, whatever happens to workspaces restored from it.
    sandbox.run(&["exec", id, "--", "sh", "-c", "echo spoiled > /data/deep/file"]).ok();
    let second = sandbox.json(&["snapshot", "restore", &name, "--as", "third"]);
    let read = sandbox.run(&["exec", second["id"].as_str().unwrap(), "--", "cat", "/data/deep/file"]).ok();
    assert_eq!(read.text(), "volume\n");
    assert_eq!(sandbox.sh("cat /kept /data/deep/file"), "changed\nchanged\n");

    assert_eq!(sandbox.json(&["snapshot", "ls"]).as_array().map(Vec::len), Some(1));
    assert_eq!(sandbox.json(&["image", "ls"])[0]["origin"], "snapshot");
    let busy = sandbox.run(&["--json", "snapshot", "rm", &name]);
    let error = busy.error();
    assert_eq!((busy.code, &error["code"]), (1, &json!("conflict")), "{}", busy.stderr);
    let users = [id, second["id"].as_str().unwrap()];
    let said = format!("{} {}", error["message"], error["remedy"]);
    assert!(users.iter().any(|user| said.matches(user).count() == 2), "its users, and a remedy: {said}");
    sandbox.json(&["rm", "--all", "--force", "--volumes"]);
    sandbox.run(&["snapshot", "rm", &name]).ok();
    assert_eq!(images_of(&sandbox.host()), Vec::<String>::new());
    let left: Vec<Value> =
        engine::volumes().into_iter().filter(|v| v["Name"].as_str().unwrap().contains(&volume)).collect();
    assert_eq!(left, Vec::<Value>::new());
    sandbox.assert_nothing_left();
}

#[test]
fn the_workspace_itself_is_made_anew_from_a_snapshot_only_when_asked() {
    let (kept, _) = sandbox_with_volume();
    let sandbox = &kept.0;
    let name = sandbox.json(&["snapshot", "create"])["name"].as_str().unwrap().to_owned();
    sandbox.sh("rm /kept");
    let before = sandbox.snapshot();
    let differs = sandbox.run(&["--json", "snapshot", "restore", &name]);
    assert_eq!(differs.code, 7, "{}", differs.stderr);
    sandbox.assert_unchanged(&before, "a restore that may not replace");
    let view = sandbox.json(&["snapshot", "restore", &name, "--recreate"]);
    assert_eq!(view["id"], sandbox.id());
    assert_eq!(sandbox.sh("cat /kept /data/deep/file"), "layer\nvolume\n");
}

#[test]
fn values_of_secrets_are_no_part_of_a_snapshot() {
    let sandbox = Sandbox::new();
    let file = sandbox.write("secret", "correct-horse");
    sandbox.json(&[
        "up",
        "--image",
        BASE,
        "-e",
        "API_TOKEN=battery-staple",
        "-l",
        "ci_token=clip-staple",
        "--secret",
        &format!("S={}", file.display()),
    ]);
    let kept = Kept(sandbox);
    let sandbox = &kept.0;
    let snapshot = sandbox.json(&["snapshot", "create", "--name", "s"]);
    let image = engine::get(&format!("/images/{}/json", snapshot["image"].as_str().unwrap())).to_string();
    for secret in ["battery-staple", "correct-horse", "clip-staple"] {
        assert!(!image.contains(secret) && !snapshot.to_string().contains(secret), "{secret}");
    }
    // A container that another client creates from it does not look like ours either.
    let body =
        json!({ "Image": snapshot["image"], "Labels": { crate::support::sandbox::LABEL_SANDBOX: sandbox.name() } });
    let stranger = engine::post("/containers/create", &body).done().json()["Id"].as_str().unwrap().to_owned();
    assert_eq!(sandbox.own_containers().len(), 1);
    engine::delete(&format!("/containers/{stranger}")).done();
    let view =
        sandbox.json(&["snapshot", "restore", snapshot["name"].as_str().unwrap(), "--as", "x", "-e", "API_TOKEN=new"]);
    let read = sandbox
        .run(&[
            "exec",
            view["id"].as_str().unwrap(),
            "--",
            "sh",
            "-c",
            "echo $API_TOKEN; ls /run/secrets 2>/dev/null | wc -l",
        ])
        .ok();
    assert_eq!(read.text(), "new\n0\n");
}

#[test]
fn a_label_that_is_a_secret_is_no_part_of_a_snapshot_either() {
    let sandbox = Sandbox::new();
    sandbox.json(&["up", "--image", BASE, "-l", "ci_token=clip-staple", "--", "sleep", "600"]);
    let kept = Kept(sandbox);
    let snapshot = kept.0.json(&["snapshot", "create", "--name", "s"]);
    let image = engine::get(&format!("/images/{}/json", snapshot["image"].as_str().unwrap())).to_string();
    assert!(!image.contains("clip-staple"), "{image}");
}

#[test]
fn a_restore_goes_through_the_policies_like_any_creation() {
    let (kept, _) = sandbox_with_volume();
    let sandbox = &kept.0;
    let name = sandbox.json(&["snapshot", "create", "--name", "p"])["name"].as_str().unwrap().to_owned();
    sandbox.script(
        "no-old.rhai",
        "fn select_image(ctx) { if ctx.spec.image.reference.contains(\":snapshot-\") { ctx.deny(\"too-old\", \"no snapshots\"); } }",
    );
    let before = sandbox.snapshot();
    let denied = sandbox.run(&["--json", "snapshot", "restore", &name, "--as", "x"]);
    assert_eq!((denied.code, &denied.error()["code"]), (4, &json!("too-old")), "{}", denied.stderr);
    sandbox.assert_unchanged(&before, "a denied restore");
    assert_eq!(sandbox.store().open_entries().unwrap(), []);
}

#[test]
fn bad_snapshots_are_refused_and_leave_nothing() {
    let (kept, _) = sandbox_with_volume();
    let sandbox = &kept.0;
    sandbox.json(&["snapshot", "create", "--name", "one"]);
    let before = sandbox.snapshot();
    for (args, code) in [
        (&["snapshot", "create", "--name", "one"][..], 2),
        (&["snapshot", "create", "--name", "UP"], 2),
        (&["snapshot", "create", "--name", "../x"], 2),
        (&["snapshot", "create", "nope"], 5),
        (&["snapshot", "restore", "nope"], 5),
        (&["snapshot", "rm", "nope"], 5),
    ] {
        let output = sandbox.run(args);
        assert_eq!(output.code, code, "{args:?}: {}", output.stderr);
    }
    sandbox.assert_unchanged(&before, "refused snapshots");
    assert_eq!(images_of(&sandbox.host()).len(), 1);
    assert!(has_image(BASE));
}

#[test]
fn the_ledger_counts_snapshots_and_the_built_in_policies_keep_them() {
    let (kept, volume) = sandbox_with_volume();
    let sandbox = &kept.0;
    sandbox.json(&["snapshot", "create", "--name", "kept"]);
    sandbox.json(&["down", "--volumes"]);
    let report = sandbox.json(&["cleanup", "--no-grace"]);
    let of = |kind: &str| {
        let lines = report["lines"].as_array().unwrap().iter().filter(|line| line["kind"] == kind);
        lines.map(|line| (line["id"].as_str().unwrap().to_owned(), line["outcome"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(of("image"), [(format!("image:wharf/{}:snapshot-kept", sandbox.id()), json!("kept"))]);
    let volumes = of("volume");
    assert!(volumes.len() == 1 && volumes[0].0.contains(&volume) && volumes[0].1 == "kept", "{volumes:?}");
}

#[test]
fn a_snapshot_that_is_killed_leaves_a_workspace_that_runs_and_nothing_else() {
    let (kept, _) = sandbox_with_volume();
    let sandbox = &kept.0;
    sandbox.sh("head -c 30000000 /dev/urandom > /data/big");
    let volumes = || engine::volumes().iter().filter(|v| v["Labels"]["wharf.host"] == sandbox.host().as_str()).count();
    for delay in [30, 80, 130, 180, 250, 330, 420] {
        let mut run = sandbox.spawn(&["snapshot", "create", "--name", "killed"]);
        std::thread::sleep(std::time::Duration::from_millis(delay));
        run.child().kill().unwrap();
        let whole = run.finish().code == 0;
        // The engine may still carry out the request, so the first checks may come too early.
        let begin = std::time::Instant::now();
        loop {
            sandbox.json(&["ls"]);
            let known = sandbox.store().snapshots(None).unwrap().len();
            let state = sandbox.json(&["inspect"])["state"].clone();
            let found = (state, images_of(&sandbox.host()).len(), volumes(), sandbox.own_containers().len());
            if found == (json!("running"), known, 1 + known, 1) {
                break;
            }
            let open = sandbox.store().open_entries().unwrap();
            assert!(begin.elapsed().as_secs() < 40, "killed after {delay} ms: {found:?}, {known} known, {open:?}");
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        if whole || !sandbox.store().snapshots(None).unwrap().is_empty() {
            sandbox.run(&["snapshot", "rm", &format!("{}/killed", sandbox.id())]).ok();
        }
    }
    assert_eq!(sandbox.sh("cat /data/deep/file"), "volume\n");
}

#[test]
fn a_restore_that_is_killed_at_its_very_end_keeps_the_volumes_of_the_workspace_that_it_made() {
    let (kept, volume) = sandbox_with_volume();
    let sandbox = &kept.0;
    let name = sandbox.json(&["snapshot", "create", "--name", "s"])["name"].as_str().unwrap().to_owned();
    let store = sandbox.store();
    let begin = std::time::Instant::now();
    loop {
        let mut run = sandbox.spawn(&["snapshot", "restore", &name, "--as", "again"]);
        // Killed as soon as the workspace is recorded. The journal's last entry comes a few milliseconds later.
        while !store.workspaces().unwrap().iter().any(|workspace| workspace.name == "again") {
            assert!(begin.elapsed().as_secs() < 60, "it was never written");
        }
        run.child().kill().unwrap();
        run.finish();
        if !store.open_entries().unwrap().is_empty() {
            break;
        }
        sandbox.run(&["rm", "--force", "--volumes", "again"]).ok();
    }
    let ls = sandbox.run(&["ls"]).ok();
    assert!(!ls.stderr.contains("cannot finish or undo"), "{}", ls.stderr);
    // Its volume outlives it, like any named volume.
    sandbox.run(&["rm", "--force", "again"]).ok();
    sandbox.json(&["ls"]);
    let copies = engine::volumes()
        .into_iter()
        .filter(|v| v["Name"].as_str().unwrap().starts_with(&format!("{volume}-restored")));
    assert_eq!(copies.count(), 1);
    assert_eq!(store.open_entries().unwrap(), []);
}
