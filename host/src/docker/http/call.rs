//! One call to the engine: the request, and the wording of its errors.

use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use super::super::error::{self, Error, Result};

/// Time limit for calls that only read or change the engine's tables.
pub(in crate::docker) const QUICK: Duration = Duration::from_secs(30);
/// Time limit for calls that make the engine work: create, start, remove.
pub(in crate::docker) const SLOW: Duration = Duration::from_secs(180);

/// Characters that are escaped in a path or query. `/`, `:`, `@` and `,` stay, because both allow them.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/')
    .remove(b':')
    .remove(b'@')
    .remove(b',');

/// Maximum bytes shown of an answer that is not JSON.
const MESSAGE: usize = 500;

/// A call to the engine, and the wording of its errors.
#[derive(Debug, Clone)]
pub(in crate::docker) struct Call {
    /// The attempted operation, as in "cannot create the container".
    pub(in crate::docker) operation: &'static str,
    /// Kind and name of the object, for "there is no container 'x'".
    pub(in crate::docker) what: &'static str,
    pub(in crate::docker) name: String,
    pub(in crate::docker) method: Method,
    /// Path and query, without the version.
    pub(in crate::docker) path: String,
    pub(in crate::docker) body: Bytes,
    /// Value of `X-Registry-Auth`; a secret.
    pub(in crate::docker) auth: Option<String>,
    /// Value of `X-Registry-Config`; a secret.
    pub(in crate::docker) registries: Option<String>,
    /// The protocol that the connection should switch to.
    pub(in crate::docker) upgrade: Option<&'static str>,
    /// Further headers.
    pub(in crate::docker) headers: Vec<(&'static str, String)>,
    pub(in crate::docker) within: Duration,
}

impl Call {
    pub(in crate::docker) fn new(method: Method, operation: &'static str, path: impl Into<String>) -> Self {
        let (what, name) = ("object", String::new());
        Self {
            operation,
            what,
            name,
            method,
            path: path.into(),
            body: Bytes::new(),
            auth: None,
            registries: None,
            upgrade: None,
            headers: Vec::new(),
            within: QUICK,
        }
    }
    pub(in crate::docker) fn get(operation: &'static str, path: impl Into<String>) -> Self {
        Self::new(Method::GET, operation, path)
    }
    pub(in crate::docker) fn post(operation: &'static str, path: impl Into<String>) -> Self {
        Self::new(Method::POST, operation, path)
    }
    pub(in crate::docker) fn delete(operation: &'static str, path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, operation, path)
    }
    pub(in crate::docker) fn about(mut self, what: &'static str, name: &str) -> Self {
        self.what = what;
        self.name = name.to_owned();
        self
    }
    /// Limits the time until the whole answer has arrived; for streams, until its head has arrived.
    pub(in crate::docker) fn within(mut self, limit: Duration) -> Self {
        self.within = limit;
        self
    }
    pub(in crate::docker) fn auth(mut self, value: Option<String>) -> Self {
        self.auth = value;
        self
    }
    pub(in crate::docker) fn registries(mut self, value: Option<String>) -> Self {
        self.registries = value;
        self
    }
    /// Asks for raw bytes in both directions.
    pub(in crate::docker) fn upgrade(self) -> Self {
        self.upgrade_to("tcp")
    }
    /// Asks for another protocol on the connection.
    pub(in crate::docker) fn upgrade_to(mut self, protocol: &'static str) -> Self {
        self.upgrade = Some(protocol);
        self
    }
    pub(in crate::docker) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
    pub(in crate::docker) fn json(mut self, body: &impl Serialize) -> Result<Self> {
        let text = serde_json::to_vec(body).map_err(|error| Error::Protocol {
            operation: self.operation,
            cause: format!("cannot serialize the request: {error}"),
        })?;
        self.body = text.into();
        Ok(self)
    }

    /// Returns the error for an answer that reports a failure.
    pub(in crate::docker) fn error(&self, reply: &Reply) -> Error {
        error::status_error(self.operation, self.what, &self.name, reply.status, &reply.message())
    }
    pub(in crate::docker) fn broken(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        error::failed(Error::Stream { operation: self.operation, source: source.into() })
    }
    pub(in crate::docker) fn late(&self) -> Error {
        error::failed(Error::Timeout { operation: self.operation, after: self.within })
    }
}

/// An answer of the engine.
#[derive(Debug)]
pub(in crate::docker) struct Reply {
    pub(in crate::docker) status: u16,
    pub(in crate::docker) body: Bytes,
}

impl Reply {
    pub(in crate::docker) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
    /// Returns the engine's message for a failure.
    pub(in crate::docker) fn message(&self) -> String {
        #[derive(serde::Deserialize)]
        struct Message {
            message: String,
        }
        match serde_json::from_slice::<Message>(&self.body) {
            Ok(body) => body.message,
            Err(_) => String::from_utf8_lossy(self.body.get(..MESSAGE).unwrap_or(&self.body)).into_owned(),
        }
    }
}

/// Percent-encodes a value for a path or query.
pub(in crate::docker) fn encode(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

/// Builds a `filters` query for one key, as the engine expects it: JSON in a query.
pub(in crate::docker) fn filters(key: &str, values: &[String]) -> String {
    let json = serde_json::json!({ key: values });
    format!("filters={}", encode(&json.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_place_in_a_path_or_query() {
        assert_eq!(encode("a b?c&d=e#f%"), "a%20b%3Fc%26d%3De%23f%25");
        assert_eq!(encode("host:5000/repo@sha256:ab"), "host:5000/repo@sha256:ab");
    }
}
