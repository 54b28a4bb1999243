//! `/metrics`: it is valid OpenMetrics, and each metric changes when its event happens.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::net::UnixStream;

use crate::service::serve::Serving;
use crate::support::fake_daemon::Outage;
use crate::support::sandbox::{Sandbox, until};
use crate::support::service_api::{self as api, get, post};

/// The scraped metrics: series -> value.
struct Scraped(BTreeMap<String, f64>);

impl Scraped {
    /// Parses them strictly: every sample belongs to a metric with type and help, no series is duplicated, and the
    /// end marker is present.
    #[track_caller]
    fn of(sandbox: &Sandbox) -> Self {
        let answer = get(sandbox, "/metrics");
        assert_eq!(answer.status, 200, "{}", answer.head);
        assert!(answer.header("content-type").unwrap().starts_with("application/openmetrics-text; version=1.0.0"));
        let text = String::from_utf8(answer.body).unwrap();
        assert!(text.ends_with("# EOF\n"), "{text}");
        // It contains no text chosen by a caller.
        assert!(!text.contains(&sandbox.id()) && !text.contains("project"), "{text}");
        let (mut kinds, mut helped, mut series) = (BTreeMap::new(), 0, BTreeMap::new());
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "{line}");
            } else if line.starts_with("# HELP ") {
                helped += 1;
            } else if !line.starts_with("# ") {
                let (key, value) = line.rsplit_once(' ').unwrap();
                let name = key.split('{').next().unwrap();
                let ends = ["_total", "_bucket", "_sum", "_count", "_info", ""];
                let metric = ends.iter().find_map(|end| kinds.get_key_value(name.strip_suffix(end)?));
                let (metric, kind) = metric.unwrap_or_else(|| panic!("no type: {line}"));
                assert!(metric.starts_with("wharf_"), "{line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                assert!(key == name || key.ends_with("\"}"), "{line}");
                assert!(series.insert(key.to_owned(), value.parse().unwrap()).is_none(), "{line}");
            }
        }
        assert_eq!(kinds.len(), helped);
        Self(series)
    }

    /// Returns the value of a series by its name and labels in order; a missing series has not happened.
    fn value(&self, series: &str) -> f64 {
        self.0.get(series).copied().unwrap_or(0.0)
    }
}

