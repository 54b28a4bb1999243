//! The checks that every request passes before its route: the caller, the size and speed of the request, and the number
//! of concurrent requests.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use tracing::Instrument;

use crate::api::Api;
use crate::api::http::access::{Caller, Peer};
use crate::api::http::concurrency::Taken;
use crate::api::http::error::Problem;
use crate::api::http::remote::same_origin;
use crate::api::http::stream::{self, Last};
use crate::api::routes::files;
use crate::lifecycle::acting_for;
use crate::service::stopped;
use crate::{spans, telemetry};

/// The limit of a body, in bytes.
const BODY: usize = 1 << 20;
/// The limit of the body of a login, in bytes.
const LOGIN: usize = 4 << 10;
/// The time limit for receiving a body.
pub(in crate::api) const BODY_TIME: Duration = Duration::from_secs(10);
/// The time limit for reads; verbs have none.
const READING: Duration = Duration::from_secs(60);
/// The time that a request waits for a service that is still starting.
const BEGINNING: Duration = Duration::from_secs(10);
/// The route that is answered under any load.
pub(in crate::api) const HEALTH: &str = "/v1/health";
/// Methods that metrics count by name; clients may send arbitrary methods.
const KNOWN: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];
/// The method that stands for all others in metrics.
const OTHER: Method = Method::TRACE;
/// The header with the ID of a request in the log.
const ID: HeaderName = HeaderName::from_static("x-request-id");
/// The route that takes a token in its body.
pub(in crate::api) const SESSION: &str = "/v1/session";
/// The names that a client may call this host by. The host name in the URL of a Unix socket is meaningless, but the
/// host of a web page must not pass.
const HOSTS: [&str; 4] = ["localhost", "wharf", "127.0.0.1", "[::1]"];

pub(in crate::api) async fn guard(State(api): State<Api>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let id = request_id(request.headers());
    let method = if KNOWN.contains(request.method()) { request.method().clone() } else { OTHER };
    // The path of an unknown route is arbitrary text, so it is not recorded.
    let route =
        request.extensions().get::<MatchedPath>().map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let span = spans::request(method.as_str(), &route, &id);
    telemetry::join(&span, request.headers());
    let (parts, body) = request.into_parts();
    let answered = async {
        match caller(&api, &parts).await {
            Ok(caller) => (caller.clone(), pass(&api, caller, Request::from_parts(parts, body), next).await),
            Err(problem) => (None, Err(problem)),
        }
    };
    let (caller, answer) = answered.instrument(span.clone()).await;
    let mut response = answer.unwrap_or_else(IntoResponse::into_response);
    if let Some(caller) = &caller
        && let Some(last) = response.headers().get(header::CONTENT_TYPE).and_then(Last::of)
    {
        let (caller, handle) = (caller.clone(), api.handle.clone());
        let revoked = async move { caller.revoked(&handle).await };
        response = response.map(|body| stream::until_revoked(body, revoked, last));
    }
    let (status, time) = (response.status().as_u16(), begun.elapsed());
    api.handle.metrics().request(&route, method.as_str(), status, time);
    let (who, ms) = (caller.as_ref().map_or("nobody", Caller::name), time.as_millis() as u64);
    spans::answered(&span, status, who);
    // Path, query and body may contain a secret, so they are not logged.
    if reads(&method) {
        tracing::debug!(id, caller = who, %method, route, status, ms, "api: answered");
    } else {
        tracing::info!(id, caller = who, %method, route, status, ms, "api: answered");
    }
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(ID, id);
    }
    response
}

/// Returns the ID of a request in the log: the client's if it is a short word, or else a new ID.
fn request_id(headers: &HeaderMap) -> String {
    let word = |text: &&str| {
        let part = |byte: u8| byte.is_ascii_alphanumeric() || [b'-', b'_', b'.'].contains(&byte);
        (1..=64).contains(&text.len()) && text.bytes().all(part)
    };
    let said = headers.get(ID).and_then(|id| id.to_str().ok()).filter(word);
    said.map_or_else(|| uuid::Uuid::now_v7().to_string(), str::to_owned)
}

async fn pass(api: &Api, caller: Option<Caller>, request: Request, next: Next) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    let Some(caller) = caller else {
        // The only body that is read from a stranger is the token of a login.
        let body = match (&parts.method, parts.uri.path()) {
            (&Method::POST, SESSION) => {
                let _turn = api.remote.logins.try_acquire().map_err(|_| Problem::busy("logins"))?;
                Body::from(in_time(&parts.headers, body, LOGIN).await?)
            }
            _ => Body::empty(),
        };
        return Ok(next.run(Request::from_parts(parts, body)).await);
    };
    // A busy service is still healthy.
    let turn = match parts.uri.path() {
        HEALTH => None,
        _ => Some(api.requests.take(&caller)?),
    };
    let turn = Turn(Arc::new(Mutex::new(turn)));
    let reading = reads(&parts.method);
    let acts_for = caller.of_decisions();
    parts.extensions.insert(caller.clone());
    // The route gets it too, so that the slot stays taken until the route has answered.
    parts.extensions.insert(turn.clone());
    // An archive is streamed to its destination at the speed of the destination.
    let archive = parts.method == Method::PUT
        && parts.extensions.get::<MatchedPath>().is_some_and(|path| path.as_str() == files::ROUTE);
    let body = if archive { body } else { Body::from(in_time(&parts.headers, body, BODY).await?) };
    if parts.uri.path() != HEALTH {
        // A call during the start waits, so that it does not fail because the engine is not connected yet.
        let mut stop = api.stop.clone();
        tokio::select! {
            () = api.handle.tried() => {}
            () = stopped(&mut stop) => {}
            () = tokio::time::sleep(BEGINNING) => {}
        }
    }
    let answer = acting_for(acts_for, next.run(Request::from_parts(parts, body)));
    // A request ends with its token. A verb must not be left half done, so it continues without a client.
    let answer = async {
        tokio::select! {
            answer = answer => Ok(answer),
            () = caller.revoked(&api.handle) => Err(Problem::bad_token()),
        }
    };
    if !reading {
        return answer.await;
    }
    tokio::time::timeout(READING, answer).await.map_err(|_| Problem::took_too_long(READING))?
}

