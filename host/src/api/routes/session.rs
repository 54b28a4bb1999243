//! `/v1/session`: browsers. A token is exchanged for a cookie that a page's scripts cannot read and other sites cannot
//! use.
//!
//! Sessions exist in memory only: they end with the service, after [`TIME`], and with their token.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use crate::api::Api;
use crate::api::http::access::{Caller, Peer};
use crate::api::http::args::{Args, Json};
use crate::api::http::error::Problem;
use crate::api::routes::health::answer;
use crate::store::{self, Role};
use crate::workspace::sha256_hex;

/// The lifetime of a session.
const TIME: Duration = Duration::from_secs(8 * 3600);
/// The limit of sessions of one token, and of all tokens; beyond it the oldest ends.
const MOST: (usize, usize) = (16, 1_024);
/// The name of the cookie. With this prefix, browsers ensure that only this host sets it, over TLS, for all its paths.
const COOKIE: &str = "__Host-wharf";

/// The sessions, keyed by the digest of the cookie's value.
#[derive(Debug, Default)]
pub(in crate::api) struct Sessions(Mutex<HashMap<String, Session>>);

#[derive(Debug, Clone)]
struct Session {
    /// The ID of its token.
    token: String,
    begun: Instant,
}

impl Sessions {
    /// Starts a session of a token, and returns the value of its cookie.
    fn begin(&self, token: &str, now: Instant) -> Result<String, store::Error> {
        let secret = store::secret_text()?;
        let mut all = self.all(now);
        let oldest = |of: &dyn Fn(&Session) -> bool, all: &HashMap<String, Session>| {
            let found = all.iter().filter(|(_, session)| of(session));
            found.min_by_key(|(_, session)| session.begun).map(|(key, _)| key.clone())
        };
        let own = |session: &Session| session.token == token;
        if all.values().filter(|session| own(session)).count() >= MOST.0
            && let Some(key) = oldest(&own, &all)
        {
            all.remove(&key);
        }
        if all.len() >= MOST.1
            && let Some(key) = oldest(&|_| true, &all)
        {
            all.remove(&key);
        }
        all.insert(sha256_hex(secret.as_bytes()), Session { token: token.to_owned(), begun: now });
        Ok(secret)
    }

    /// Returns the ID of the token of a session.
    pub(in crate::api) fn token(&self, secret: &str, now: Instant) -> Option<String> {
        self.all(now).get(&sha256_hex(secret.as_bytes())).map(|session| session.token.clone())
    }

    fn end(&self, secret: &str) {
        self.all(Instant::now()).remove(&sha256_hex(secret.as_bytes()));
    }

    /// Returns the sessions after removing the expired ones.
    fn all(&self, now: Instant) -> MutexGuard<'_, HashMap<String, Session>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, session| now.saturating_duration_since(session.begun) < TIME);
        all
    }
}

/// Returns the value of the session cookie. Returns `None` when there are two: another site may have set one of them.
pub(in crate::api) fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = all.flat_map(|all| all.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut ours = pairs.filter(|(name, _)| *name == COOKIE).map(|(_, value)| value);
    let first = ours.next();
    first.filter(|_| ours.next().is_none())
}

/// The body of `POST /v1/session`: the token, unless the header `Authorization` has it.
#[derive(Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::api) struct Login {
    token: Option<String>,
}

/// Start a session of a token; a session cannot prolong itself
#[utoipa::path(post, path = "/v1/session", request_body = Login,
    responses((status = 200, description = "The caller; the cookie is in `Set-Cookie`", body = Who)))]
