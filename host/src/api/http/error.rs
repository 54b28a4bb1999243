//! Problems (RFC 9457): the failure with its status, and with the same code and remedy as in the CLI.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::service::Failed;
use crate::store::Role;
use crate::wire::{self, ErrorKind};
use crate::{lifecycle, records, store};

/// A failure as a client sees it, with its headers.
#[derive(Debug)]
pub(in crate::api) struct Problem {
    body: Box<wire::Problem>,
    /// Seconds until the client may retry.
    retry_after: Option<u64>,
    /// The header `WWW-Authenticate`.
    authenticate: Option<&'static str>,
    /// Whether the connection closes, because the rest of the request stays unread.
    close: bool,
}

impl Problem {
    /// Creates a problem of the API itself.
    fn new(status: StatusCode, code: &str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::of((status, kind(status)), code, detail, remedy)
    }

    fn of(
        (status, kind): (StatusCode, ErrorKind),
        code: &str,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let body = Box::new(wire::Problem {
            about: "about:blank".to_owned(),
            title: status.canonical_reason().unwrap_or("Problem").to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            code: code.to_owned(),
            kind: Some(kind),
            remedy: remedy.into(),
            trail: Vec::new(),
            missing: Vec::new(),
        });
        Self { body, retry_after: None, authenticate: None, close: false }
    }

    /// Adds `Retry-After`.
    fn again(mut self) -> Self {
        self.retry_after = Some(1);
        self
    }

    fn authenticate(mut self, how: &'static str) -> Self {
        self.authenticate = Some(how);
        self
    }

    pub(in crate::api) fn no_route() -> Self {
        Self::new(StatusCode::NOT_FOUND, "no-route", "there is no such path", "see docs/api.md for all routes")
    }

