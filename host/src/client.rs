//! The client side of the API: commands use it to call a service, on this machine or another one.
//!
//! Each request has its own connection, over the service's Unix socket or over TLS. A refusal of the service is a
//! [`Problem`] with the same words as if the command ran in this process. Every other failure is a broken or missing
//! connection.
//!
//! May touch: the service's address, and the files with its token and certificate authority.
//!
//! Every method fails with [`Error`].

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::wire::Problem;
use crate::workspace::url_encoded;

mod bodies;
mod connect;
mod events;
mod follow;
mod resources;
mod socket;
mod verbs;

pub use bodies::Download;
pub(crate) use connect::{Endpoint, Stream, Tls, connect};
pub use events::{Events, ServerEvent};
pub use follow::{Followed, Follower};
pub use socket::{Incoming, Message, Outgoing};
pub use verbs::Report;

/// The time limit for a connection, including its handshake.
const CONNECT: Duration = Duration::from_secs(10);
/// The limit of an answer that is read as a whole, in bytes.
const ANSWER: usize = 256 << 20;

/// The address of a service, and the credentials for it.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// `unix:///path`, an absolute path, or `https://host:port`.
    pub server: String,
    /// The token; not needed over a Unix socket.
    pub token: Option<Token>,
    /// The certificate authorities to trust instead of those of the system: a PEM file.
    pub ca_file: Option<PathBuf>,
    /// A client certificate with its key, for services that require one: PEM files.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// A token. It is never shown.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// Creates a token from its text; surrounding white space is dropped.
    ///
    /// # Errors
    /// When it contains characters that no token has.
    pub fn new(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::setting("the token is empty or contains invalid characters", TOKEN_REMEDY));
        }
        Ok(Self(text.to_owned()))
    }

    /// Reads a token from a file.
    ///
    /// # Errors
    /// When the file cannot be read, or holds no token.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let read = crate::trust::read_to_string(path, 64 << 10).map_err(|error| match error {
            crate::trust::Error::Untrusted(untrusted) => Error::setting(untrusted.to_string(), untrusted.remedy),
            error => Error::setting(format!("cannot read '{}': {error}", path.display()), TOKEN_REMEDY),
        });
        Self::new(&read?)
    }
}

const TOKEN_REMEDY: &str = "create a token with 'wharf token create' on the machine of the service; set it in \
    WHARF_TOKEN or client.token_file";

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The failure of a call.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The service refused the call, or failed to carry it out.
    #[error("{}", .0.detail)]
    Problem(Box<Problem>),
    /// The address, the token or the certificates are unusable.
    #[error("{message}")]
    Setting {
        /// The defect.
        message: String,
        /// The remedy.
        remedy: String,
    },
    /// The request cannot be sent.
    #[error("{0}")]
    Request(String),
    /// The service does not answer, or the connection broke.
    #[error("the service at {server}: {cause}")]
    Unreachable {
        /// The address of the service.
        server: String,
        /// The cause.
        cause: String,
    },
    /// The peer is not a service of Wharf, or speaks an unknown version of its protocol.
    #[error("unexpected response from the service at {server}: {cause}")]
    Answer {
        /// The address of the peer.
        server: String,
        /// The defect of its answer.
        cause: String,
    },
}

impl Error {
    /// Returns whether the service is temporarily unreachable, or not ready yet.
    pub fn is_away(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Problem(problem) => problem.status == 503,
            Self::Setting { .. } | Self::Request(_) | Self::Answer { .. } => false,
        }
    }

    fn setting(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Setting { message: message.into(), remedy: remedy.into() }
    }
}

/// A client of one service.
#[derive(Debug, Clone)]
pub struct Client {
    endpoint: Endpoint,
    token: Option<Token>,
    tls: Option<Tls>,
}

/// Names and values of a query.
pub type Query<'a> = &'a [(&'a str, &'a str)];

