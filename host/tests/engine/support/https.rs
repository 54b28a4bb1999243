//! A network listener for a test, and a client that trusts only its certificate.

use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::http::{Answer, exchange, request};
use super::sandbox::Sandbox;
use crate::service::serve::Serving;

/// The service's address, and the client configuration with its trusted certificate.
pub struct Https {
    pub address: String,
    pub config: Arc<ClientConfig>,
}

/// Writes a certificate for `localhost` and its key, and returns the certificate.
pub fn certificate(sandbox: &Sandbox) -> PathBuf {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = sandbox.write("tls/key.pem", "");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    sandbox.write("tls/cert.pem", made.cert.pem())
}

/// Returns lines of `[api]` that listen on a free port of loopback.
pub fn lines(sandbox: &Sandbox) -> String {
    let path = |name: &str| sandbox.path("tls").join(name).display().to_string();
    let (cert, key) = (path("cert.pem"), path("key.pem"));
    format!("[api]\nlisten = \"127.0.0.1:0\"\ntls_cert = \"{cert}\"\ntls_key = \"{key}\"\n")
}

/// Returns a client that trusts only this certificate, with its own client certificate if requested.
pub fn client(cert: &Path, own: Option<(&str, &str)>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(cert).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    Arc::new(match own {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let cert = CertificateDer::from_pem_slice(cert.as_bytes()).unwrap();
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            builder.with_client_auth_cert(vec![cert], key).unwrap()
        }
    })
}

impl Https {
    /// Starts a service that listens on the network, with additional configuration in and after its `[api]`.
    #[track_caller]
    pub fn start(sandbox: &Sandbox, more: &str) -> (Self, Serving) {
        let cert = certificate(sandbox);
        sandbox.config(&format!("{}{more}", lines(sandbox)));
        let serving = Serving::start(sandbox, &[]);
        (Self { address: address(&serving), config: client(&cert, None) }, serving)
    }

    /// Opens a connection and completes its handshake.
    pub fn connect(&self) -> std::io::Result<StreamOwned<ClientConnection, TcpStream>> {
        connect(&self.address, &self.config)
    }

    /// Sends one request on a separate connection.
    #[track_caller]
    pub fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        self.raw(&request(method, path, headers, body.as_bytes()))
    }

    #[track_caller]
    pub fn raw(&self, request: &[u8]) -> Answer {
        exchange(self.connect().unwrap(), request)
    }

    /// Sends a request with a token.
    #[track_caller]
    pub fn by(&self, token: &str, method: &str, path: &str) -> Answer {
        self.send(method, path, &format!("host: localhost\r\nauthorization: Bearer {token}\r\n"), "")
    }
}

/// Returns the address that the service reports.
#[track_caller]
pub fn address(serving: &Serving) -> String {
    let (_, rest) = serving.ready.split_once("https://").unwrap_or_else(|| panic!("{}", serving.ready));
    rest.split(';').next().unwrap().to_owned()
}

pub fn connect(address: &str, config: &Arc<ClientConfig>) -> std::io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(config.clone(), name).map_err(std::io::Error::other)?;
    let mut stream = StreamOwned::new(connection, TcpStream::connect(address)?);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

/// Creates a token with the command and returns its text.
#[track_caller]
pub fn token(sandbox: &Sandbox, args: &[&str]) -> String {
    let mut all = vec!["token", "create"];
    all.extend(args);
    sandbox.json(&all)["token"].as_str().unwrap().to_owned()
}
