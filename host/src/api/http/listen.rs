//! Listeners and their connections: the Unix socket, and the network with TLS.
//!
//! Everything has a limit: the connections of a listener and of an address, the time of a handshake and of a request's
//! head, the bytes of a head, and the time that a client may leave an answer unread.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Sleep;

use crate::api::http::access::Peer;
use crate::api::http::concurrency::Places;
use crate::api::http::limits;
use crate::api::http::limits::{ConnectionLimit, Place, origin};
use crate::api::http::socket::{Refused, Socket};
use crate::api::http::tls::{Files, Tls};
use crate::config::ApiConfig;
use crate::service::{Handle, Stop, stopped};

/// Concurrent connections of a listener; further connections wait to be accepted.
const CONNECTIONS: usize = 256;
/// Concurrent connections of an address; further connections are closed.
const OF_ONE: usize = 64;
/// The time limit for a request's head, and for an idle connection between requests.
const HEAD: Duration = Duration::from_secs(30);
/// The limit of a request's head, in bytes.
const HEAD_BYTES: usize = 32 * 1024;
/// The time that a client on the network may read nothing of an answer. Clients on this machine have no such limit: a
/// pager may wait for a key for long, and its end is noticed at once.
const STALLED: Duration = Duration::from_secs(30);
/// The time that clients have to read their answers when the service ends.
pub(in crate::api) const FAREWELL: Duration = Duration::from_secs(2);

/// The listener on the network.
pub(in crate::api) struct Network {
    listener: TcpListener,
    tls: Tls,
    crowd: Arc<ConnectionLimit<IpAddr>>,
}

impl Network {
    /// Reads the files of the certificate, if the configuration names an address.
    pub(in crate::api) fn check(config: &ApiConfig) -> Result<(), Refused> {
        Files::of(config).map_or(Ok(()), |files| Tls::load(files).map(drop))
    }

    /// Binds the address of the configuration, if it names one.
    pub(in crate::api) fn claim(config: &ApiConfig) -> Result<Option<Self>, Refused> {
        let (Some(address), Some(files)) = (config.listen, Files::of(config)) else { return Ok(None) };
        let tls = Tls::load(files)?;
        let listen = || {
            let listener = std::net::TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        };
        let listener = listen().map_err(|error| Refused {
            message: format!("the API cannot listen on {address}: {error}"),
            remedy: "choose another address in api.listen, or remove it".into(),
        })?;
        Ok(Some(Self { listener, tls, crowd: Arc::new(limits::ConnectionLimit::new(OF_ONE)) }))
    }

    /// Returns the listening address.
    pub(in crate::api) fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Reloads the files of the certificate when they change.
    pub(in crate::api) async fn follow(self: Arc<Self>, stop: Stop) {
        self.tls.follow(stop).await;
    }
}

/// A source of connections.
pub(in crate::api) enum Listener {
    Socket(Socket),
    Network(Arc<Network>),
}

/// An accepted connection.
enum Taken {
    Socket(UnixStream, u32),
    Network(TcpStream, SocketAddr, Place<IpAddr>, Arc<Network>),
}

impl Listener {
    async fn accept(&self, handle: &Handle) -> std::io::Result<Taken> {
        match self {
            Self::Socket(socket) => socket.accept().await.map(|(stream, uid)| Taken::Socket(stream, uid)),
            Self::Network(network) => loop {
                let (stream, address) = network.listener.accept().await?;
                match network.crowd.enter(origin(address.ip())) {
                    Some(place) => return Ok(Taken::Network(stream, address, place, network.clone())),
                    None => {
                        handle.metrics().refused("too-many");
                        tracing::debug!("api: {address} has too many connections");
                    }
                }
            },
        }
    }
}

/// The state shared by all listeners.
#[derive(Clone)]
pub(in crate::api) struct Shared {
    pub(in crate::api) verbs: Arc<Places>,
    pub(in crate::api) handle: Handle,
    pub(in crate::api) stop: Stop,
}

