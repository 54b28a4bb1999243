//! Bodies other than JSON: bytes, and archives of any size in both directions.
//!
//! Every method fails with [`Error`].

use std::io;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Method, header};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::{Client, Error, Query, address};

/// A body as it arrives. Dropping it closes the connection.
#[derive(Debug)]
pub struct Download {
    server: String,
    body: Incoming,
    /// The header `wharf-path-kind`.
    pub kind: String,
}

impl Download {
    /// Returns the next bytes, or `None` at the end.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when it breaks off.
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        loop {
            let broken = |error: hyper::Error| Error::Unreachable {
                server: self.server.clone(),
                cause: format!("the response was cut off: {error}"),
            };
            match self.body.frame().await? {
                // All other frames are trailers.
                Ok(frame) => match frame.into_data() {
                    Ok(bytes) => return Some(Ok(bytes)),
                    Err(_) => continue,
                },
                Err(error) => return Some(Err(broken(error))),
            }
        }
    }
}

impl Client {
    /// Uploads bytes to a path.
    pub async fn put<T: DeserializeOwned>(&self, path: &str, bytes: Vec<u8>) -> Result<T, Error> {
        let request = self.request(Method::PUT, path)?.header(header::CONTENT_TYPE, "application/octet-stream");
        let response = self.deliver(request, Full::new(Bytes::from(bytes))).await?;
        self.value(response).await
    }

    /// Reads an archive.
    pub async fn download(&self, path: &str, query: Query<'_>) -> Result<Download, Error> {
        let request = self.request(Method::GET, &address(path, query))?.header(header::ACCEPT, "application/x-tar");
        let response = self.deliver(request, Full::<Bytes>::default()).await?;
        let kind = response.headers().get("wharf-path-kind").and_then(|kind| kind.to_str().ok());
        let kind = kind.unwrap_or_default().to_owned();
        Ok(Download { server: self.server(), body: response.into_body(), kind })
    }

    /// Sends an archive while it is produced; an error in it aborts the request.
    pub async fn upload<T: DeserializeOwned>(
        &self,
        path: &str,
        query: Query<'_>,
        mut pieces: mpsc::Receiver<io::Result<Bytes>>,
    ) -> Result<T, Error> {
        let request =
            self.request(Method::PUT, &address(path, query))?.header(header::CONTENT_TYPE, "application/x-tar");
        let frames = futures_util::stream::poll_fn(move |cx| {
            pieces.poll_recv(cx).map(|piece| piece.map(|piece| piece.map(Frame::data)))
        });
        let response = self.deliver(request, StreamBody::new(frames)).await?;
        self.value(response).await
    }
}