    pub(in crate::api) fn wrong_method() -> Self {
        let detail = "this path does not support that method";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "wrong-method", detail, "see the header 'allow' for its methods")
    }

    pub(in crate::api) fn only_events() -> Self {
        let remedy = "send the header 'accept: text/event-stream'";
        Self::new(StatusCode::NOT_ACCEPTABLE, "only-events", "this path only returns events", remedy)
    }

    /// Returns the problem of a request that names no caller.
    pub(in crate::api) fn no_token() -> Self {
        let detail = "the request has no token, or its session has ended";
        let remedy = "send the header 'authorization: Bearer TOKEN'; create a token with 'wharf token create'";
        Self::new(StatusCode::UNAUTHORIZED, "no-token", detail, remedy).authenticate("Bearer realm=\"wharf\"")
    }

    /// Returns the problem of an unknown token or session.
    pub(in crate::api) fn bad_token() -> Self {
        let detail = "the token is unknown, revoked or expired";
        let remedy = "see 'wharf token ls', and create another one with 'wharf token create'";
        let how = "Bearer realm=\"wharf\", error=\"invalid_token\"";
        Self::new(StatusCode::UNAUTHORIZED, "bad-token", detail, remedy).authenticate(how)
    }

    pub(in crate::api) fn no_session() -> Self {
        let detail = "a session needs a token, over the network";
        Self::new(StatusCode::BAD_REQUEST, "no-session", detail, "send the header 'authorization: Bearer TOKEN'")
    }

    pub(in crate::api) fn too_often(what: &str, wait: std::time::Duration) -> Self {
        let seconds = wait.as_secs_f64().ceil().max(1.0) as u64;
        let remedy = format!("try again in {seconds} s");
        let mut problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "too-often", format!("too many {what}"), remedy);
        problem.retry_after = Some(seconds);
        problem
    }

    pub(in crate::api) fn role(has: Role, needs: Role) -> Self {
        let detail = format!("this needs the role {needs}, but the token has the role {has}");
        Self::new(StatusCode::FORBIDDEN, "role", detail, "use a token with that role")
    }

    pub(in crate::api) fn label_scope() -> Self {
        let detail =
            "this concerns the whole installation, but the token can only access workspaces with certain labels";
        Self::new(StatusCode::FORBIDDEN, "label-scope", detail, "use a token without labels")
    }

    pub(in crate::api) fn host_paths() -> Self {
        let detail = "the token can only access workspaces with certain labels, and cannot check mounts or builds";
        Self::new(StatusCode::FORBIDDEN, "label-scope", detail, "use a token without labels")
    }

    pub(in crate::api) fn project_paths() -> Self {
        let detail = "the project requests something that is not allowed, or does not exist";
        let remedy = "use a token without labels to see the cause";
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "project-paths", detail, remedy)
    }

    /// Returns the problem in place of details that a caller with labels must not see.
    pub(in crate::api) fn withheld() -> Self {
        let detail = "the host or the engine lacks or forbids something that the workspace needs";
        let remedy = "ask an admin: the log of the service has the cause";
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "withheld", detail, remedy)
    }

    pub(in crate::api) fn only_websocket() -> Self {
        let detail = "this path needs a WebSocket (version 13)";
        let remedy = "send 'connection: upgrade' and 'upgrade: websocket', or use POST to collect the output";
        Self::new(StatusCode::UPGRADE_REQUIRED, "only-websocket", detail, remedy)
    }

    pub(in crate::api) fn other_request() -> Self {
        let detail = "the key in the header 'idempotency-key' was used for another request";
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "key-reused", detail, "use a new key for each request")
    }

    pub(in crate::api) fn same_request_runs() -> Self {
        let detail = "the same request is still in progress";
        Self::new(StatusCode::CONFLICT, "still-running", detail, "send it again a little later").again()
    }

    pub(in crate::api) fn took_longer(limit: std::time::Duration) -> Self {
        let detail = format!("the command took longer than {} s and was killed", limit.as_secs_f64());
        Self::new(StatusCode::REQUEST_TIMEOUT, "timeout", detail, "allow more time with 'timeout'")
    }

    /// Returns its status.
    pub(in crate::api) fn status(&self) -> u16 {
        self.body.status
    }

    pub(in crate::api) fn cross_site(header: &str) -> Self {
        let detail = format!("requests from other web pages are refused ('{header}')");
        let remedy = "call the API from a program, or from its own pages over TLS";
        Self::new(StatusCode::FORBIDDEN, "cross-site", detail, remedy)
    }

    pub(in crate::api) fn wrong_host() -> Self {
        let detail = "the request is for another host";
        let remedy = "send the header 'host: localhost', or add the name to api.hosts";
        Self::new(StatusCode::MISDIRECTED_REQUEST, "wrong-host", detail, remedy)
    }

    pub(in crate::api) fn no_host() -> Self {
        Self::request("the header 'host' is missing or set more than once")
    }

    pub(in crate::api) fn too_large(most: usize) -> Self {
        let detail = format!("the body is larger than {most} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail, "send a smaller body")
    }

    pub(in crate::api) fn too_slow(most: std::time::Duration) -> Self {
        let detail = format!("the body did not arrive within {} s", most.as_secs());
        let mut problem =
            Self::new(StatusCode::REQUEST_TIMEOUT, "too-slow", detail, "send the whole request without delay");
        problem.close = true;
        problem
    }

    pub(in crate::api) fn broken_body() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "broken-body", "the body was cut off", "send the request again")
    }

    pub(in crate::api) fn took_too_long(most: std::time::Duration) -> Self {
        let detail = format!("no response within {} s", most.as_secs());
        Self::new(StatusCode::GATEWAY_TIMEOUT, "timeout", detail, "check whether the engine responds: GET /v1/ready")
    }

    pub(in crate::api) fn busy(what: &str) -> Self {
        let detail = format!("too many {what} at once");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail, "try again a little later").again()
    }

    pub(in crate::api) fn share(what: &str) -> Self {
        let detail = format!("too many {what} of this token at once");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail, "end some of them, or try again a little later")
            .again()
    }

    pub(in crate::api) fn stopping() -> Self {
        let detail = "the service is stopping and accepts no new requests";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", detail, "try again when it is running again").again()
    }

    pub(in crate::api) fn engine_away() -> Self {
        let detail = "the engine has not been reachable since the start of the service";
        let remedy = "see 'wharf doctor', and try again when GET /v1/ready says so";
        let kind = ErrorKind::EngineUnreachable;
        Self::of((status(kind), kind), "engine-unreachable", detail, remedy).again()
    }

    pub(in crate::api) fn not_ready(missing: Vec<String>) -> Self {
        let detail = format!("not ready: {}", missing.join("; "));
        let mut problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "not-ready", detail, "see 'wharf doctor'").again();
        problem.body.missing = missing;
        problem
    }

    pub(in crate::api) fn media_type() -> Self {
        let detail = "the content type of the body is not JSON";
        let remedy = "send the header 'content-type: application/json'";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", detail, remedy)
    }

    /// Returns the problem of an invalid path, query or body.
    pub(in crate::api) fn request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", detail, "correct the request; see docs/api.md")
    }

    pub(in crate::api) fn internal(detail: impl std::fmt::Display) -> Self {
        lifecycle::Error::Internal(detail.to_string()).into()
    }
}