// Long because it makes each thing happen that a metric counts, one after the other.
#[test]
fn each_metric_moves_when_the_thing_happens() {
    let sandbox = Sandbox::new();
    sandbox.script(
        "rule.rhai",
        "fn pre_create(ctx) {
    if ctx.spec.resources.pids == 77 { ctx.deny(\"unlucky\", \"not 77\"); }
    if ctx.spec.resources.pids == 78 { throw \"boom\"; }
}
fn cleanup(ctx) { for c in ctx.candidates { ctx.remove(c.id, \"out of use\"); } }",
    );
    sandbox.append_config("[metrics]\ninterval = \"1s\"\n[cleanup]\ngrace = \"0s\"\n");
    sandbox.up();
    let serving = Serving::start(&sandbox, &[]);
    until("it is ready", || get(&sandbox, "/v1/ready").status == 200);
    let now = || Scraped::of(&sandbox);
    let value = |series: &str| now().value(series);
    assert_eq!(value(&format!("wharf_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"))), 1.0);
    until("the state is known", || value("wharf_workspaces{state=\"running\"}") == 1.0);
    assert_eq!(value("wharf_workspaces{state=\"exited\"}"), 0.0);
    until("it was read what workspaces use", || value("wharf_collector_last_reading_timestamp_seconds") > 1e9);
    assert!(value("wharf_store_size_bytes{part=\"database\"}") > 0.0);
    assert_eq!((value("wharf_engine_up"), value("wharf_last_reload_success")), (1.0, 1.0));
    // The connection of this request.
    assert_eq!(value("wharf_connections{listener=\"socket\"}"), 1.0);

    // Streams.
    assert_eq!(value("wharf_streams"), 0.0);
    let mut stream = UnixStream::connect(api::socket(&sandbox)).unwrap();
    stream.write_all(b"GET /v1/events HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\r\n").unwrap();
    until("it is followed", || value("wharf_streams") == 1.0);
    drop(stream);
    until("it is left", || value("wharf_streams") == 0.0);

    // Verbs, and requests.
    let verb = |verb: &str, body: &str| post(&sandbox, &format!("/v1/workspaces/project/{verb}"), body);
    verb("pause", "").ok();
    verb("unpause", "").ok();
    let after = now();
    assert_eq!(after.value("wharf_verbs_total{verb=\"pause\",outcome=\"done\"}"), 1.0);
    assert_eq!(after.value("wharf_verb_seconds_count{verb=\"pause\"}"), 1.0);
    assert!(after.value("wharf_verb_seconds_sum{verb=\"pause\"}") > 0.0);
    let route = "route=\"/v1/workspaces/{id}/pause\"";
    assert_eq!(after.value(&format!("wharf_requests_total{{{route},method=\"POST\",status=\"200\"}}")), 1.0);
    assert_eq!(after.value(&format!("wharf_request_seconds_count{{{route}}}")), 1.0);
    get(&sandbox, "/no/such/path").problem(404);
    assert_eq!(value("wharf_requests_total{route=\"none\",method=\"GET\",status=\"404\"}"), 1.0);

    // Verdicts of policies.
    verb("update", "{\"pids\": 100}").ok();
    verb("update", "{\"pids\": 77}").problem(403);
    verb("update", "{\"pids\": 78}").problem(403);
    let after = now();
    let rule = |verdict: &str| {
        format!("wharf_decisions_total{{policy=\"rule.rhai\",hook=\"pre-create\",verdict=\"{verdict}\"}}")
    };
    assert!(after.value(&rule("pass")) >= 1.0);
    assert_eq!((after.value(&rule("deny")), after.value(&rule("error"))), (1.0, 1.0));
    let errors: f64 =
        after.0.iter().filter(|(key, _)| key.starts_with("wharf_policy_errors_total{")).map(|(_, value)| value).sum();
    assert_eq!(errors, 1.0);
    assert!(after.value("wharf_policy_call_seconds_count{policy=\"rule.rhai\"}") >= 3.0);
    assert_eq!(after.value("wharf_breakers_open{policy=\"rule.rhai\"}"), 0.0);
    assert_eq!(after.value("wharf_verbs_total{verb=\"update\",outcome=\"denied\"}"), 2.0);

    // Reloads.
    let good = std::fs::read_to_string(sandbox.path("config/policies/rule.rhai")).unwrap();
    sandbox.write("config/policies/rule.rhai", "fn pre_create(ctx) {");
    post(&sandbox, "/v1/policies/reload", "").problem(422);
    assert_eq!(value("wharf_last_reload_success"), 0.0);
    sandbox.write("config/policies/rule.rhai", good);
    post(&sandbox, "/v1/policies/reload", "").ok();
    let after = now();
    assert!(after.value("wharf_reloads_total{outcome=\"refused\"}") >= 1.0);
    assert!(after.value("wharf_reloads_total{outcome=\"taken\"}") >= 1.0);
    assert_eq!(after.value("wharf_last_reload_success"), 1.0);

    // Tokens.
    sandbox.run(&["token", "create", "ci", "--role", "viewer"]).ok();
    assert_eq!(value("wharf_tokens"), 1.0);

    // Sweeps.
    verb("kill", "").ok();
    post(&sandbox, "/v1/cleanup/sweep", "{\"dry_run\": true}").ok();
    assert_eq!(value("wharf_sweeps_total{outcome=\"done\"}"), 0.0);
    post(&sandbox, "/v1/cleanup/sweep", "{\"no_grace\": true}").ok();
    let after = now();
    assert_eq!(after.value("wharf_sweeps_total{outcome=\"done\"}"), 1.0);
    assert_eq!(after.value("wharf_swept_total{kind=\"workspace\",outcome=\"removed\"}"), 1.0);
    until("it is gone", || value("wharf_workspaces{state=\"running\"}") == 0.0);
    serving.terminate();
}

#[test]
fn an_engine_that_goes_away_and_what_fails_then_are_counted() {
    let sandbox = Sandbox::new();
    let outage = Outage::new(&sandbox.path("relay.sock"));
    let serving = Serving::start(&sandbox, &["--engine", &outage.endpoint]);
    until("it is ready", || get(&sandbox, "/v1/ready").status == 200);
    let value = |series: &str| Scraped::of(&sandbox).value(series);
    assert_eq!(value("wharf_engine_up"), 1.0);
    let before = value("wharf_engine_errors_total");
    outage.set_away(true);
    until("it is away", || value("wharf_engine_up") == 0.0);
    api::get(&sandbox, "/v1/workspaces").problem(503);
    assert!(value("wharf_engine_errors_total") > before);
    outage.set_away(false);
    until("it is back", || value("wharf_engine_up") == 1.0);
    serving.terminate();
}
