//! Traces of the service, received by a collector in the real format: OTLP over HTTP and TLS, in protobuf.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;

use super::serve::Serving;
use crate::support::https;
use crate::support::sandbox::{Sandbox, until};
use crate::support::service_api::{get, send, socket};

/// The trace and the span of a caller's request.
const CALLER: (&str, &str) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");

/// A received request.
#[derive(Clone)]
struct Taken {
    head: String,
    body: Vec<u8>,
}

/// A collector on a port of loopback. Its thread ends with the process.
struct Collector {
    address: SocketAddr,
    taken: Arc<Mutex<Vec<Taken>>>,
    status: Arc<Mutex<&'static str>>,
}

/// Reads one request and answers it.
fn take(stream: &mut (impl Read + Write), status: &str) -> Option<Taken> {
    let mut all = Vec::new();
    let mut piece = [0; 8192];
    loop {
        let count = stream.read(&mut piece).ok().filter(|count| *count > 0)?;
        all.extend_from_slice(&piece[..count]);
        let Some(end) = all.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&all[..end]).to_lowercase();
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok()).unwrap();
        if all.len() < end + 4 + length {
            continue;
        }
        stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes()).ok()?;
        return Some(Taken { head, body: all.split_off(end + 4) });
    }
}

impl Collector {
    fn start(tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, status) = (listener.local_addr().unwrap(), Arc::new(Mutex::new("200 OK")));
        let this = Self { address, taken: Arc::default(), status };
        let (taken, status) = (this.taken.clone(), this.status.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let status = *status.lock().unwrap();
                let one = match &tls {
                    None => take(&mut stream, status),
                    Some(tls) => {
                        take(&mut StreamOwned::new(ServerConnection::new(tls.clone()).unwrap(), stream), status)
                    }
                };
                taken.lock().unwrap().extend(one);
            }
        });
        this
    }

    fn taken(&self) -> Vec<Taken> {
        self.taken.lock().unwrap().clone()
    }

    /// Returns the service's description of itself, and its spans.
    fn spans(&self) -> (BTreeMap<String, String>, Vec<Span>) {
        let (mut service, mut spans) = (BTreeMap::new(), Vec::new());
        for one in self.taken() {
            let request = ExportTraceServiceRequest::decode(&one.body[..]).unwrap();
            for resource in request.resource_spans {
                service = attributes(&resource.resource.unwrap().attributes);
                spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
            }
        }
        (service, spans)
    }
}

fn attributes(all: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &KeyValue| match value.value.as_ref().unwrap().value.as_ref().unwrap() {
        Any::StringValue(text) => text.clone(),
        Any::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    };
    all.iter().map(|value| (value.key.clone(), text(value))).collect()
}

/// Returns a span's attribute.
fn says(span: &Span, name: &str) -> String {
    attributes(&span.attributes).remove(name).unwrap_or_default()
}

/// Returns the child spans of a span.
fn below<'a>(spans: &'a [Span], above: &Span) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.parent_span_id == above.span_id).collect()
}

#[track_caller]
fn named<'a>(spans: &[&'a Span], name: &str) -> &'a Span {
    let found: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
    let names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(found.len(), 1, "'{name}' among {names:?}");
    found[0]
}

/// Returns whether its status is an error.
fn failed(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code == 2)
}

