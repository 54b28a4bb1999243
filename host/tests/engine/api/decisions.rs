//! Decisions and their explanations over the API.

use serde_json::{Value, json};

use crate::service::serve::Serving;
use crate::support::sandbox::{Sandbox, until};
use crate::support::service_api::{get, post};

const RULE: &str = "fn pre_create(ctx) { if ctx.spec.resources.pids == 77 { ctx.deny(\"unlucky\", \"not 77\"); } \
                    ctx.spec.env.TEAM = \"pay\"; }";

#[test]
fn records_are_listed_newest_first_page_after_page_and_shown_as_the_commands_do() {
    let sandbox = Sandbox::new();
    sandbox.script("rule.rhai", RULE);
    let serving = Serving::start(&sandbox, &[]);
    sandbox.up();
    assert_eq!(sandbox.run(&["up", "--name", "other", "--pids", "77"]).code, 4);
    let printed = sandbox.run(&["--json", "audit"]).ok().text();
    let mut printed: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    printed.reverse();
    assert!(printed.len() >= 6);
    assert_eq!(get(&sandbox, "/v1/decisions").ok(), json!(printed));

    let (mut walked, mut path) = (Vec::new(), "/v1/decisions?limit=2".to_owned());
    loop {
        let page = get(&sandbox, &path);
        let next = page.header("link").map(|link| link[1..].split_once(">; rel=\"next\"").unwrap().0.to_owned());
        walked.extend(page.ok().as_array().unwrap().clone());
        match next {
            Some(next) => path = next,
            None => break,
        }
    }
    assert_eq!(walked, printed);

    let denied = get(&sandbox, "/v1/decisions?outcome=denied&hook=pre-create&policy=rule.rhai&since=1h").ok();
    assert_eq!((denied.as_array().unwrap().len(), &denied[0]["outcome"]["denied"]["code"]), (1, &json!("unlucky")));
    let about = get(&sandbox, "/v1/decisions?workspace=project").ok();
    assert!(about.as_array().unwrap().iter().all(|record| record["workspace"] == sandbox.id().as_str()), "{about}");
    let (number, id) = (denied[0]["number"].to_string(), denied[0]["id"].as_str().unwrap());
    assert_eq!(get(&sandbox, &format!("/v1/decisions/{number}")).ok(), denied[0]);
    assert_eq!(get(&sandbox, &format!("/v1/decisions/{id}")).ok(), denied[0]);
    assert_eq!(get(&sandbox, "/v1/decisions/4711").problem(404), "record-not-found");
    for query in ["outcome=fine", "hook=never", "since=soon", "cursor=-1", "wat=1"] {
        assert_eq!(get(&sandbox, &format!("/v1/decisions?{query}")).problem(400), "bad-request", "{query}");
    }
    assert_eq!(get(&sandbox, "/v1/decisions?workspace=no-such").problem(404), "workspace-not-found");
    serving.end();
}

