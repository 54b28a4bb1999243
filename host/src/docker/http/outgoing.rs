//! Request bodies: a small body as a whole, or a large body in pieces while it is produced.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// Pieces of a body as they are produced. The channel's capacity limits the memory of waiting pieces. An error of the
/// producer aborts the request, so the engine never mistakes a part for the whole.
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