impl Client {
    /// Checks the settings; it does not contact the service.
    ///
    /// # Errors
    /// [`Error::Setting`].
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        let endpoint = Endpoint::parse(&settings.server)?;
        let tls = match &endpoint {
            Endpoint::Unix(_) => None,
            Endpoint::Tcp { .. } => Some(Tls::new(settings.ca_file.as_deref(), settings.identity.as_ref())?),
        };
        Ok(Self { endpoint, token: settings.token.clone(), tls })
    }

    /// Returns the address of the service, for people.
    pub fn server(&self) -> String {
        self.endpoint.to_string()
    }

    /// Returns whether the service runs on this machine, so that paths mean the same to both.
    pub fn is_local(&self) -> bool {
        matches!(self.endpoint, Endpoint::Unix(_))
    }

    /// Reads a resource.
    pub async fn get<T: DeserializeOwned>(&self, path: &str, query: Query<'_>) -> Result<T, Error> {
        let response = self.send(Method::GET, path, query, "application/json", None::<&()>, &[]).await?;
        self.value(response).await
    }

    /// Posts a request.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Error> {
        let response = self.send(Method::POST, path, &[], "application/json", Some(body), &[]).await?;
        self.value(response).await
    }

    /// Requests a removal.
    pub async fn delete<T: DeserializeOwned>(&self, path: &str, query: Query<'_>) -> Result<T, Error> {
        let response = self.send(Method::DELETE, path, query, "application/json", None::<&()>, &[]).await?;
        self.value(response).await
    }

    /// Reads all pages of a list.
    pub async fn pages<T: DeserializeOwned>(&self, path: &str, query: Query<'_>) -> Result<Vec<T>, Error> {
        let (mut all, mut next) = self.page(path, query).await?;
        while let Some(link) = next {
            let (page, after) = self.page(&link, &[]).await?;
            // An empty page can have a next page: its entries may be invisible to this caller.
            if after.as_ref() == Some(&link) {
                return Err(self.misunderstood("a page names itself as the next page"));
            }
            next = after;
            all.extend(page);
        }
        Ok(all)
    }

    /// Reads one page of a list, and returns it with the address of the next one.
    pub async fn page<T: DeserializeOwned>(
        &self,
        path: &str,
        query: Query<'_>,
    ) -> Result<(Vec<T>, Option<String>), Error> {
        let response = self.send(Method::GET, path, query, "application/json", None::<&()>, &[]).await?;
        let link = response.headers().get(header::LINK).and_then(|link| link.to_str().ok()).and_then(next_page);
        Ok((self.value(response).await?, link))
    }

    /// Follows a stream of events; `after` is the ID of the last known event.
    pub async fn events(&self, path: &str, query: Query<'_>, after: Option<&str>) -> Result<Events, Error> {
        let headers: Vec<_> = after.map(|id| ("last-event-id", id)).into_iter().collect();
        let response = self.send(Method::GET, path, query, "text/event-stream", None::<&()>, &headers).await?;
        self.stream(response)
    }

    /// Posts a request whose progress is sent as events.
    pub async fn post_events(&self, path: &str, query: Query<'_>, body: &impl Serialize) -> Result<Events, Error> {
        let response = self.send(Method::POST, path, query, "text/event-stream", Some(body), &[]).await?;
        self.stream(response)
    }

    fn stream(&self, response: Response<hyper::body::Incoming>) -> Result<Events, Error> {
        let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !kind.starts_with("text/event-stream") {
            return Err(self.misunderstood(format!("expected a stream of events, got '{kind}'")));
        }
        Ok(Events::new(self.server(), response))
    }

    async fn value<T: DeserializeOwned>(&self, response: Response<hyper::body::Incoming>) -> Result<T, Error> {
        let bytes = self.whole(response.into_body()).await?;
        serde_json::from_slice(&bytes).map_err(|error| self.misunderstood(error))
    }

    async fn whole(&self, body: hyper::body::Incoming) -> Result<Bytes, Error> {
        let whole = Limited::new(body, ANSWER).collect().await;
        Ok(whole.map_err(|error| self.unreachable(format!("the response was cut off: {error}")))?.to_bytes())
    }

    /// Sends a request on a new connection. An answer without success is the service's problem.
    async fn send(
        &self,
        method: Method,
        path: &str,
        query: Query<'_>,
        accept: &'static str,
        body: Option<&impl Serialize>,
        headers: &[(&'static str, &str)],
    ) -> Result<Response<hyper::body::Incoming>, Error> {
        let bytes = match body {
            Some(body) => encode(body).map_err(|error| Error::Request(error.to_string()))?,
            None => Vec::new(),
        };
        let mut request = self.request(method, &address(path, query))?.header(header::ACCEPT, accept);
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.deliver(request, Full::new(Bytes::from(bytes))).await
    }

    async fn deliver<B>(
        &self,
        request: hyper::http::request::Builder,
        body: B,
    ) -> Result<Response<hyper::body::Incoming>, Error>
    where
        B: hyper::body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let request = request
            .body(body)
            .map_err(|error| Error::setting(format!("cannot build the request: {error}"), "see the arguments"))?;
        let stream = self.connect().await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.unreachable(error))?;
        // The task ends with the answer, or when its reader is dropped.
        tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(|error| self.unreachable(error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let bytes = self.whole(response.into_body()).await?;
        Err(self.problem(status, &bytes))
    }

    fn problem(&self, status: StatusCode, bytes: &[u8]) -> Error {
        match serde_json::from_slice::<Problem>(bytes) {
            Ok(problem) => Error::Problem(Box::new(problem)),
            Err(_) => self.misunderstood(format!("status {status}, without a problem that Wharf would send")),
        }
    }

    fn request(&self, method: Method, address: &str) -> Result<hyper::http::request::Builder, Error> {
        let mut request = Request::builder().method(method).uri(address).header(header::HOST, self.endpoint.host());
        if let Some(token) = &self.token {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.0))
                .map_err(|_| Error::setting("the token contains invalid characters", TOKEN_REMEDY))?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        Ok(request)
    }

    async fn connect(&self) -> Result<connect::Stream, Error> {
        let connecting = connect::connect(&self.endpoint, self.tls.as_ref());
        match tokio::time::timeout(CONNECT, connecting).await {
            Ok(connected) => connected.map_err(|error| match error.get_ref().and_then(|inner| inner.downcast_ref()) {
                Some(rustls::Error::InvalidCertificate(_)) => Error::setting(
                    format!("the certificate of the service at {} is not trusted: {error}", self.server()),
                    "name the file of the authority that signed it in client.ca_file; a self-signed certificate must \
                     not be an authority (CA:FALSE)",
                ),
                _ => self.unreachable(error),
            }),
            Err(_) => Err(self.unreachable(format!("no connection within {} s", CONNECT.as_secs()))),
        }
    }

    fn unreachable(&self, cause: impl fmt::Display) -> Error {
        Error::Unreachable { server: self.server(), cause: cause.to_string() }
    }

    fn misunderstood(&self, cause: impl fmt::Display) -> Error {
        Error::Answer { server: self.server(), cause: cause.to_string() }
    }
}

