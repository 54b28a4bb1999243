//! Compares the API's answers with its document: every property is described, and every required property is present.

use serde_json::{Map, Value, json};

use crate::service::serve::Serving;
use crate::support::sandbox::{Sandbox, until};
use crate::support::service_api::{self as api, get, post};

struct Document(Value);

impl Document {
    fn kept() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
        Self(serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap())
    }

    /// Checks an answer against the schema of a route.
    #[track_caller]
    fn check(&self, method: &str, path: &str, answer: &Value) {
        let operation = &self.0["paths"][path][method];
        assert!(operation.is_object(), "{method} {path} is not described");
        let schema = &operation["responses"]["200"]["content"]["application/json"]["schema"];
        assert!(schema.is_object(), "{method} {path} has no schema");
        let wrong = self.wrong(schema, answer, "", true);
        assert!(wrong.is_empty(), "{method} {path}: {}\n{answer:#}", wrong.join("\n"));
    }

    /// Returns the errors of a value. With `whole`, undescribed properties are errors.
    fn wrong(&self, schema: &Value, value: &Value, at: &str, whole: bool) -> Vec<String> {
        if let Some(name) = schema["$ref"].as_str() {
            let name = name.strip_prefix("#/components/schemas/").unwrap();
            return self.wrong(&self.0["components"]["schemas"][name], value, at, whole);
        }
        if let Some(all) = schema["allOf"].as_array() {
            return all.iter().flat_map(|one| self.wrong(one, value, at, false)).collect();
        }
        for key in ["oneOf", "anyOf"] {
            if let Some(any) = schema[key].as_array() {
                let each: Vec<_> = any.iter().map(|one| self.wrong(one, value, at, whole)).collect();
                let fits = each.iter().any(Vec::is_empty);
                return if fits {
                    vec![]
                } else {
                    vec![format!("{at}: fits none of {}: {}", schema[key], each.concat().join("; "))]
                };
            }
        }
        let mut wrong = Vec::new();
        let is = |kind: &str| match kind {
            "null" => value.is_null(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            other => panic!("{other}"),
        };
        let kinds: Vec<&str> = match &schema["type"] {
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
            Value::String(kind) => vec![kind],
            _ => vec![],
        };
        if !kinds.is_empty() && !kinds.into_iter().any(is) {
            return vec![format!("{at}: {value} is no {}", schema["type"])];
        }
        if let Some(words) = schema["enum"].as_array().filter(|words| !words.contains(value)) {
            wrong.push(format!("{at}: {value} is none of {words:?}"));
        }
        if let Some(all) = value.as_array() {
            for (index, one) in all.iter().enumerate() {
                wrong.extend(self.wrong(&schema["items"], one, &format!("{at}[{index}]"), true));
            }
        }
        if let Some(object) = value.as_object() {
            let none = Map::new();
            let described = schema["properties"].as_object().unwrap_or(&none);
            for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                if !object.contains_key(name) {
                    wrong.push(format!("{at}.{name} is missing"));
                }
            }
            for (name, one) in object {
                let place = format!("{at}.{name}");
                match (described.get(name), &schema["additionalProperties"]) {
                    (Some(schema), _) => wrong.extend(self.wrong(schema, one, &place, true)),
                    (None, further @ Value::Object(_)) => wrong.extend(self.wrong(further, one, &place, true)),
                    (None, Value::Bool(false)) => wrong.push(format!("{place} may not be there")),
                    (None, _) if whole && !described.is_empty() => wrong.push(format!("{place} is not described")),
                    (None, _) => {}
                }
            }
        }
        wrong
    }
}

