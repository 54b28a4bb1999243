//! Finds the engine's endpoint (argument, environment or Docker context) and opens sockets to it.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream, tcp, unix};

use super::error::{Error, Result, failed};

/// An engine that does not answer a ping within this time counts as unreachable.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// Returns the socket of the engine that the configuration, the environment or a Docker context names; none for an
/// engine on the network.
pub fn socket(argument: Option<&str>) -> Option<PathBuf> {
    match Endpoint::find(argument) {
        Ok(Endpoint::Unix(path)) => Some(path),
        Ok(Endpoint::Tcp(_)) | Err(_) => None,
    }
}

/// The address of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Endpoint {
    Unix(PathBuf),
    /// `host:port`
    Tcp(String),
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

impl Endpoint {
    /// Finds the endpoint in the same order as the docker CLI: argument, `DOCKER_HOST`, context, default socket.
    pub(super) fn find(argument: Option<&str>) -> Result<Self> {
        let env = |key: &str| std::env::var(key).ok().filter(|value| !value.is_empty());
        Self::find_in(argument, &env, &|path| std::fs::read_to_string(path).ok())
    }

    fn find_in(
        argument: Option<&str>,
        env: &dyn Fn(&str) -> Option<String>,
        read: &dyn Fn(&Path) -> Option<String>,
    ) -> Result<Self> {
        if let Some(text) = argument {
            return Self::parse(text, false);
        }
        if let Some(text) = env("DOCKER_HOST") {
            let tls = env("DOCKER_TLS_VERIFY").is_some() || env("DOCKER_TLS").is_some();
            return Self::parse(&text, tls);
        }
        let folder = config_folder(env);
        let config = folder.as_ref().and_then(|folder| read(&folder.join("config.json")));
        let current = config.and_then(|text| {
            let config: serde_json::Value = serde_json::from_str(&text).ok()?;
            Some(config.get("currentContext")?.as_str()?.to_owned())
        });
        match (env("DOCKER_CONTEXT").or(current), folder) {
            (Some(name), Some(folder)) if !name.is_empty() && name != "default" => from_context(&name, &folder, read),
            _ => Ok(Self::Unix(DEFAULT_SOCKET.into())),
        }
    }

    fn parse(text: &str, tls: bool) -> Result<Self> {
        let refuse = |cause: &str, remedy: String| {
            Err(Error::UnsupportedEndpoint { endpoint: text.to_owned(), cause: cause.to_owned(), remedy })
        };
        let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
        match scheme {
            "unix" if rest.starts_with('/') => Ok(Self::Unix(rest.into())),
            "unix" => refuse("the path of the socket is not absolute", "use unix:///path/to/docker.sock".to_owned()),
            "tcp" | "http" if tls => refuse(
                "Wharf does not support TLS to an engine",
                "forward the engine's socket through SSH and use that (see `ssh -L`), or unset DOCKER_TLS_VERIFY"
                    .to_owned(),
            ),
            "tcp" | "http" => {
                let address = rest.split('/').next().unwrap_or_default();
                let address = if address.is_empty() { "127.0.0.1" } else { address };
                let after_ipv6 = address.rsplit_once(']').map_or(address, |(_, tail)| tail);
                match after_ipv6.rsplit_once(':') {
                    Some((_, port)) if port.parse::<u16>().is_ok() => Ok(Self::Tcp(address.to_owned())),
                    Some(_) => refuse("its port is not a number", "use tcp://host:2375".to_owned()),
                    None => Ok(Self::Tcp(format!("{address}:2375"))),
                }
            }
            "https" => refuse(
                "Wharf does not support TLS to an engine",
                "forward the engine's socket through SSH and use that (see `ssh -L`)".to_owned(),
            ),
            "ssh" => refuse(
                "Wharf does not open SSH connections",
                format!("run `ssh -nNT -L /tmp/docker.sock:{DEFAULT_SOCKET} {rest}` and use unix:///tmp/docker.sock"),
            ),
            "" if rest.starts_with('/') => Ok(Self::Unix(rest.into())),
            _ => refuse("unknown kind of endpoint", "use unix:///path/to/docker.sock or tcp://host:port".to_owned()),
        }
    }