// Long because it follows one request through every span of its trace.
#[test]
fn a_request_with_its_verb_its_hook_runs_and_calls_of_policies_and_engine_is_one_trace_without_a_secret() {
    let mut sandbox = Sandbox::new();
    let collector = Collector::start(None);
    sandbox.env("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{}", collector.address));
    sandbox.env("OTEL_EXPORTER_OTLP_HEADERS", "x-team=wharf");
    sandbox.env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test");
    sandbox.script(
        "rule.rhai",
        "fn pre_create(ctx) { }\nfn pre_exec(ctx) { ctx.deny(\"no-exec\", \"not here: \" + ctx.exec.command[1]); }",
    );
    let serving = Serving::start(&sandbox, &[]);
    let body = json!({
        "project": sandbox.project(), "image": "wharf-base:local", "command": ["sleep", "1000"],
        "env": { "PASSWORD": "s3cr3t-value" }, "secrets": { "key": "s3cr3t-file" }, "labels": { "team": "pay" },
    });
    let trace = format!("00-{}-{}-01", CALLER.0, CALLER.1);
    let headers = format!("host: localhost\r\ncontent-type: application/json\r\ntraceparent: {trace}\r\n");
    let made = send(&socket(&sandbox), "POST", "/v1/workspaces", &headers, &body.to_string()).ok();
    let id = made["id"].as_str().unwrap();
    let exec = json!({ "command": ["echo", "s3cr3t-word"] }).to_string();
    let path = format!("/v1/workspaces/{id}/exec");
    let denied = send(&socket(&sandbox), "POST", &format!("{path}?s3cr3t-query"), &headers, &exec);
    assert_ne!(denied.status, 200);
    let denied = send(&socket(&sandbox), "POST", &path, &headers.replace("traceparent", "other"), &exec);
    assert_eq!(denied.problem(403), "no-exec");
    // Remaining spans are sent at the end.
    serving.end();

    let (service, spans) = collector.spans();
    assert_eq!(service["service.name"], "wharf");
    assert_eq!(service["service.version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(service["deployment.environment.name"], "test");
    let taken = collector.taken();
    assert!(taken[0].head.starts_with("post /v1/traces http/1.1\r\n"), "{}", taken[0].head);
    assert!(taken[0].head.contains("\r\nx-team: wharf"), "{}", taken[0].head);
    for one in &taken {
        assert!(!String::from_utf8_lossy(&one.body).contains("s3cr3t"));
    }

    let all: Vec<_> = spans.iter().collect();
    let request = named(&all, "POST /v1/workspaces");
    assert_eq!(
        (hex::encode(&request.trace_id), hex::encode(&request.parent_span_id)),
        (CALLER.0.to_owned(), CALLER.1.to_owned())
    );
    assert_eq!((request.kind, failed(request)), (2, false));
    assert_eq!(says(request, "http.response.status_code"), "200");
    let verb = named(&below(&spans, request), "up");
    assert_eq!(says(verb, "wharf.outcome"), "done");
    let steps = below(&spans, verb);
    let hook = named(&steps, "hook pre-create");
    assert_eq!((says(hook, "wharf.workspace"), says(hook, "wharf.outcome")), (id.to_owned(), "allowed".to_owned()));
    let record = sandbox.json(&["audit", "show", &says(hook, "wharf.decision")]);
    assert_eq!(record["hook"], "pre-create", "{record}");
    let asked: Vec<_> =
        record["steps"].as_array().unwrap().iter().map(|step| step["policy"].as_str().unwrap()).collect();
    let called: Vec<_> = below(&spans, hook).into_iter().map(|span| says(span, "wharf.policy")).collect();
    assert!(!asked.is_empty() && asked == called, "{asked:?} {called:?}");
    assert_eq!(says(below(&spans, hook)[0], "wharf.verdict"), "pass");
    named(&steps, "hook select-image");
    named(&steps, "hook security-profile");
    let engine = named(&steps, "create the container");
    assert_eq!((engine.kind, says(engine, "http.response.status_code")), (3, "201".to_owned()));
    for step in &steps {
        assert_eq!(step.trace_id, request.trace_id);
        assert!(
            step.start_time_unix_nano >= verb.start_time_unix_nano
                && step.end_time_unix_nano <= verb.end_time_unix_nano
        );
    }

    // A denial is no error, and a request without a trace starts a new one.
    let requests: Vec<_> = spans.iter().filter(|span| says(span, "http.response.status_code") == "403").collect();
    let request = named(&requests, "POST /v1/workspaces/{id}/exec");
    assert!(request.parent_span_id.is_empty() && !failed(request));
    let verb = named(&below(&spans, request), "exec");
    assert_eq!((says(verb, "wharf.outcome"), failed(verb)), ("denied".to_owned(), false));
    let hook = named(&below(&spans, verb), "hook pre-exec");
    assert_eq!(says(hook, "wharf.outcome"), "denied");
    assert_eq!(says(named(&below(&spans, hook), "script rule.rhai"), "wharf.verdict"), "deny");
}

#[test]
fn a_collector_that_refuses_or_is_away_is_told_of_once_and_keeps_nobody_waiting() {
    let mut sandbox = Sandbox::new();
    let collector = Collector::start(None);
    sandbox.env("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{}", collector.address));
    sandbox.env("OTEL_BSP_SCHEDULE_DELAY", "50");
    let serving = Serving::start(&sandbox, &[]);
    for status in ["400 Bad Request", "200 OK"] {
        *collector.status.lock().unwrap() = status;
        let before = collector.taken().len();
        until("it was sent spans", || {
            get(&sandbox, "/v1/version").ok();
            collector.taken().len() >= before + 3
        });
    }
    let said = serving.terminate();
    assert_eq!(said.matches("does not accept traces").count(), 1, "{said}");
    assert_eq!(said.matches("accepts traces again").count(), 1, "{said}");
    assert_eq!(said.lines().count(), 2, "{said}");

    // The port has no listener.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    sandbox.env("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{address}"));
    let serving = Serving::start(&sandbox, &[]);
    get(&sandbox, "/v1/version").ok();
    let said = serving.terminate();
    assert!(said.contains(&format!("the collector at {address} does not accept traces")), "{said}");
    assert!(said.contains("refused"), "{said}");
}

