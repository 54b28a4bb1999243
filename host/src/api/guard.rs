//! What every request passes before its route: who may send it, how large and slow it may be, and how many at once.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;

use super::Api;
use super::access::{Caller, Peer};
use super::error::Problem;

/// Most bytes of a body.
const BODY: usize = 1 << 20;
/// How long a body may take.
const BODY_TIME: Duration = Duration::from_secs(10);
/// How long reading may take; verbs take as long as they need.
const READING: Duration = Duration::from_secs(60);
/// The route that is answered however much is under way.
pub(super) const HEALTH: &str = "/v1/health";
/// The names that a client may call this host by: the name in the address of a Unix socket means nothing, and that of
/// a web page's host must not.
const HOSTS: [&str; 4] = ["localhost", "wharf", "127.0.0.1", "[::1]"];

pub(super) async fn guard(State(api): State<Api>, request: Request, next: Next) -> Response {
    let mut response = pass(&api, request, next).await.unwrap_or_else(IntoResponse::into_response);
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn pass(api: &Api, request: Request, next: Next) -> Result<Response, Problem> {
    check(request.uri(), request.headers())?;
    // A service that is busy lives.
    let _turn = match request.uri().path() {
        HEALTH => None,
        _ => Some(api.requests.try_acquire().map_err(|_| Problem::busy("requests"))?),
    };
    let Some(Peer::Socket(uid)) = request.extensions().get::<Peer>() else {
        return Err(Problem::internal("a request came from nowhere"));
    };
    tracing::debug!("api: user {uid}: {} {}", request.method(), request.uri().path());
    let caller = Caller::of_socket();
    let reading = matches!(*request.method(), Method::GET | Method::HEAD);
    let (mut parts, body) = request.into_parts();
    parts.extensions.insert(caller);
    let body = tokio::time::timeout(BODY_TIME, whole(&parts.headers, body)).await;
    let body = body.map_err(|_| Problem::too_slow(BODY_TIME))??;
    let answer = next.run(Request::from_parts(parts, Body::from(body)));
    if !reading {
        return Ok(answer.await);
    }
    tokio::time::timeout(READING, answer).await.map_err(|_| Problem::took_too_long(READING))
}

/// Web pages are refused: a browser on this machine must not be a way in.
fn check(uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    if headers.contains_key(header::ORIGIN) {
        return Err(Problem::cross_site("origin"));
    }
    if headers.get_all("sec-fetch-site").iter().any(|site| site != "none" && site != "same-origin") {
        return Err(Problem::cross_site("sec-fetch-site"));
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return Err(Problem::no_host()) };
    let named = [host.to_str().ok(), uri.authority().map(|authority| authority.as_str()).or(Some(HOSTS[0]))];
    if named.into_iter().all(|host| host.is_some_and(is_us)) { Ok(()) } else { Err(Problem::wrong_host()) }
}

fn is_us(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    HOSTS.iter().any(|us| us.eq_ignore_ascii_case(name))
}

/// The whole body.
async fn whole(headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    let said = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if said.is_some_and(|length| length > BODY) {
        return Err(Problem::too_large(BODY));
    }
    let mut parts = body.into_data_stream();
    let mut all = Vec::new();
    while let Some(part) = parts.next().await {
        let part = part.map_err(|_| Problem::broken_body())?;
        if all.len() + part.len() > BODY {
            return Err(Problem::too_large(BODY));
        }
        all.extend_from_slice(&part);
    }
    Ok(all.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_host_are_us() {
        for good in ["localhost", "LOCALHOST:80", "wharf", "127.0.0.1:8080", "[::1]", "[::1]:1"] {
            assert!(is_us(good), "{good}");
        }
        for bad in ["", "example.com", "localhost.example.com", "localhost:", "localhost:x", "localhost:80:80", "::1"] {
            assert!(!is_us(bad), "{bad}");
        }
    }
}