/// The slot of a request: taken until the request is answered, or until the slot is given back.
#[derive(Clone)]
pub(in crate::api) struct Turn(Arc<Mutex<Option<Taken>>>);

impl Turn {
    /// Frees the slot for another request. The rest of this request takes long and has another limit.
    pub(in crate::api) fn give_back(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl FromRequestParts<Api> for Turn {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Problem::internal("a request without a permit"))
    }
}

fn reads(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// Returns the caller; `None` when the request names none. Pages of other hosts must not use a browser as a way in:
/// everything that the browser says about the page, and the host name that it called, must belong to this host.
async fn caller(api: &Api, parts: &Parts) -> Result<Option<Caller>, Problem> {
    let headers = &parts.headers;
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return Err(Problem::no_host()) };
    let named = [host.to_str().ok(), parts.uri.authority().map(Authority::as_str).or(Some(HOSTS[0]))];
    // A browser that follows a link gets the page, which holds no data. The page then requests its data with the same
    // origin.
    let is = |name: &str, value: &str| headers.get(name).is_some_and(|this| this == value);
    let link = parts.uri.path() == "/" && is("sec-fetch-mode", "navigate") && is("sec-fetch-dest", "document");
    let foreign = |site: &HeaderValue| site != "none" && site != "same-origin";
    if headers.get_all("sec-fetch-site").iter().any(foreign) && !(link && reads(&parts.method)) {
        return Err(Problem::cross_site("sec-fetch-site"));
    }
    match parts.extensions.get::<Peer>() {
        Some(Peer::Socket(uid)) => {
            // No web page has a Unix socket as its origin.
            if headers.contains_key(header::ORIGIN) {
                return Err(Problem::cross_site("origin"));
            }
            if !named.into_iter().all(|host| host.is_some_and(|host| is_us(host, &[]))) {
                return Err(Problem::wrong_host());
            }
            Ok(Some(Caller::of_socket(*uid)))
        }
        Some(Peer::Network(address)) => {
            if !named.into_iter().all(|host| host.is_some_and(|host| is_us(host, api.remote.hosts()))) {
                return Err(Problem::wrong_host());
            }
            same_origin(headers, host.to_str().unwrap_or_default())?;
            // An upgraded connection takes commands.
            let changes = !reads(&parts.method) || headers.contains_key(header::UPGRADE);
            api.remote.who(&api.handle, *address, headers, changes).await
        }
        None => Err(Problem::internal("a request without a peer address")),
    }
}

fn is_us(host: &str, more: &[String]) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    HOSTS.into_iter().chain(more.iter().map(String::as_str)).any(|us| us.eq_ignore_ascii_case(name))
}

async fn in_time(headers: &HeaderMap, body: Body, most: usize) -> Result<Bytes, Problem> {
    let body = tokio::time::timeout(BODY_TIME, whole(headers, body, most)).await;
    body.map_err(|_| Problem::too_slow(BODY_TIME))?
}

/// Reads the whole body.
async fn whole(headers: &HeaderMap, body: Body, most: usize) -> Result<Bytes, Problem> {
    let said = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if said.is_some_and(|length| length > most) {
        return Err(Problem::too_large(most));
    }
    let mut parts = body.into_data_stream();
    let mut all = Vec::new();
    while let Some(part) = parts.next().await {
        let part = part.map_err(|_| Problem::broken_body())?;
        if all.len() + part.len() > most {
            return Err(Problem::too_large(most));
        }
        all.extend_from_slice(&part);
    }
    Ok(all.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_names_its_request_with_a_short_word_only() {
        let id = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ID, HeaderValue::from_str(text).unwrap());
            request_id(&headers)
        };
        assert_eq!(id("a-1.B_2"), "a-1.B_2");
        let long = "x".repeat(65);
        for bad in ["", "a b", "a\tb", "{}", "a;b", &long] {
            assert_eq!(id(bad).len(), 36, "{bad}");
        }
    }

    #[test]
    fn only_names_of_this_host_are_us() {
        for good in ["localhost", "LOCALHOST:80", "wharf", "127.0.0.1:8080", "[::1]", "[::1]:1"] {
            assert!(is_us(good, &[]), "{good}");
        }
        for bad in ["", "example.com", "localhost.example.com", "localhost:", "localhost:x", "localhost:80:80", "::1"] {
            assert!(!is_us(bad, &[]), "{bad}");
        }
        let more = ["wharf.example".to_owned()];
        assert!(is_us("WHARF.example:7443", &more) && is_us("localhost", &more) && !is_us("a.wharf.example", &more));
    }
}
