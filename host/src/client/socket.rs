//! A WebSocket to the service, for interactive commands.
//!
//! Every method fails with [`Error`].

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use hyper::Method;
use serde::Serialize;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message as Frame};

use super::{Client, Error, connect};

/// The limit of a message of the service, in bytes.
const MESSAGE: usize = 16 << 20;

/// A message of the service.
#[derive(Debug)]
pub enum Message {
    /// A byte that names their channel, followed by bytes.
    Bytes(bytes::Bytes),
    /// JSON.
    Text(String),
}

/// The sending half.
pub struct Outgoing(SplitSink<WebSocketStream<connect::Stream>, Frame>);

/// The receiving half.
pub struct Incoming {
    server: String,
    stream: SplitStream<WebSocketStream<connect::Stream>>,
}

impl Client {
    /// Opens a WebSocket for a command in a workspace; the first message is its [`crate::wire::ExecRequest`].
    pub async fn exec_socket(&self, workspace: &str) -> Result<(Outgoing, Incoming), Error> {
        let path = super::verbs::path(workspace, "exec");
        let request = self
            .request(Method::GET, &path)?
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", generate_key())
            .body(())
            .map_err(|error| Error::setting(error.to_string(), ""))?;
        // The handshake needs a complete URL, but sends only its path.
        let (mut parts, ()) = request.into_parts();
        parts.uri =
            format!("ws://{}{path}", self.endpoint.host()).parse().map_err(|error| self.misunderstood(error))?;
        let request = hyper::Request::from_parts(parts, ());
        let config = WebSocketConfig::default().max_message_size(Some(MESSAGE)).max_frame_size(Some(MESSAGE));
        let stream = self.connect().await?;
        let opened = tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await;
        let (socket, _) = opened.map_err(|error| match error {
            tungstenite::Error::Http(response) => {
                self.problem(response.status(), response.body().as_deref().unwrap_or_default())
            }
            other => self.unreachable(other),
        })?;
        let (sink, stream) = socket.split();
        Ok((Outgoing(sink), Incoming { server: self.server(), stream }))
    }
}

impl Outgoing {
    /// Sends JSON. Returns whether the connection is still open.
    pub async fn text(&mut self, value: &impl Serialize) -> bool {
        let Ok(text) = serde_json::to_string(value) else { return false };
        self.0.send(Frame::text(text)).await.is_ok()
    }

    /// Sends bytes of a channel. Returns whether the connection is still open.
    pub async fn bytes(&mut self, channel: u8, bytes: &[u8]) -> bool {
        let mut message = Vec::with_capacity(bytes.len() + 1);
        message.push(channel);
        message.extend_from_slice(bytes);
        self.0.send(Frame::binary(message)).await.is_ok()
    }
}

impl Incoming {
    /// Returns the next message of the service; `None` when it has ended the conversation.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn next(&mut self) -> Result<Option<Message>, Error> {
        loop {
            match self.stream.next().await {
                None | Some(Ok(Frame::Close(_))) => return Ok(None),
                Some(Ok(Frame::Binary(bytes))) => return Ok(Some(Message::Bytes(bytes))),
                Some(Ok(Frame::Text(text))) => return Ok(Some(Message::Text(text.as_str().to_owned()))),
                // The library answers pings.
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    let cause = format!("the connection failed: {error}");
                    return Err(Error::Unreachable { server: self.server.clone(), cause });
                }
            }
        }
    }
}