#[test]
fn why_and_plan_say_what_the_commands_say() {
    let sandbox = Sandbox::new();
    sandbox.script("rule.rhai", RULE);
    let serving = Serving::start(&sandbox, &[]);
    sandbox.up();
    assert_eq!(get(&sandbox, "/v1/workspaces/project/why").ok(), sandbox.json(&["why"]));
    let team = get(&sandbox, "/v1/workspaces/project/why?field=env.TEAM").ok();
    assert_eq!(team, sandbox.json(&["why", "project", "env.TEAM"]));
    assert_eq!(team["fields"]["env.TEAM"]["owner"], "rule.rhai");
    assert_eq!(get(&sandbox, "/v1/workspaces/project/why?field=nose").problem(404), "no-field");

    let before = get(&sandbox, "/v1/decisions?limit=1").ok();
    let project = sandbox.project();
    let body = json!({ "project": project, "name": "next", "pids": 50, "env": { "A": "b" }, "publish": ["8080"] });
    let plan = post(&sandbox, "/v1/plan", &body.to_string()).ok();
    let printed = sandbox.json(&["plan", "--name", "next", "--pids", "50", "--env", "A=b", "--publish", "8080"]);
    for key in ["id", "name", "project", "spec", "owners", "fields", "shadows", "denied", "engine"] {
        assert_eq!(plan[key], printed[key], "{key}");
    }
    assert_eq!(plan["fields"]["resources.pids"]["history"][1]["by"]["at"], "--pids 50");
    let denied = post(&sandbox, "/v1/plan", &json!({ "project": project, "pids": 77 }).to_string()).ok();
    assert_eq!(denied["denied"]["code"], "unlucky");
    assert_eq!(get(&sandbox, "/v1/decisions?limit=1").ok(), before, "a plan is no decision");
    for body in [json!({}), json!({ "project": "here" }), json!({ "project": project, "publish": ["x"] })] {
        assert_eq!(post(&sandbox, "/v1/plan", &body.to_string()).problem(400), "bad-request", "{body}");
    }
    let nowhere = json!({ "project": "/no/such/folder" });
    assert_eq!(post(&sandbox, "/v1/plan", &nowhere.to_string()).problem(422), "project-unusable");

    assert_eq!(post(&sandbox, "/v1/workspaces/project/plan", "").ok()["changes"], json!([]));
    sandbox.write("config/policies/rule.rhai", RULE.replace("pay", "ops"));
    post(&sandbox, "/v1/policies/reload", "").ok();
    let diff = post(&sandbox, "/v1/workspaces/project/plan", "").ok();
    assert_eq!((&diff["changes"][0]["field"], &diff["changes"][0]["decided"]), (&json!("env.TEAM"), &json!("ops")));
    let printed = sandbox.run(&["--json", "plan", "--diff=project"]);
    assert_eq!((printed.code, printed.json()), (7, diff));
    serving.terminate();
}

#[test]
fn shadows_are_summed_up_and_records_replayed_against_the_chain_that_decides() {
    let sandbox = Sandbox::new();
    sandbox.script("rule.rhai", RULE);
    sandbox.write("config/policies/new.rhai", "fn pre_create(ctx) { ctx.spec.env.NEW = \"1\"; }");
    sandbox.append_config("[[policy]]\nname = \"new\"\nscript = \"policies/new.rhai\"\nmode = \"shadow\"");
    let serving = Serving::start(&sandbox, &[]);
    sandbox.up();
    until("the shadow was asked", || get(&sandbox, "/v1/policies/shadows").ok()["new"]["changed"] == 1);
    assert_eq!(get(&sandbox, "/v1/policies/shadows").ok(), sandbox.json(&["policy", "diff"]));
    assert_eq!(get(&sandbox, "/v1/policies/shadows?policy=rule.rhai").ok(), json!({}));

    let replayed = post(&sandbox, "/v1/decisions/replay", "").ok();
    let printed = sandbox.json(&["policy", "replay"]);
    for key in ["replayed", "identical", "flipped", "flips", "not_replayed"] {
        assert_eq!(replayed[key], printed[key], "{key}");
    }
    assert!(replayed["identical"].as_u64().is_some_and(|count| count >= 3), "{replayed}");
    sandbox.write("config/policies/rule.rhai", "fn pre_create(ctx) { ctx.deny(\"closed\", \"nothing goes\"); }");
    post(&sandbox, "/v1/policies/reload", "").ok();
    let flipped = post(&sandbox, "/v1/decisions/replay", "{\"hook\": \"pre-create\", \"workspace\": \"project\"}").ok();
    assert_eq!((&flipped["flipped"], &flipped["flips"][0]["reason"]), (&json!(1), &json!("closed")), "{flipped}");
    let number = flipped["flips"][0]["examples"][0]["number"].to_string();
    let one = post(&sandbox, "/v1/decisions/replay", &json!({ "decision": number }).to_string()).ok();
    assert_eq!((&one["replayed"], &one["flipped"]), (&json!(1), &json!(1)));
    for body in
        ["{\"limit\": 0}", "{\"limit\": 2001}", "{\"decision\": \"1\", \"since\": \"1h\"}", "{\"since\": \"x\"}"]
    {
        assert_eq!(post(&sandbox, "/v1/decisions/replay", body).problem(400), "bad-request", "{body}");
    }
    serving.terminate();
}
