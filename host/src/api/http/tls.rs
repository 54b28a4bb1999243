//! TLS for the listener on the network. The certificate, the key and the clients' authority are files. They are read
//! again when one of them changes, and at SIGHUP. If the new files are invalid, the current ones stay in use.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::api::http::socket::Refused;
use crate::config::ApiConfig;
use crate::service::{Stop, stopped};

/// The time limit for a handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The limit of a file, in bytes.
const BYTES: u64 = 1 << 20;
/// The interval of checks for changed files.
const EVERY: Duration = Duration::from_secs(1);

/// The files.
#[derive(Debug, Clone)]
pub(in crate::api) struct Files {
    cert: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
}

/// Device, inode, size and time of change of a file.
type Seen = (u64, u64, u64, i64, i64);

/// The TLS configuration that new connections use.
pub(in crate::api) struct Tls {
    files: Files,
    current: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads the files.
    pub(in crate::api) fn load(files: Files) -> Result<Self, Refused> {
        let current = RwLock::new(Arc::new(files.load()?));
        Ok(Self { files, current })
    }

    /// Performs the handshake with a client.
    pub(in crate::api) async fn accept(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        let config = self.current.read().unwrap_or_else(PoisonError::into_inner).clone();
        let handshake = TlsAcceptor::from(config).accept(stream);
        tokio::time::timeout(HANDSHAKE, handshake).await.map_err(|_| std::io::ErrorKind::TimedOut)?
    }

    /// Reloads the files when they change, until the service stops.
    pub(in crate::api) async fn follow(&self, mut stop: Stop) {
        let mut hangups = match signal(SignalKind::hangup()) {
            Ok(hangups) => hangups,
            Err(error) => return tracing::error!("api: cannot handle SIGHUP: {error}"),
        };
        let mut seen = self.files.seen();
        let mut last = seen.clone();
        loop {
            let asked = tokio::select! {
                () = tokio::time::sleep(EVERY) => false,
                Some(()) = hangups.recv() => true,
                () = stopped(&mut stop) => return,
            };
            let now = self.files.seen();
            // A file that is still being written is read later.
            let still = now == last;
            last.clone_from(&now);
            if !(asked || (still && now != seen)) {
                continue;
            }
            seen = now;
            match self.files.load() {
                Ok(config) => {
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
                    tracing::info!("api: reloaded the certificate in '{}'", self.files.cert.display());
                }
                Err(refused) => tracing::error!("api: {}; the previous one stays active", refused.message),
            }
        }
    }
}

impl Files {
    /// Returns the files of a configuration that has an address on the network.
    pub(in crate::api) fn of(config: &ApiConfig) -> Option<Self> {
        let ApiConfig { listen: Some(_), tls_cert: Some(cert), tls_key: Some(key), client_ca, .. } = config else {
            return None;
        };
        Some(Self { cert: cert.clone(), key: key.clone(), client_ca: client_ca.clone() })
    }

    fn seen(&self) -> Vec<Option<Seen>> {
        let of = |path: &PathBuf| {
            let meta = std::fs::metadata(path).ok()?;
            Some((meta.dev(), meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec()))
        };
        [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()].into_iter().flatten().map(of).collect()
    }

    fn load(&self) -> Result<ServerConfig, Refused> {
        let refuse = |path: &Path, why: String, remedy: &str| Refused {
            message: format!("the API cannot use '{}': {why}", path.display()),
            remedy: remedy.to_owned(),
        };
        let pem = "set api.tls_cert, api.tls_key or api.client_ca to a PEM file that the service can read";
        let certificates = |path: &Path| -> Result<Vec<CertificateDer<'static>>, Refused> {
            let (bytes, _) = read(path).map_err(|error| refuse(path, error.to_string(), pem))?;
            let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
            let all = all.map_err(|error| refuse(path, error.to_string(), pem))?;
            if all.is_empty() { Err(refuse(path, "it contains no certificate".into(), pem)) } else { Ok(all) }
        };
        let chain = certificates(&self.cert)?;
        let (bytes, mode) = read(&self.key).map_err(|error| refuse(&self.key, error.to_string(), pem))?;
        // The group of the key may read it: the usual way to share a key between services.
        if mode & 0o037 != 0 {
            let why = format!("its mode is {:o}, so others can read or change the key", mode & 0o777);
            return Err(refuse(&self.key, why, "restrict its access: chmod 600, or 640 for a group"));
        }
        let key = PrivateKeyDer::from_pem_slice(&bytes)
            .map_err(|error| refuse(&self.key, format!("it contains no private key: {error}"), pem))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| refuse(&self.cert, error.to_string(), pem))?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(|error| refuse(path, error.to_string(), pem))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| refuse(path, error.to_string(), pem))?)
            }
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|error| refuse(&self.cert, error.to_string(), "use a certificate and key that belong together"))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// Returns the bytes of a file, and its mode.
fn read(path: &Path) -> std::io::Result<(Vec<u8>, u32)> {
    let file = crate::trust::open(path).map_err(|error| match error {
        crate::trust::Error::Untrusted(untrusted) => {
            std::io::Error::other(format!("{}; {}", untrusted.why, untrusted.remedy))
        }
        crate::trust::Error::Io(error) => error,
    })?;
    let about = file.metadata()?;
    let mut bytes = Vec::new();
    file.take(BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > BYTES {
        return Err(std::io::Error::other("it is too large for a certificate or key"));
    }
    Ok((bytes, about.mode()))
}