#[test]
fn spans_go_over_tls_to_a_collector_whose_authority_is_named() {
    let mut sandbox = Sandbox::new();
    let path = https::certificate(&sandbox);
    let cert = CertificateDer::from_pem_file(&path).unwrap();
    let key = PrivateKeyDer::from_pem_file(sandbox.path("tls/key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(vec![cert], key).unwrap());
    let collector = Collector::start(Some(config));
    let endpoint = format!("https://localhost:{}/here/traces", collector.address.port());
    sandbox.env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &endpoint);
    sandbox.env("OTEL_EXPORTER_OTLP_CERTIFICATE", path.to_str().unwrap());
    sandbox.env("OTEL_SERVICE_NAME", "wharf-of-a-team");
    let serving = Serving::start(&sandbox, &[]);
    get(&sandbox, "/v1/version").ok();
    serving.end();
    let (service, spans) = collector.spans();
    assert_eq!(service["service.name"], "wharf-of-a-team");
    assert!(spans.iter().any(|span| span.name == "GET /v1/version"));
    assert!(collector.taken()[0].head.starts_with("post /here/traces "), "{}", collector.taken()[0].head);
}

#[test]
fn what_the_environment_asks_for_in_vain_keeps_the_service_from_beginning_and_no_other_command() {
    let cases = [
        (vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "collector")], "OTEL_EXPORTER_OTLP_ENDPOINT"),
        (vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://127.0.0.1:1")], "http://"),
        (vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:s3cr3t@127.0.0.1:1")], "OTEL_EXPORTER_OTLP_HEADERS"),
        (vec![("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")], "http/protobuf"),
        (vec![("OTEL_EXPORTER_OTLP_TIMEOUT", "soon")], "milliseconds"),
        (
            vec![
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://127.0.0.1:1"),
                ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere.pem"),
            ],
            "/nowhere.pem",
        ),
    ];
    for (variables, told) in cases {
        let mut sandbox = Sandbox::new();
        sandbox.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1");
        for (name, value) in &variables {
            sandbox.env(name, value);
        }
        for args in [&["--json", "serve"][..], &["--json", "serve", "--check"]] {
            let refused = sandbox.run(args);
            let error = refused.error();
            assert_eq!((refused.code, &error["code"]), (3, &json!("traces")), "{error}");
            let said = error.to_string();
            assert!(said.contains(told) && !said.contains("s3cr3t"), "{said}");
        }
        sandbox.run(&["ls"]).ok();
    }
    let mut sandbox = Sandbox::new();
    sandbox.env("OTEL_EXPORTER_OTLP_ENDPOINT", "nonsense");
    sandbox.env("OTEL_SDK_DISABLED", "true");
    sandbox.run(&["serve", "--check"]).ok();
}
