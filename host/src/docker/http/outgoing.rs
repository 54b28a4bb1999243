//! What is sent to the engine: a small body at once, or a large one in pieces while it is made.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// Pieces of a body as they are made. The channel's bound is the bound of what waits in memory; an error of the maker
/// breaks the request off, so that the engine never takes a part for the whole.
pub(in crate::docker) type Pieces = tokio::sync::mpsc::Receiver<std::io::Result<Bytes>>;

/// The body of a request.
#[derive(Debug)]
pub(in crate::docker) enum Outgoing {
    /// Sent with its length.
    Whole(Bytes),
    /// Sent in chunks.
    Pieces(Pieces),
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Pieces(pieces) => pieces.poll_recv(cx).map(|piece| piece.map(|piece| piece.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Pieces(_) => SizeHint::default(),
        }
    }
}
