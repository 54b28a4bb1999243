//! Sending spans: OTLP over HTTP, in protobuf. The exporter is OpenTelemetry's; its requests use Wharf's own HTTP and
//! TLS.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{self, HeaderValue};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::SpanData;
use tokio::net::TcpStream;

use super::Error;
use crate::client::{Endpoint, Stream, Tls, connect};

/// Variables with the destination of spans; the first one that is set counts.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
const PROTOCOLS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
const TIMEOUTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];
const AUTHORITIES: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"];
const CERTIFICATES: [&str; 2] =
    ["OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"];
const KEYS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "OTEL_EXPORTER_OTLP_CLIENT_KEY"];
/// The default time limit of a request, from the specification.
const PATIENCE: Duration = Duration::from_secs(10);
/// The limit of an answer, in bytes; the rest is not read.
const ANSWER: usize = 1 << 20;

/// Returns the name and value of the first variable that is not empty.
fn said(names: [&'static str; 2]) -> Option<(&'static str, String)> {
    let value = |name| std::env::var(name).ok().map(|text: String| text.trim().to_owned());
    names.into_iter().find_map(|name| value(name).filter(|text| !text.is_empty()).map(|text| (name, text)))
}

/// Returns whether spans must be sent.
pub(super) fn is_asked_for() -> Result<bool, Error> {
    let is = |name: &str, word: &str| std::env::var(name).is_ok_and(|value| value.trim().eq_ignore_ascii_case(word));
    if said(ENDPOINTS).is_none() || is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
        return Ok(false);
    }
    if let Some((name, protocol)) = said(PROTOCOLS).filter(|(_, protocol)| protocol != "http/protobuf") {
        let remedy = "set it to http/protobuf, or unset it; collectors accept that on port 4318";
        return Err(Error::new(format!("{name} is '{protocol}', but traces are only sent as http/protobuf"), remedy));
    }
    Ok(true)
}

/// Returns the exporter for the destination in the environment.
pub(super) fn exporter() -> Result<impl opentelemetry_sdk::trace::SpanExporter + 'static, Error> {
    let (name, endpoint) = said(ENDPOINTS).unwrap_or_default();
    let remedy = "set the address of the collector, such as http://127.0.0.1:4318";
    // The message must not repeat the address, which may contain a password.
    let uri: Uri =
        endpoint.parse().map_err(|error| Error::new(format!("{name} is not an address: {error}"), remedy))?;
    let (Some("http" | "https"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(Error::new(format!("{name} does not begin with http:// or https://"), remedy));
    };
    if authority.as_str().contains('@') {
        let remedy = "remove them, and set the headers of the collector in OTEL_EXPORTER_OTLP_HEADERS";
        return Err(Error::new(format!("{name} contains a user or password"), remedy));
    }
    let within = match said(TIMEOUTS) {
        None => PATIENCE,
        Some((name, text)) => Duration::from_millis(text.parse().map_err(|_| {
            Error::new(format!("{name} is '{text}', which is not a number"), "use a time in milliseconds")
        })?),
    };
    let tls = if uri.scheme_str() == Some("https") { Some(tls()?) } else { None };
    let cause = Arc::new(Mutex::default());
    let builder = SpanExporter::builder()
        .with_http()
        .with_http_client(Post { tls, within, cause: cause.clone() })
        .with_timeout(within);
    let inner = builder.build().map_err(|error| {
        Error::new(format!("cannot send traces: {error}"), "set OTEL_EXPORTER_OTLP_* as in docs/operations.md")
    })?;
    Ok(Reporting { inner, place: authority.to_string(), away: AtomicBool::new(false), cause })
}

fn tls() -> Result<Tls, Error> {
    let path = |names| said(names).map(|(_, path)| PathBuf::from(path));
    let identity = match (path(CERTIFICATES), path(KEYS)) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => {
            let (one, other) = (CERTIFICATES[1], KEYS[1]);
            return Err(Error::new(format!("only one of {one} and {other} is set"), "set both, or none"));
        }
    };
    let remedy = format!("{} names the collector's authority, a PEM file", AUTHORITIES[1]);
    Tls::new(path(AUTHORITIES).as_deref(), identity.as_ref()).map_err(|error| Error::new(error.to_string(), remedy))
}

/// The cause of the last request without an answer: the exporter itself does not report it.
type Cause = Arc<Mutex<String>>;

/// An exporter that logs when the collector becomes unreachable, and when it is back.
#[derive(Debug)]
struct Reporting {
    inner: SpanExporter,
    place: String,
    away: AtomicBool,
    cause: Cause,
}

impl opentelemetry_sdk::trace::SpanExporter for Reporting {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let sent = self.inner.export(batch).await;
        match &sent {
            Ok(()) => {
                if self.away.swap(false, Ordering::Relaxed) {
                    tracing::warn!("the collector at {} accepts traces again", self.place);
                }
            }
            Err(error) => {
                if !self.away.swap(true, Ordering::Relaxed) {
                    let place = &self.place;
                    let cause = std::mem::take(&mut *self.cause.lock().unwrap_or_else(PoisonError::into_inner));
                    let cause = if cause.is_empty() { error.to_string() } else { cause };
                    tracing::warn!("the collector at {place} does not accept traces; {count} spans are lost: {cause}");
                }
            }
        }
        sent
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// A client that sends one request on a new connection every few seconds.
#[derive(Debug)]
struct Post {
    tls: Option<Tls>,
    within: Duration,
    cause: Cause,
}

#[async_trait]
impl HttpClient for Post {
    /// Sends a request. It blocks: a separate thread, which outlives the program's runtime, sends spans.
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let answer = runtime.block_on(async {
            let late = |_| format!("it did not respond within {:?}", self.within);
            tokio::time::timeout(self.within, self.send(request)).await.map_err(late)?
        });
        let cause = answer.as_ref().err().map(ToString::to_string).unwrap_or_default();
        *self.cause.lock().unwrap_or_else(PoisonError::into_inner) = cause;
        answer
    }
}

impl Post {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (mut parts, body) = request.into_parts();
        let authority = parts.uri.authority().ok_or("its address has no host")?.clone();
        let host = authority.host();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).to_owned();
        let stream: Stream = match &self.tls {
            None => Box::new(TcpStream::connect((host, authority.port_u16().unwrap_or(80))).await?),
            Some(tls) => {
                let port = authority.port_u16().unwrap_or(443);
                connect(&Endpoint::Tcp { host, port }, Some(tls)).await?
            }
        };
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // The task ends with the runtime; its errors are those of the request.
        tokio::spawn(connection);
        parts.headers.insert(header::HOST, HeaderValue::from_str(authority.as_str())?);
        parts.uri = parts.uri.path_and_query().map_or("/", |path| path.as_str()).parse()?;
        let answer = sender.send_request(Request::from_parts(parts, Full::new(body))).await?;
        let (head, body) = answer.into_parts();
        Ok(Response::from_parts(head, Limited::new(body, ANSWER).collect().await?.to_bytes()))
    }
}
