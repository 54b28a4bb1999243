//! The document that describes this API (OpenAPI 3.1). It is collected from the routes themselves; this file adds the
//! parts that all routes have in common.

use std::collections::BTreeSet;

use axum::response::Response;
use serde_json::{Value, json};
use utoipa::{PartialSchema, ToSchema};

use crate::api::http::access::Routes;
use crate::api::http::args::Args;
use crate::api::http::error::Problem;

/// Properties of answers that may be missing; all other properties are always present.
const OPTIONAL: [(&str, &[&str]); 6] = [
    ("Problem", &["trail", "missing"]),
    ("DecisionRecord", &["owners", "began", "paths", "shadow_of", "differences", "left_out"]),
    ("Difference", &["about"]),
    ("LogLine", &["base64", "partial"]),
    ("ExecResult", &["stdout_base64", "stderr_base64"]),
    ("ProgressEvent", &[]),
];

/// Statuses of problems: the requests that can have it (`""`: all), and the condition.
const PROBLEMS: [(&str, &str, &str); 20] = [
    ("400", "", "The path, query or body is invalid"),
    ("401", "", "The token is missing or unknown"),
    ("403", "", "Denied by a policy or an invariant, or sent by a web page"),
    ("404", "named", "There is no such object"),
    ("406", "stream", "The client does not accept events"),
    ("408", "", "The body did not arrive in time"),
    ("409", "named", "The object is in another state, or another operation works on it"),
    ("409", "changing", "The object is in another state, or another operation works on it"),
    ("413", "", "The body is too large"),
    ("415", "changing", "The body is not JSON"),
    ("421", "", "The request is for another host"),
    ("422", "changing", "The project, or something that it needs, is unusable"),
    ("422", "named", "Something that it needs is unusable"),
    ("426", "exec", "The client does not upgrade to a WebSocket"),
    ("404", "filter", "There is no such workspace or record"),
    ("429", "", "Too many requests"),
    ("500", "", "The configuration, policies or store are unusable"),
    ("502", "", "The engine failed"),
    ("503", "", "The engine is unreachable, the service is stopping, or there are too many requests"),
    ("504", "", "The operation timed out"),
];

/// Get this document
#[utoipa::path(get, path = "/v1/openapi.json",
    responses((status = 200, description = "OpenAPI 3.1", body = Object)))]
pub(in crate::api) async fn document(args: Args) -> Result<Response, Problem> {
    args.end()?;
    static TEXT: std::sync::LazyLock<Value> = std::sync::LazyLock::new(|| complete(crate::api::routes()));
    crate::api::routes::health::answer(&*TEXT)
}

/// Returns the document of these routes.
fn complete(routes: Routes) -> Value {
    let mut document = serde_json::to_value(routes.document()).unwrap_or_default();
    document["info"] = json!({
        "title": "Wharf",
        "description": "A workspace host that its owners program. Every problem has a `code` and a `remedy`.",
        "version": env!("CARGO_PKG_VERSION"),
        "license": { "name": env!("CARGO_PKG_LICENSE"), "identifier": env!("CARGO_PKG_LICENSE") },
    });
    document["servers"] = json!([{ "url": "http://localhost", "description": "The Unix socket of the service" }]);
    type Body = crate::wire::Problem;
    let mut problem = vec![(Body::name().into_owned(), Body::schema())];
    Body::schemas(&mut problem);
    for (name, schema) in problem {
        document["components"]["schemas"][name] = serde_json::to_value(schema).unwrap_or_default();
    }
    if let Some(paths) = document["paths"].as_object_mut() {
        for (path, operations) in paths {
            for (method, operation) in operations.as_object_mut().into_iter().flatten() {
                describe(path, method, operation);
            }
        }
    }
    let taken = taken(&document);
    if let Some(schemas) = document["components"]["schemas"].as_object_mut() {
        for (name, schema) in schemas.iter_mut().filter(|(name, _)| !taken.contains(*name)) {
            let optional = OPTIONAL.iter().find(|(known, _)| known == name).map_or(&[][..], |(_, optional)| optional);
            require(schema, optional);
        }
    }
    document
}

