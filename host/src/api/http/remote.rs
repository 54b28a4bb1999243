//! Callers over the network: they have a token, or a session of a token. Web pages are accepted only from this host.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, header};
use jiff::Timestamp;
use tokio::sync::Semaphore;

use crate::api::http::access::Caller;
use crate::api::http::error::Problem;
use crate::api::http::limits::{Buckets, origin};
use crate::api::routes::session::{Sessions, cookie};
use crate::config::ApiConfig;
use crate::service::Handle;
use crate::store::Token;

/// Wrong tokens that an address may send at once, and then per second.
///
/// A valid token is accepted even beyond this limit: a token of 256 bits cannot be guessed, and callers that share an
/// address must not lock each other out.
const FAILURES: (u32, f64) = (10, 0.1);
/// The limit of strangers whose bodies are read at once.
const LOGINS: usize = 8;
/// The precision of the last use of a token.
const NOTED: Duration = Duration::from_secs(60);
/// The limit of tokens whose recorded use is remembered.
const REMEMBERED: usize = 1_024;

/// State that only the network listener needs.
pub(in crate::api) struct Remote {
    hosts: Vec<String>,
    rate: Buckets<String>,
    failures: Buckets<IpAddr>,
    noted: Mutex<HashMap<String, Instant>>,
    pub(in crate::api) sessions: Sessions,
    /// The limit of concurrent logins: requests of strangers whose bodies are read, because the body has a token.
    pub(in crate::api) logins: Semaphore,
}

impl Remote {
    pub(in crate::api) fn new(config: &ApiConfig) -> Self {
        // The page of another host cannot take an address as its name.
        let address = config.listen.map(|listen| listen.ip()).filter(|ip| !ip.is_unspecified());
        let address = address.map(|ip| if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() });
        Self {
            hosts: config.hosts.iter().cloned().chain(address).collect(),
            rate: Buckets::new(config.rate.saturating_mul(2), f64::from(config.rate)),
            failures: Buckets::new(FAILURES.0, FAILURES.1),
            noted: Mutex::default(),
            sessions: Sessions::default(),
            logins: Semaphore::new(LOGINS),
        }
    }

    /// Returns the names of this host, besides those of loopback.
    pub(in crate::api) fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// Returns the caller; `None` when the request names none, or its session is over. `changes`: whether the request
    /// may change something.
    pub(in crate::api) async fn who(
        &self,
        handle: &Handle,
        from: SocketAddr,
        headers: &HeaderMap,
        changes: bool,
    ) -> Result<Option<Caller>, Problem> {
        let mut said = headers.get_all(header::AUTHORIZATION).iter();
        if let Some(value) = said.next() {
            if said.next().is_some() {
                return Err(Problem::request("the header 'authorization' is set more than once"));
            }
            let text = bearer(value.to_str().unwrap_or_default()).unwrap_or_default();
            let token = self.token(handle, from, text.to_owned()).await?;
            return Ok(Some(Caller::of_token(token, false)));
        }
        let Some(secret) = cookie(headers) else { return Ok(None) };
        let Some(id) = self.sessions.token(secret, Instant::now()) else { return Ok(None) };
        // Browsers send cookies with every request, but they add the origin to requests that change something.
        if changes && !headers.contains_key(header::ORIGIN) {
            return Err(Problem::cross_site("no origin"));
        }
        let store = handle.clone();
        let found = tokio::task::spawn_blocking(move || store.store().token_by_id(&id)).await;
        match found.map_err(Problem::internal)?? {
            Some(token) if !token.is_expired(Timestamp::now()) => {
                self.used(handle, &token)?;
                Ok(Some(Caller::of_token(token, true)))
            }
            _ => Ok(None),
        }
    }

    /// Looks up the sent token, within the rate limits.
    pub(in crate::api) async fn token(
        &self,
        handle: &Handle,
        from: SocketAddr,
        text: String,
    ) -> Result<Token, Problem> {
        let store = handle.clone();
        let found = tokio::task::spawn_blocking(move || store.store().token(&text)).await;
        match found.map_err(Problem::internal)?? {
            Some(token) if !token.is_expired(Timestamp::now()) => {
                self.used(handle, &token)?;
                Ok(token)
            }
            _ => {
                let free = self.failures.take(origin(from.ip()), Instant::now());
                free.map_err(|wait| Problem::too_often("wrong tokens", wait))?;
                tracing::warn!("api: a wrong token from {}", from.ip());
                Err(Problem::bad_token())
            }
        }
    }

    fn used(&self, handle: &Handle, token: &Token) -> Result<(), Problem> {
        let free = self.rate.take(token.id.clone(), Instant::now());
        free.map_err(|wait| Problem::too_often("requests", wait))?;
        self.note(handle, &token.id);
        Ok(())
    }

    /// Records the use of a token, unless it was recorded a moment ago. No request waits for it.
    fn note(&self, handle: &Handle, id: &str) {
        let now = Instant::now();
        {
            let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
            if noted.get(id).is_some_and(|when| now.saturating_duration_since(*when) < NOTED) {
                return;
            }
            if noted.len() >= REMEMBERED {
                noted.clear();
            }
            noted.insert(id.to_owned(), now);
        }
        let (handle, id) = (handle.clone(), id.to_owned());
        tokio::task::spawn_blocking(move || {
            if let Err(error) = handle.store().note_token_use(&id, Timestamp::now()) {
                tracing::warn!("api: {error}");
            }
        });
    }
}

/// Returns the token of a header `Authorization`.
fn bearer(text: &str) -> Option<&str> {
    let (scheme, token) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Refuses pages of other hosts: the origin that a browser sends must be the host that it called.
pub(in crate::api) fn same_origin(headers: &HeaderMap, host: &str) -> Result<(), Problem> {
    for origin in headers.get_all(header::ORIGIN) {
        let own = format!("https://{host}");
        if !origin.to_str().is_ok_and(|origin| origin.eq_ignore_ascii_case(&own)) {
            return Err(Problem::cross_site("origin"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_the_scheme_bearer_has_a_token() {
        assert_eq!(bearer("Bearer x"), Some("x"));
        assert_eq!(bearer("bearer  x "), Some("x"));
        for none in ["", "x", "Bearer", "Basic x", "Bearerx y"] {
            assert_eq!(bearer(none), None, "{none}");
        }
    }

    #[test]
    fn a_page_is_ours_only_with_scheme_name_and_port() {
        let may = |origins: &[&str], host: &str| {
            let mut headers = HeaderMap::new();
            for origin in origins {
                headers.append(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
            }
            same_origin(&headers, host).is_ok()
        };
        assert!(may(&[], "a.example") && may(&["https://a.example"], "A.example"));
        assert!(may(&["https://a.example:7443"], "a.example:7443"));
        for bad in
            ["http://a.example", "https://a.example:7443", "https://b.example", "null", "", "https://a.example.b"]
        {
            assert!(!may(&[bad], "a.example"), "{bad}");
        }
        assert!(!may(&["https://a.example", "https://b.example"], "a.example"));
    }
}