pub(in crate::api) async fn begin(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    caller: Option<Extension<Caller>>,
    args: Args,
    Json(Login { token }): Json<Login>,
) -> Result<Response, Problem> {
    args.end()?;
    let caller = match (caller, token, peer) {
        (Some(Extension(caller)), None, _) => caller,
        (_, Some(text), Peer::Network(from)) => {
            Caller::of_token(api.remote.token(&api.handle, from, text).await?, false)
        }
        (None, None, _) => return Err(Problem::no_token()),
        (_, _, Peer::Socket(_)) => return Err(Problem::no_session()),
    };
    let id = caller.token().ok_or_else(Problem::no_session)?;
    let secret = api.remote.sessions.begin(id, Instant::now())?;
    let cookie = format!("{COOKIE}={secret}; Path=/; Max-Age={}; Secure; HttpOnly; SameSite=Strict", TIME.as_secs());
    with_cookie(answer(&Who::of(&caller, true))?, &cookie)
}

/// The caller, as shown to itself.
#[derive(Serialize, utoipa::ToSchema)]
struct Who<'a> {
    name: &'a str,
    role: Role,
    labels: &'a BTreeMap<String, String>,
    /// Whether it is known by the cookie of a session.
    cookie: bool,
}

impl<'a> Who<'a> {
    fn of(caller: &'a Caller, cookie: bool) -> Self {
        Self { name: caller.name(), role: caller.role(), labels: caller.labels(), cookie }
    }
}

/// Get the caller's name and role
#[utoipa::path(get, path = "/v1/session", responses((status = 200, description = "The caller", body = Who)))]
pub(in crate::api) async fn show(
    Extension(peer): Extension<Peer>,
    caller: Caller,
    args: Args,
) -> Result<Response, Problem> {
    args.end()?;
    answer(&Who::of(&caller, peer.is_remote() && caller.token().is_none()))
}

/// End the session of the cookie, if there is one
#[utoipa::path(delete, path = "/v1/session", responses((status = 204, description = "The session has ended")))]
pub(in crate::api) async fn end(State(api): State<Api>, headers: HeaderMap, args: Args) -> Result<Response, Problem> {
    args.end()?;
    if let Some(secret) = cookie(&headers) {
        api.remote.sessions.end(secret);
    }
    let gone = format!("{COOKIE}=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Strict");
    with_cookie(StatusCode::NO_CONTENT.into_response(), &gone)
}

fn with_cookie(mut response: Response, cookie: &str) -> Result<Response, Problem> {
    let cookie = HeaderValue::from_str(cookie).map_err(Problem::internal)?;
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_end_with_their_time_and_the_oldest_go_when_there_are_too_many() {
        let (sessions, begin) = (Sessions::default(), Instant::now());
        let first = sessions.begin("a", begin).unwrap();
        assert_eq!(sessions.token(&first, begin), Some("a".to_owned()));
        assert_eq!(sessions.token(&first, begin + TIME - Duration::from_secs(1)), Some("a".to_owned()));
        assert_eq!(sessions.token("other", begin), None);
        assert_eq!(sessions.token(&first, begin + TIME), None);
        assert_eq!(sessions.token(&first, begin), None, "it is forgotten");

        let at = |number: usize| begin + Duration::from_millis(u64::try_from(number).unwrap());
        let other = sessions.begin("b", begin).unwrap();
        let all: Vec<String> = (0..MOST.0 + 1).map(|number| sessions.begin("a", at(number)).unwrap()).collect();
        assert_eq!(sessions.token(&all[0], begin), None);
        assert!(all[1..].iter().chain([&other]).all(|one| sessions.token(one, begin).is_some()));
        sessions.end(&other);
        assert_eq!(sessions.token(&other, begin), None);
        for number in 0..MOST.1 * 2 {
            sessions.begin(&format!("t{number}"), at(number)).unwrap();
            assert!(sessions.0.lock().unwrap().len() <= MOST.1);
        }
    }

    #[test]
    fn a_cookie_is_taken_by_its_whole_name_and_only_once() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.append(header::COOKIE, HeaderValue::from_str(text).unwrap());
            cookie(&headers).map(str::to_owned)
        };
        assert_eq!(of("a=b; __Host-wharf=x; c=d").as_deref(), Some("x"));
        for none in ["", "wharf=x", "x__Host-wharf=x", "__host-wharf=x", "__Host-wharf=x; __Host-wharf=y"] {
            assert_eq!(of(none), None, "{none}");
        }
    }
}