/// Answers requests until the service stops; see [`crate::api::open`].
pub(in crate::api) async fn serve(listener: Listener, router: Router, shared: Shared) {
    let Shared { verbs, handle, mut stop } = shared;
    let seats = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accept = async {
            // The semaphore is never closed.
            let seat = seats.clone().acquire_owned().await.ok();
            (seat, listener.accept(&handle).await)
        };
        let (seat, taken) = tokio::select! {
            accepted = accept => accepted,
            // The results carry no information. Joining them keeps finished tasks from piling up.
            Some(_) = connections.join_next() => continue,
            () = stopped(&mut stop) => break,
        };
        match taken {
            Ok(taken) => {
                let (router, handle, stop) = (router.clone(), handle.clone(), stop.clone());
                connections.spawn(async move {
                    begin(taken, router, &handle, stop).await;
                    drop(seat);
                });
            }
            Err(error) => {
                tracing::warn!("api: cannot accept a connection: {error}");
                // An example is a lack of file descriptors: an immediate retry would be a busy loop.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    // The service limits this time: it interrupts and undoes verbs that do not end.
    verbs.all_free().await;
    let told = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(FAREWELL, told).await.is_err() {
        tracing::info!("api: disconnecting clients that do not read their responses");
    }
}

async fn begin(taken: Taken, router: Router, handle: &Handle, stop: Stop) {
    match taken {
        Taken::Socket(stream, uid) => {
            let _open = handle.metrics().connection("socket");
            connection(stream, Peer::Socket(uid), router, stop).await;
        }
        Taken::Network(stream, address, _place, network) => {
            let _open = handle.metrics().connection("network");
            match network.tls.accept(stream).await {
                Ok(stream) => connection(stream, Peer::Network(address), router, stop).await,
                Err(error) => {
                    handle.metrics().refused("handshake");
                    tracing::debug!("api: the TLS handshake with {address} failed: {error}");
                }
            }
        }
    }
}

async fn connection<T>(stream: T, peer: Peer, router: Router, mut stop: Stop)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = TowerToHyperService::new(router);
    let service = hyper::service::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(peer);
        router.call(request)
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_BYTES);
    let stream = TokioIo::new(WriteTimeout {
        stream,
        most: if peer.is_remote() { STALLED } else { Duration::MAX },
        stalled: None,
    });
    let connection = builder.serve_connection(stream, service).with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("api: a connection failed: {error}");
    }
}

/// A stream that fails when the peer does not read for too long.
struct WriteTimeout<T> {
    stream: T,
    most: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<T: Unpin> WriteTimeout<T> {
    fn waited<O>(
        &mut self,
        context: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut T>, &mut Context<'_>) -> Poll<std::io::Result<O>>,
    ) -> Poll<std::io::Result<O>> {
        let done = poll(Pin::new(&mut self.stream), context);
        if done.is_ready() {
            self.stalled = None;
            return done;
        }
        let most = self.most;
        let sleep = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(most)));
        sleep.as_mut().poll(context).map(|()| Err(std::io::ErrorKind::TimedOut.into()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for WriteTimeout<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for WriteTimeout<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.waited(context, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        self.waited(context, |stream, context| stream.poll_write_vectored(context, parts))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.waited(context, |stream, context| stream.poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.waited(context, |stream, context| stream.poll_shutdown(context))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn who_does_not_take_an_answer_is_not_waited_for() {
        let most = Duration::from_secs(1);
        let (near, mut far) = tokio::io::duplex(16);
        let mut patient = WriteTimeout { stream: near, most, stalled: None };
        // A slow reader is tolerated: each wait is shorter than the limit, although their sum is longer.
        let reader = tokio::spawn(async move {
            for _ in 0..30 {
                tokio::time::sleep(most / 20).await;
                tokio::io::AsyncReadExt::read_exact(&mut far, &mut [0; 16]).await.unwrap();
            }
            far
        });
        patient.write_all(&[0; 480]).await.unwrap();
        let _far = reader.await.unwrap();
        patient.write_all(&[0; 16]).await.unwrap();
        let error = patient.write_all(&[0; 1]).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    }
}