/// Encodes a body without its empty fields, so that an older service that does not know them accepts it.
pub(crate) fn encode(body: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    fn prune(value: &mut serde_json::Value) {
        if let serde_json::Value::Object(fields) = value {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(prune);
        }
    }
    let mut value = serde_json::to_value(body)?;
    prune(&mut value);
    serde_json::to_vec(&value)
}

/// Returns a path with its query.
fn address(path: &str, query: Query<'_>) -> String {
    let pairs = query.iter().map(|(name, value)| format!("{}={}", url_encoded(name), url_encoded(value)));
    let query = pairs.collect::<Vec<_>>().join("&");
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

/// Returns the address of `<address>; rel="next"` if it is a path of the same service.
fn next_page(link: &str) -> Option<String> {
    let (address, rest) = link.strip_prefix('<')?.split_once('>')?;
    (rest.contains("rel=\"next\"") && address.starts_with('/') && !address.starts_with("//"))
        .then(|| address.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_place_in_an_address() {
        assert_eq!(address("/v1/x", &[("label", "a=b&c"), ("limit", "3")]), "/v1/x?label=a%3Db%26c&limit=3");
        assert_eq!(address("/v1/x", &[]), "/v1/x");
    }

    #[test]
    fn a_next_page_is_a_path_of_the_same_service() {
        assert_eq!(next_page("</v1/x?cursor=a>; rel=\"next\"").as_deref(), Some("/v1/x?cursor=a"));
        assert_eq!(next_page("<https://elsewhere/x>; rel=\"next\""), None);
        assert_eq!(next_page("<//elsewhere/x>; rel=\"next\""), None);
        assert_eq!(next_page("</v1/x>; rel=\"prev\""), None);
    }

    #[tokio::test]
    async fn an_empty_page_is_not_the_end_of_a_list_and_one_that_names_itself_is_refused() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let folder = std::env::temp_dir().join(format!("wharf-client-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("s");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = vec![0; 4096];
                let count = stream.read(&mut head).await.unwrap();
                let asked = String::from_utf8_lossy(&head[..count]).split(' ').nth(1).unwrap().to_owned();
                let (next, body) = match asked.as_str() {
                    "/list" => (Some("/list?cursor=1"), "[]"),
                    "/list?cursor=1" => (Some("/list?cursor=2"), "[1]"),
                    "/list?cursor=2" => (None, "[2]"),
                    _ => (Some("/again?cursor=1"), "[]"),
                };
                let link = next.map_or(String::new(), |next| format!("link: <{next}>; rel=\"next\"\r\n"));
                let answer = format!("HTTP/1.1 200 OK\r\n{link}content-length: {}\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let settings = Settings { server: path.display().to_string(), ..Settings::default() };
        let client = Client::new(&settings).unwrap();
        assert_eq!(client.pages::<u32>("/list", &[]).await.unwrap(), [1, 2]);
        assert!(matches!(client.pages::<u32>("/again", &[]).await, Err(Error::Answer { .. })));
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_token_is_not_shown() {
        let token = Token::new(" wharf_secret\n").unwrap();
        assert_eq!(format!("{token:?}"), "***");
        assert!(Token::new("two words").is_err() && Token::new("").is_err());
    }
}