/// A problem in the middle of a stream has the same form as a problem that is the whole answer.
impl Serialize for Problem {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.body.serialize(to)
    }
}

impl From<lifecycle::Error> for Problem {
    fn from(error: lifecycle::Error) -> Self {
        let (kind, status) = (error.kind(), status(error.kind()));
        let mut problem = Self::of((status, kind), error.code(), error.to_string(), error.remedy());
        problem.retry_after = (status == StatusCode::SERVICE_UNAVAILABLE).then_some(1);
        if let lifecycle::Error::Denied { trail, .. } = &error {
            problem.body.trail = crate::wire::trail(trail);
        }
        problem
    }
}

impl From<records::Error> for Problem {
    fn from(error: records::Error) -> Self {
        lifecycle::Error::from(error).into()
    }
}

impl From<store::Error> for Problem {
    fn from(error: store::Error) -> Self {
        lifecycle::Error::from(error).into()
    }
}

impl From<Failed> for Problem {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Configuration(error) => {
                let kind = ErrorKind::Configuration;
                Self::of((status(kind), kind), "configuration", error.message, error.remedy)
            }
            Failed::Refused(_) => {
                let remedy = "correct the cause and reload again";
                let kind = ErrorKind::ReloadRefused;
                Self::of((status(kind), kind), "reload-refused", failed.to_string(), remedy)
            }
            Failed::Lifecycle(error) => error.into(),
        }
    }
}

/// Returns the status of a kind of failure.
fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::BadRequest => StatusCode::BAD_REQUEST,
        ErrorKind::Denied | ErrorKind::Refused => StatusCode::FORBIDDEN,
        ErrorKind::NotFound | ErrorKind::NoObject => StatusCode::NOT_FOUND,
        ErrorKind::TimedOut => StatusCode::REQUEST_TIMEOUT,
        ErrorKind::Ambiguous | ErrorKind::Differs | ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::Project | ErrorKind::ProjectFile | ErrorKind::Unusable | ErrorKind::ReloadRefused => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        ErrorKind::Interrupted | ErrorKind::Unavailable | ErrorKind::EngineUnreachable | ErrorKind::EngineLost => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        ErrorKind::EngineTimeout => StatusCode::GATEWAY_TIMEOUT,
        ErrorKind::Engine => StatusCode::BAD_GATEWAY,
        ErrorKind::Configuration | ErrorKind::NotUndone | ErrorKind::Internal | ErrorKind::Unknown => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

/// Returns the kind of a problem of the API itself.
fn kind(status: StatusCode) -> ErrorKind {
    match status {
        StatusCode::UNAUTHORIZED
        | StatusCode::FORBIDDEN
        | StatusCode::MISDIRECTED_REQUEST
        | StatusCode::TOO_MANY_REQUESTS => ErrorKind::Refused,
        StatusCode::NOT_FOUND => ErrorKind::NoObject,
        StatusCode::REQUEST_TIMEOUT => ErrorKind::TimedOut,
        StatusCode::CONFLICT => ErrorKind::Conflict,
        StatusCode::UNPROCESSABLE_ENTITY => ErrorKind::Unusable,
        StatusCode::SERVICE_UNAVAILABLE => ErrorKind::Unavailable,
        StatusCode::GATEWAY_TIMEOUT => ErrorKind::EngineTimeout,
        status if status.is_client_error() => ErrorKind::BadRequest,
        _ => ErrorKind::Internal,
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.body.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE {
            tracing::warn!("api: {}: {}", self.body.code, self.body.detail);
        }
        // Serialization of a struct of texts and numbers cannot fail.
        let body = serde_json::to_vec(&self.body).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(how) = self.authenticate {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(how));
        }
        if self.close {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
