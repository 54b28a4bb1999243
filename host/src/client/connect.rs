//! Connections to a service: over its Unix socket, or over TLS.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::Error;

/// The default port of a service.
const PORT: u16 = 7443;

/// The address of a service.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Endpoint {
    Unix(PathBuf),
    Tcp { host: String, port: u16 },
}

impl Endpoint {
    /// Parses `unix:///path`, `/path` or `https://host[:port]`.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let wrong = |what: &str| {
            let remedy = "use unix:///run/wharf/wharf.sock, an absolute path, or https://host:port";
            Error::setting(format!("the server '{text}' {what}"), remedy)
        };
        if let Some(path) = text.strip_prefix("unix://").or(text.starts_with('/').then_some(text)) {
            return match path.starts_with('/') {
                true => Ok(Self::Unix(path.into())),
                false => Err(wrong("is not an absolute path")),
            };
        }
        if text.starts_with("http://") {
            return Err(wrong("has no TLS, so the token could be read on the network"));
        }
        let Some(rest) = text.strip_prefix("https://") else { return Err(wrong("is not an address of a service")) };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.is_empty() || rest.contains(['/', '?', '#', '@']) {
            return Err(wrong("must be a host and a port only"));
        }
        let (host, port) = match rest.rsplit_once(':') {
            // The colons of an IPv6 address are inside its brackets.
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| wrong("has an invalid port"))?)
            }
            _ => (rest, PORT),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        ServerName::try_from(bare).map_err(|_| wrong("has an invalid host"))?;
        Ok(Self::Tcp { host: bare.to_owned(), port })
    }

    /// Returns the header `host`.
    pub(super) fn host(&self) -> String {
        match self {
            Self::Unix(_) => "localhost".to_owned(),
            Self::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Self::Tcp { host, port } => format!("{host}:{port}"),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { .. } => write!(f, "https://{}", self.host()),
        }
    }
}

/// The trusted authorities and the client certificate.
#[derive(Clone)]
pub(crate) struct Tls(Arc<ClientConfig>);

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// Trusts the authorities of a file, or those of the system.
    pub(crate) fn new(ca_file: Option<&Path>, identity: Option<&(PathBuf, PathBuf)>) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        match ca_file {
            Some(path) => {
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(|error| unusable(path, error))?;
                }
            }
            None => {
                // Unreadable certificates of the system are skipped, as in other programs.
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        if roots.is_empty() {
            let remedy = "name the file of the authority that signed the certificate of the service in client.ca_file";
            return Err(Error::setting("there is no trusted certificate authority", remedy));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::setting(error.to_string(), ""))?
            .with_root_certificates(roots);
        let config = match identity {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, error))?;
                let chain = certificates(certificate)?;
                config.with_client_auth_cert(chain, secret).map_err(|error| unusable(certificate, error))?
            }
        };
        Ok(Self(Arc::new(config)))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let all: Vec<_> = all.map_err(|error| unusable(path, error))?;
    if all.is_empty() { Err(unusable(path, "it contains no certificate")) } else { Ok(all) }
}

fn unusable(path: &Path, error: impl fmt::Display) -> Error {
    Error::setting(format!("cannot use '{}': {error}", path.display()), "name a readable PEM file")
}

/// A stream of bytes.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}
/// A connection of either kind.
pub(crate) type Stream = Box<dyn Io>;

pub(crate) async fn connect(endpoint: &Endpoint, tls: Option<&Tls>) -> io::Result<Stream> {
    match endpoint {
        Endpoint::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
        Endpoint::Tcp { host, port } => {
            let tls = tls.ok_or_else(|| io::Error::other("no TLS"))?;
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            stream.set_nodelay(true)?;
            let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
            Ok(Box::new(TlsConnector::from(tls.0.clone()).connect(name, stream).await?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(text: &str) -> (String, u16) {
        match Endpoint::parse(text).unwrap() {
            Endpoint::Tcp { host, port } => (host, port),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn addresses_of_services_are_sockets_and_https() {
        assert_eq!(Endpoint::parse("/run/w.sock").unwrap(), Endpoint::Unix("/run/w.sock".into()));
        assert_eq!(Endpoint::parse("unix:///run/w.sock").unwrap(), Endpoint::Unix("/run/w.sock".into()));
        assert_eq!(tcp("https://wharf.example"), ("wharf.example".into(), PORT));
        assert_eq!(tcp("https://10.0.0.1:99/"), ("10.0.0.1".into(), 99));
        assert_eq!(tcp("https://[::1]:99"), ("::1".into(), 99));
        assert_eq!(Endpoint::parse("https://[::1]").unwrap().host(), format!("[::1]:{PORT}"));
    }

    #[test]
    fn an_address_that_cannot_be_meant_is_refused_with_what_to_write() {
        let refused = [
            "",
            "wharf",
            "unix://run/w.sock",
            "http://localhost:1",
            "https://",
            "https://a:b",
            "https://a/b",
            "https://u@h",
            "https://a b",
        ];
        for text in refused {
            let error = Endpoint::parse(text).unwrap_err();
            assert!(matches!(&error, Error::Setting { remedy, .. } if remedy.contains("unix://")), "{text}: {error}");
        }
    }
}
