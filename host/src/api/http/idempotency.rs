//! Idempotent requests: with `Idempotency-Key`, a request is carried out once, however often it is sent.

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::Api;
use crate::api::http::access::Caller;
use crate::api::http::args::{Json, bytes_of};
use crate::api::http::error::Problem;
use crate::api::http::stream::{self, Wants};
use crate::service::Handle;
use crate::store::KnownRequest;
use crate::workspace::sha256_hex;

/// The longest key, in characters.
const LONGEST: usize = 200;

/// A body, and the key if the client gave the request one.
pub(in crate::api) struct Keyed<T> {
    pub(in crate::api) body: T,
    pub(in crate::api) once: Option<Once>,
}

/// A request with a key.
#[derive(Debug, Clone)]
pub(in crate::api) struct Once {
    key: String,
    digest: String,
}

impl<T: DeserializeOwned> FromRequest<Api> for Keyed<T> {
    type Rejection = Problem;
    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        let key = key(request.headers())?;
        let path = request.uri().path().to_owned();
        let query = request.uri().query().unwrap_or_default().to_owned();
        let (mut parts, body) = request.into_parts();
        let caller = Caller::from_request_parts(&mut parts, api).await?;
        let bytes = bytes_of(body).await?;
        let once = key.map(|key| {
            // The same key for another path or of another caller is another request. None of the parts contains a line
            // break.
            let key = format!("{path}\n{}\n{key}", caller.name());
            let query = if query.is_empty() { query } else { query + "\n" };
            let mut all = format!("{}\n{key}\n{query}", api.handle.store().host_id()).into_bytes();
            all.extend_from_slice(&bytes);
            Once { key, digest: sha256_hex(&all) }
        });
        let Json(body) = Json::from_request(Request::from_parts(parts, bytes.into()), api).await?;
        Ok(Self { body, once })
    }
}

fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut keys = headers.get_all("idempotency-key").iter();
    let Some(key) = keys.next() else { return Ok(None) };
    let plain = key.to_str().ok().filter(|key| !key.is_empty() && key.len() <= LONGEST && keys.next().is_none());
    let wrong =
        || Problem::request(format!("the header 'idempotency-key' is not one word of 1 to {LONGEST} characters"));
    plain.map(|key| Some(key.to_owned())).ok_or_else(wrong)
}

/// The next step of a request with a key.
pub(in crate::api) enum Begun {
    /// The request must be carried out.
    Now,
    /// The request was answered before.
    Answered(Response),
}

impl Once {
    pub(in crate::api) fn begin(&self, api: &Api, wants: &Wants) -> Result<Begun, Problem> {
        match api.handle.store().begin_request(&self.key, &self.digest)? {
            KnownRequest::New => Ok(Begun::Now),
            KnownRequest::Other => Err(Problem::other_request()),
            KnownRequest::Running => Err(Problem::same_request_runs()),
            KnownRequest::Answered { status, body } => Ok(Begun::Answered(again(status, body, wants)?)),
        }
    }

    /// Marks the request as being carried out from here on.
    pub(in crate::api) fn run(self, handle: Handle) -> Running {
        Running { once: Some(self), handle }
    }
}

/// A request that is being carried out. If it is dropped before its end, it counts as never sent.
pub(in crate::api) struct Running {
    once: Option<Once>,
    handle: Handle,
}

impl Running {
    /// Records the outcome. An outcome that may differ on a retry is not recorded.
    pub(in crate::api) fn end(mut self, result: &Result<Value, Problem>) {
        let (status, body) = match result {
            Ok(value) => (StatusCode::OK.as_u16(), value.to_string()),
            Err(problem) => (problem.status(), serde_json::to_string(problem).unwrap_or_default()),
        };
        let lasting = result.is_ok() || matches!(status, 400 | 403 | 422);
        if let Some(once) = self.once.take_if(|_| lasting)
            && let Err(error) = self.handle.store().answer_request(&once.key, status, &body)
        {
            tracing::warn!("api: cannot save the response to a request with a key: {error}");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(once) = self.once.take()
            && let Err(error) = self.handle.store().forget_request(&once.key)
        {
            tracing::warn!("api: a request with a key cannot be sent again until this service has ended: {error}");
        }
    }
}

/// Repeats the recorded answer.
fn again(status: u16, body: String, wants: &Wants) -> Result<Response, Problem> {
    let value: Value = serde_json::from_str(&body).map_err(Problem::internal)?;
    let ok = status == StatusCode::OK.as_u16();
    let mut response = if wants.events {
        let name = if ok { "result" } else { "problem" };
        ([(header::CONTENT_TYPE, stream::EVENTS)], stream::event(Some(name), None, &value)?).into_response()
    } else {
        let kind = if ok { "application/json" } else { "application/problem+json" };
        let status = StatusCode::from_u16(status).map_err(Problem::internal)?;
        (status, [(header::CONTENT_TYPE, kind)], body).into_response()
    };
    let replayed = HeaderName::from_static("idempotency-replayed");
    response.headers_mut().insert(replayed, HeaderValue::from_static("true"));
    Ok(response)
}