    /// Opens a connection.
    pub(super) async fn open(&self) -> Result<Socket> {
        let attempt = async {
            match self {
                Self::Unix(path) => UnixStream::connect(path).await.map(Link::Unix),
                Self::Tcp(address) => {
                    let stream = TcpStream::connect(address).await?;
                    stream.set_nodelay(true)?;
                    Ok(Link::Tcp(stream))
                }
            }
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, attempt).await {
            Ok(Ok(socket)) => Ok(socket),
            Ok(Err(error)) => Err(self.unreachable(error)),
            Err(_) => Err(self.silent()),
        }
    }

    /// Returns the error for an engine that accepts a connection or a request but does not answer.
    pub(super) fn silent(&self) -> Error {
        Error::Unreachable {
            endpoint: self.to_string(),
            cause: format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()),
            remedy: match self {
                Self::Unix(_) => "restart the engine: `sudo systemctl restart docker`".to_owned(),
                Self::Tcp(_) => "check the address, and that no firewall blocks the connection".to_owned(),
            },
            source: None,
        }
    }

    /// Returns the error for a server that answers, but not as an engine does.
    pub(super) fn not_an_engine(&self, cause: impl Into<String>) -> Error {
        Error::Unreachable {
            endpoint: self.to_string(),
            cause: format!("the server is not a Docker engine ({})", cause.into()),
            remedy: "check DOCKER_HOST and `docker context ls`; the address must be the API of the engine".to_owned(),
            source: None,
        }
    }

    fn unreachable(&self, error: io::Error) -> Error {
        let start = "start the engine with `sudo systemctl start docker`";
        let (cause, remedy) = match (self, error.kind()) {
            (Self::Unix(_), io::ErrorKind::NotFound) => (
                "the socket does not exist".to_owned(),
                format!("{start}; if Docker is not installed, see https://docs.docker.com/engine/install/"),
            ),
            (Self::Unix(_), io::ErrorKind::PermissionDenied) => (
                "permission denied".to_owned(),
                "join the docker group with `sudo usermod -aG docker $USER`, then log in again".to_owned(),
            ),
            (Self::Unix(_), io::ErrorKind::ConnectionRefused) => {
                ("the socket exists, but nothing listens on it".to_owned(), start.to_owned())
            }
            (Self::Tcp(_), io::ErrorKind::ConnectionRefused) => (
                "connection refused".to_owned(),
                "check the port, and that the engine listens on it (`dockerd -H tcp://...`)".to_owned(),
            ),
            _ => (error.to_string(), "check DOCKER_HOST and `docker context ls`".to_owned()),
        };
        failed(Error::Unreachable { endpoint: self.to_string(), cause, remedy, source: Some(Box::new(error)) })
    }
}

/// Returns the configuration folder of the docker CLI.
pub(super) fn config_folder(env: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    env("DOCKER_CONFIG").map(PathBuf::from).or_else(|| Some(PathBuf::from(env("HOME")?).join(".docker")))
}

fn from_context(name: &str, folder: &Path, read: &dyn Fn(&Path) -> Option<String>) -> Result<Endpoint> {
    // The CLI stores a context under the SHA-256 of its name (cli/context/store).
    let id = crate::workspace::sha256_hex(name.as_bytes());
    let file = folder.join("contexts/meta").join(&id).join("meta.json");
    let refuse = |cause: String| Error::UnsupportedEndpoint {
        endpoint: format!("of the Docker context '{name}'"),
        cause,
        remedy: "see `docker context ls`, choose one with `docker context use`, or set DOCKER_HOST".to_owned(),
    };
    let text = read(&file).ok_or_else(|| refuse(format!("there is no such context ({})", file.display())))?;
    let meta: serde_json::Value = serde_json::from_str(&text).map_err(|error| refuse(error.to_string()))?;
    let host = meta.pointer("/Endpoints/docker/Host").and_then(|host| host.as_str()).unwrap_or_default();
    if host.is_empty() {
        return Err(refuse(format!("it has no Docker endpoint ({})", file.display())));
    }
    let tls = read(&folder.join("contexts/tls").join(&id).join("docker/cert.pem")).is_some();
    Endpoint::parse(host, tls)
}

/// A wrapper for the two kinds of socket.
#[derive(Debug)]
pub(super) enum Link<U, T> {
    Unix(U),
    Tcp(T),
}