// Long because it asks every route that answers with a document, one after the other.
#[test]
fn answers_are_what_the_document_says() {
    let sandbox = Sandbox::new();
    sandbox.script(
        "rule.rhai",
        "fn pre_create(ctx) { ctx.spec.env.TEAM = \"pay\"; } fn post_start(ctx) { ctx.note(\"hello\"); }",
    );
    sandbox.write("config/policies/new.rhai", "fn pre_create(ctx) { ctx.spec.env.NEW = \"1\"; }");
    sandbox.append_config("[[policy]]\nname = \"new\"\nscript = \"policies/new.rhai\"\nmode = \"shadow\"");
    sandbox.append_config("[metrics]\ninterval = \"1s\"\n[idle]\nafter = \"2h\"");
    let serving = Serving::start(&sandbox, &[]);
    until("the engine is there", || get(&sandbox, "/v1/ready").status == 200);
    let document = Document::kept();
    let body = json!({
        "project": sandbox.project(), "publish": ["8080"], "tmpfs": ["/scratch"], "ulimits": ["nofile=512"], "disk": "10GiB",
        "health": { "command": "true", "interval": "1s" }, "labels": { "team": "pay" }, "ttl": "8h",
        "mounts": [format!("data-{}:/data", sandbox.name())], "secrets": { "token": "s3cr3t" },
    });
    let send = |path: &str, body: &Value| post(&sandbox, path, &body.to_string()).ok();
    document.check("post", "/v1/workspaces", &send("/v1/workspaces?wait=60s", &body));
    document.check("post", "/v1/plan", &send("/v1/plan", &body));
    document.check("post", "/v1/workspaces/{id}/plan", &send("/v1/workspaces/project/plan", &json!({})));
    document.check("post", "/v1/workspaces/{id}/wait", &send("/v1/workspaces/project/wait", &json!({})));
    document.check(
        "post",
        "/v1/workspaces/{id}/lease",
        &send("/v1/workspaces/project/lease", &json!({ "time": "1h" })),
    );
    let sidecar = json!({ "image": "wharf-base:local", "command": ["sleep", "600"] });
    document.check(
        "post",
        "/v1/workspaces/{id}/sidecars/{name}",
        &send("/v1/workspaces/project/sidecars/db", &sidecar),
    );
    post(&sandbox, "/v1/workspaces/project%2Fdb/down", "").ok();
    let put = |path: &str, body: &str| api::send(&api::socket(&sandbox), "PUT", path, "host: localhost\r\n", body).ok();
    document.check("put", "/v1/workspaces/{id}/secrets/{name}", &put("/v1/workspaces/project/secrets/more", "s3cr3t"));
    // Two empty blocks: an empty archive.
    let empty = "\0".repeat(1024);
    document.check("put", "/v1/workspaces/{id}/files", &put("/v1/workspaces/project/files?path=/tmp", &empty));
    let kind = get(&sandbox, "/v1/workspaces/project/files/kind?path=/tmp").ok();
    document.check("get", "/v1/workspaces/{id}/files/kind", &kind);
    assert_eq!(get(&sandbox, "/v1/workspaces/project/files?path=/bin/sh").header("wharf-path-kind"), Some("file"));
    document.check("post", "/v1/workspaces/{id}/snapshots", &send("/v1/workspaces/project/snapshots", &json!({})));
    document.check("post", "/v1/decisions/replay", &send("/v1/decisions/replay", &json!({})));
    document.check("post", "/v1/cleanup/sweep", &send("/v1/cleanup/sweep", &json!({ "dry_run": true })));
    document.check("post", "/v1/policies/reload", &send("/v1/policies/reload", &json!({})));
    let run = json!({ "command": ["sh", "-c", "printf '\\377'; exit 3"] });
    document.check("post", "/v1/workspaces/{id}/exec", &send("/v1/workspaces/project/exec", &run));
    until("there are readings", || get(&sandbox, "/v1/workspaces/project/metrics").ok() != json!([]));
    until("the shadow was asked", || get(&sandbox, "/v1/policies/shadows").ok() != json!({}));
    for path in [
        "/v1/health",
        "/v1/ready",
        "/v1/version",
        "/v1/session",
        "/v1/workspaces",
        "/v1/workspaces/{id}",
        "/v1/workspaces/{id}/metrics",
        "/v1/workspaces/{id}/why",
        "/v1/workspaces/{id}/idle",
        "/v1/workspaces/{id}/lease",
        "/v1/workspaces/{id}/stats",
        "/v1/idle",
        "/v1/stats",
        "/v1/events",
        "/v1/decisions",
        "/v1/policies",
        "/v1/policies/shadows",
        "/v1/images",
        "/v1/snapshots",
        "/v1/volumes",
        "/v1/workspaces/{id}/secrets",
        "/v1/cleanup",
    ] {
        let answer = get(&sandbox, &path.replace("{id}", "project")).ok();
        assert!(answer != json!([]) || path == "/v1/cleanup", "{path} has nothing to be held against its schema");
        document.check("get", path, &answer);
    }
    document.check("get", "/v1/decisions/{record}", &get(&sandbox, "/v1/decisions/1").ok());
    let lines = get(&sandbox, "/v1/workspaces/project/logs");
    assert_eq!(lines.status, 200);
    let problem = get(&sandbox, "/v1/workspaces/no-such");
    let schema = &document.0["components"]["schemas"]["Problem"];
    assert_eq!(document.wrong(schema, &problem.json(), "", true), Vec::<String>::new());
    for name in sandbox.json(&["snapshot", "ls"]).as_array().unwrap() {
        sandbox.run(&["snapshot", "rm", name["name"].as_str().unwrap()]).ok();
    }
    serving.terminate();
}