/// Returns the schemas of values that clients send; their optional properties may be left out.
fn taken(document: &Value) -> BTreeSet<String> {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                let name = map.get("$ref").and_then(|to| to.as_str()?.strip_prefix("#/components/schemas/"));
                found.extend(name.map(str::to_owned));
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(all) => all.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let operations = document["paths"].as_object().into_iter().flat_map(|paths| paths.values());
    let mut waiting = Vec::new();
    for operation in operations.filter_map(Value::as_object).flat_map(|operations| operations.values()) {
        references(&operation["requestBody"], &mut waiting);
    }
    let mut taken = BTreeSet::new();
    while let Some(name) = waiting.pop() {
        // Each schema is visited once, so that cycles end.
        if !taken.contains(&name) {
            references(&document["components"]["schemas"][&name], &mut waiting);
            taken.insert(name);
        }
    }
    taken
}

/// Adds the parts that all operations have in common.
fn describe(path: &str, method: &str, operation: &mut Value) {
    let words: Vec<_> = path.split('/').skip(2).map(|word| word.trim_matches(['{', '}'])).collect();
    operation["operationId"] = format!("{method}-{}", words.join("-").replace('.', "-")).into();
    operation["tags"] = json!([words.first().copied().unwrap_or_default()]);
    let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
    let has = |name: &str| parameters.iter().any(|parameter| parameter["name"] == name);
    let applies = |kind: &str| match kind {
        "" => true,
        "named" => path.contains('{'),
        "stream" => path.ends_with("/stream"),
        "exec" => path.ends_with("/exec") && method == "get",
        "filter" => has("workspace") || path.ends_with("/replay"),
        _ => method != "get",
    };
    for (status, kind, when) in PROBLEMS {
        if applies(kind) && operation["responses"].get(status).is_none() {
            operation["responses"][status] = json!({
                "description": when,
                "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
            });
        }
    }
}

/// Marks properties as required. Answers always contain optional values, as null when they are empty, but the schema of
/// an option says only that it may be null.
fn require(schema: &mut Value, optional: &[&str]) {
    match schema {
        Value::Object(map) => {
            if let Some(Value::Object(properties)) = map.get("properties") {
                let names = properties.keys().filter(|name| !optional.contains(&name.as_str()));
                let names: Vec<Value> = names.map(|name| name.as_str().into()).collect();
                if names.is_empty() {
                    drop(map.remove("required"))
                } else {
                    drop(map.insert("required".into(), names.into()))
                }
            }
            for (_, value) in map.iter_mut() {
                require(value, optional);
            }
        }
        Value::Array(all) => all.iter_mut().for_each(|value| require(value, optional)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
    const PAGE: &str = include_str!("../../../../docs/api.md");

    #[test]
    fn the_document_in_the_docs_is_the_one_that_is_served() {
        let now = format!("{:#}\n", complete(crate::api::routes()));
        if std::env::var_os("WHARF_RENEW").is_some() {
            std::fs::write(FILE, &now).unwrap();
        }
        let kept = std::fs::read_to_string(FILE).unwrap_or_default();
        assert!(
            kept == now,
            "docs/openapi.json is outdated: renew it with WHARF_RENEW=1 cargo test -p wharf --lib openapi"
        );
    }

    #[test]
    fn every_route_of_the_page_is_described_and_every_described_one_is_on_the_page() {
        let document = complete(crate::api::routes());
        let mut described = BTreeSet::new();
        for (path, operations) in document["paths"].as_object().unwrap() {
            described.extend(operations.as_object().unwrap().keys().map(|method| format!("{method} {path}")));
        }
        let mut listed = BTreeSet::new();
        for line in PAGE.lines().filter(|line| line.starts_with("| `")) {
            // `POST /v1/a/b`, `c`: each further word replaces the last segment of the path.
            let cell = line.split('|').nth(1).unwrap();
            let mut words = cell.split('`').skip(1).step_by(2);
            let Some((method, path)) = words.next().and_then(|first| first.split_once(' ')) else { continue };
            let parent = path.rsplit_once('/').unwrap().0;
            let others = words.map(|word| format!("{parent}/{word}"));
            listed.extend(
                std::iter::once(path.to_owned()).chain(others).map(|path| format!("{} {path}", method.to_lowercase())),
            );
        }
        assert_eq!(listed, described);
    }

    #[test]
    fn operations_have_names_of_their_own_and_references_lead_somewhere() {
        let document = complete(crate::api::routes());
        let text = document.to_string();
        for part in text.split("\"#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(document["components"]["schemas"].get(name).is_some(), "{name}");
        }
        let mut names = BTreeSet::new();
        for operations in document["paths"].as_object().unwrap().values() {
            for operation in operations.as_object().unwrap().values() {
                let name = operation["operationId"].as_str().unwrap();
                assert!(names.insert(name), "{name}");
                assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{name}");
            }
        }
    }
}