/// A connection to the engine, below HTTP.
pub(super) type Socket = Link<UnixStream, TcpStream>;
/// The reading half of a [`Socket`].
pub(super) type SocketReader = Link<unix::OwnedReadHalf, tcp::OwnedReadHalf>;
/// The writing half of a [`Socket`]. Shutting it down, or dropping it, closes only this direction.
pub(super) type SocketWriter = Link<unix::OwnedWriteHalf, tcp::OwnedWriteHalf>;

impl Socket {
    pub(super) fn into_split(self) -> (SocketReader, SocketWriter) {
        match self {
            Link::Unix(stream) => {
                let (reader, writer) = stream.into_split();
                (Link::Unix(reader), Link::Unix(writer))
            }
            Link::Tcp(stream) => {
                let (reader, writer) = stream.into_split();
                (Link::Tcp(reader), Link::Tcp(writer))
            }
        }
    }
}

impl<U: AsyncRead + Unpin, T: AsyncRead + Unpin> AsyncRead for Link<U, T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl<U: AsyncWrite + Unpin, T: AsyncWrite + Unpin> AsyncWrite for Link<U, T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
        }
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(argument: Option<&str>, env: &[(&str, &str)], files: &[(&str, &str)]) -> Result<Endpoint> {
        let get = |key: &str| env.iter().find(|(name, _)| *name == key).map(|(_, value)| (*value).to_owned());
        let read =
            |path: &Path| files.iter().find(|(name, _)| path == Path::new(name)).map(|(_, text)| (*text).to_owned());
        Endpoint::find_in(argument, &get, &read)
    }

    #[test]
    fn the_argument_wins_then_docker_host_then_the_context_then_the_default() {
        let id = crate::workspace::sha256_hex(b"remote");
        let meta = format!("/h/.docker/contexts/meta/{id}/meta.json");
        let files = [
            ("/h/.docker/config.json", r#"{"currentContext":"remote"}"#),
            (meta.as_str(), r#"{"Name":"remote","Endpoints":{"docker":{"Host":"unix:///ctx.sock"}}}"#),
        ];
        let home = ("HOME", "/h");
        let host = ("DOCKER_HOST", "tcp://10.0.0.1");
        assert_eq!(find(Some("unix:///a"), &[home, host], &files).unwrap(), Endpoint::Unix("/a".into()));
        assert_eq!(find(None, &[home, host], &files).unwrap(), Endpoint::Tcp("10.0.0.1:2375".into()));
        assert_eq!(find(None, &[home], &files).unwrap(), Endpoint::Unix("/ctx.sock".into()));
        let default = Endpoint::Unix(DEFAULT_SOCKET.into());
        assert_eq!(find(None, &[home, ("DOCKER_CONTEXT", "default")], &files).unwrap(), default);
        assert_eq!(find(None, &[], &[]).unwrap(), default);
    }

    #[test]
    fn a_context_that_does_not_exist_is_an_error_and_not_the_default() {
        let error = find(None, &[("HOME", "/h"), ("DOCKER_CONTEXT", "gone")], &[]).unwrap_err();
        assert_eq!(error.code(), "endpoint-unsupported");
        assert!(error.to_string().contains("'gone'"), "{error}");
    }

    #[test]
    fn ssh_and_tls_are_refused_with_what_to_do_instead() {
        for (text, word) in [("ssh://me@box", "ssh -nNT"), ("https://box:2376", "ssh -L"), ("npipe:////./x", "unix://")]
        {
            let error = find(Some(text), &[], &[]).unwrap_err();
            assert!(error.remedy().contains(word), "{text}: {}", error.remedy());
        }
        let tls = [("DOCKER_HOST", "tcp://box:2376"), ("DOCKER_TLS_VERIFY", "1")];
        assert_eq!(find(None, &tls, &[]).unwrap_err().code(), "endpoint-unsupported");
    }

    #[test]
    fn tcp_endpoints_get_the_default_port_and_keep_their_own() {
        for (text, address) in [
            ("tcp://h", "h:2375"),
            ("tcp://h:1/", "h:1"),
            ("http://[::1]:9", "[::1]:9"),
            ("tcp://[::1]", "[::1]:2375"),
            ("tcp://", "127.0.0.1:2375"),
        ] {
            assert_eq!(find(Some(text), &[], &[]).unwrap(), Endpoint::Tcp(address.into()), "{text}");
        }
        assert!(find(Some("tcp://h:many"), &[], &[]).is_err());
    }
}
