//! The spans of a trace and their attributes, and the target of log lines about waits. They contain only words from fixed sets, ids and numbers: no path, no
//! query, no body, no value of a spec, because any of these could hold a secret, and a trace leaves the machine.
//!
//! One request creates this tree: request > verb > hook run > policy call, with engine calls below the span that made
//! them. Names and attributes follow OpenTelemetry's semantic conventions for HTTP where these apply, and are
//! `wharf.*` elsewhere.
//!
//! Without a collector (see `telemetry`) there is no listener to [`TARGET`], and each of these functions costs one
//! check of a flag.

use std::fmt::Display;

use tracing::field::Empty;
use tracing::{Span, info_span};

/// The target of all spans.
pub const TARGET: &str = "spans";

/// The target of log lines that say what a command waits for. They are shown without `-v`.
pub const WAIT: &str = "wharf::wait";

/// Creates the span of an API request, named by its declared route.
pub fn request(method: &str, route: &str, id: &str) -> Span {
    info_span!(
        target: TARGET,
        "request",
        otel.name = format!("{method} {route}"),
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = method,
        http.route = route,
        http.response.status_code = Empty,
        wharf.request = id,
        wharf.caller = Empty,
    )
}

/// Records the status of the answer and the name of the caller.
pub fn answered(span: &Span, status: u16, caller: &str) {
    span.record("http.response.status_code", status);
    span.record("wharf.caller", caller);
    if status >= 500 {
        span.record("otel.status_code", "ERROR");
    }
}

/// Creates the span of a verb.
pub fn verb(name: &'static str) -> Span {
    info_span!(target: TARGET, "verb", otel.name = name, otel.status_code = Empty, wharf.verb = name, wharf.outcome = Empty)
}

/// Records how the verb ended: `done`, `denied`, or the code of its error. A denial is not an error.
pub fn ended(span: &Span, outcome: &str) {
    span.record("wharf.outcome", outcome);
    if !matches!(outcome, "done" | "denied") {
        span.record("otel.status_code", "ERROR");
    }
}

/// Creates the span of one hook run for a workspace.
pub fn hook_run(hook: &str, workspace: &str) -> Span {
    info_span!(
        target: TARGET,
        "hook",
        otel.name = format!("hook {hook}"),
        wharf.hook = hook,
        wharf.workspace = workspace,
        wharf.outcome = Empty,
        wharf.decision = Empty,
    )
}

/// Records the outcome of the hook run, and the id of its record.
pub fn decided(span: &Span, outcome: &'static str, id: impl Display) {
    span.record("wharf.outcome", outcome);
    span.record("wharf.decision", tracing::field::display(id));
}

/// Creates the span of one policy call in a hook run; none if the run has no span.
pub fn policy_call(run: &Span, policy: &str, kind: &'static str, mode: &'static str) -> Span {
    if run.is_disabled() {
        return Span::none();
    }
    info_span!(
        target: TARGET,
        parent: run,
        "policy",
        otel.name = format!("{kind} {policy}"),
        otel.status_code = Empty,
        wharf.policy = policy,
        wharf.policy.kind = kind,
        wharf.policy.mode = mode,
        wharf.verdict = Empty,
        error.type = Empty,
    )
}

/// Records the policy's answer: the name of its verdict, or the code of its error.
pub fn said(span: &Span, verdict: Result<&str, &str>) {
    match verdict {
        Ok(word) => span.record("wharf.verdict", word),
        Err(code) => span.record("error.type", code).record("otel.status_code", "ERROR"),
    };
}

/// Creates the span of an engine call within the current span; none without one: the service's constant reading is
/// not traced.
pub fn engine_call(operation: &'static str, method: &str) -> Span {
    if Span::current().is_disabled() {
        return Span::none();
    }
    info_span!(
        target: TARGET,
        "engine",
        otel.name = operation,
        otel.kind = "client",
        otel.status_code = Empty,
        http.request.method = method,
        http.response.status_code = Empty,
    )
}

/// Records the status of the answer. No answer (none) is an error, and so is a status of 400 and above.
pub fn returned(span: &Span, status: Option<u16>) {
    if let Some(status) = status {
        span.record("http.response.status_code", status);
    }
    if status.is_none_or(|status| status >= 400) {
        span.record("otel.status_code", "ERROR");
    }
}
