//! Incoming server-sent events: <https://html.spec.whatwg.org/multipage/server-sent-events.html>.

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Response, header};
use serde::de::DeserializeOwned;

use super::Error;

/// The limit of one event, in bytes; a service of Wharf never sends more.
const EVENT: usize = 64 << 20;

/// One event.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServerEvent {
    /// Its kind; `message` if none is given.
    pub event: String,
    /// Its data.
    pub data: String,
    /// The ID after which the stream continues, if there is one.
    pub id: Option<String>,
}

impl ServerEvent {
    /// Parses the data as JSON.
    ///
    /// # Errors
    /// When the data is not of this type.
    pub fn value<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_str(&self.data)
    }
}

/// A stream of events.
#[derive(Debug)]
pub struct Events {
    server: String,
    body: Incoming,
    parser: Parser,
    date: Option<jiff::Timestamp>,
}

impl Events {
    pub(super) fn new(server: String, response: Response<Incoming>) -> Self {
        let date = response.headers().get(header::DATE).and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).ok());
        Self { server, body: response.into_body(), parser: Parser::default(), date }
    }

    /// Returns the start time of the answer, in whole seconds of the service's clock.
    pub fn date(&self) -> Option<jiff::Timestamp> {
        self.date
    }

    /// Returns the ID after which to continue.
    pub fn last_id(&self) -> Option<&str> {
        self.parser.last.as_deref()
    }

    /// Returns the next event; `None` when the service has ended the stream.
    ///
    /// # Errors
    /// When the connection breaks, or carries anything other than events.
    pub async fn next(&mut self) -> Result<Option<ServerEvent>, Error> {
        loop {
            if let Some(event) = self.parser.take() {
                return Ok(Some(event));
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            let frame = frame.map_err(|error| Error::Unreachable {
                server: self.server.clone(),
                cause: format!("the stream failed: {error}"),
            })?;
            if let Ok(data) = frame.into_data() {
                self.parser.feed(&data).map_err(|cause| Error::Answer { server: self.server.clone(), cause })?;
            }
        }
    }
}

/// Splits bytes into events.
#[derive(Debug, Default)]
struct Parser {
    bytes: Vec<u8>,
    /// The position in `bytes` up to which they are consumed.
    at: usize,
    /// The position in `bytes` up to which no line break was found.
    seen: usize,
    event: ServerEvent,
    /// Whether `event` has a line of data.
    filled: bool,
    /// The last ID, which may have come without data.
    last: Option<String>,
}

impl Parser {
    fn feed(&mut self, bytes: &Bytes) -> Result<(), String> {
        self.bytes.drain(..self.at);
        self.seen -= self.at;
        self.at = 0;
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() + self.event.data.len() > EVENT { Err("an event is incomplete".to_owned()) } else { Ok(()) }
    }

    fn take(&mut self) -> Option<ServerEvent> {
        while let Some(line) = self.line() {
            if line.is_empty() {
                let event = std::mem::take(&mut self.event);
                if event.id.is_some() {
                    self.last.clone_from(&event.id);
                }
                if std::mem::take(&mut self.filled) {
                    return Some(event);
                }
                continue;
            }
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match name {
                "event" => value.clone_into(&mut self.event.event),
                "data" => {
                    if self.filled {
                        self.event.data.push('\n');
                    }
                    self.event.data.push_str(value);
                    self.filled = true;
                }
                "id" => self.event.id = Some(value.to_owned()),
                // Comments keep the connection alive.
                _ => {}
            }
        }
        None
    }

    /// Returns the next whole line without its line break. A lone `\r` does not end a line: Wharf's service sends none.
    fn line(&mut self) -> Option<String> {
        let rest = self.bytes.get(self.seen..)?;
        match rest.iter().position(|byte| *byte == b'\n') {
            None => {
                self.seen = self.bytes.len();
                None
            }
            Some(place) => {
                let end = self.seen + place;
                let line = self.bytes.get(self.at..end).unwrap_or_default();
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                let line = String::from_utf8_lossy(line).into_owned();
                self.at = end + 1;
                self.seen = self.at;
                Some(line)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(chunks: &[&[u8]]) -> Vec<ServerEvent> {
        let mut parser = Parser::default();
        let mut all = Vec::new();
        for chunk in chunks {
            parser.feed(&Bytes::copy_from_slice(chunk)).unwrap();
            while let Some(event) = parser.take() {
                all.push(event);
            }
        }
        all
    }

    #[test]
    fn events_are_the_same_however_the_bytes_come_in() {
        let text = b": hello\n\nid: 7\nevent: line\ndata: {\"a\":\ndata: \"\xc3\xa9\"}\n\ndata\n\nevent: lost\n\ndata:x\r\n\r\n";
        let whole = parsed(&[text]);
        assert_eq!(whole.len(), 3, "{whole:?}");
        assert_eq!((whole[0].event.as_str(), whole[0].id.as_deref()), ("line", Some("7")));
        assert_eq!(whole[0].data, "{\"a\":\n\"é\"}");
        assert_eq!((whole[1].data.as_str(), whole[2].data.as_str()), ("", "x"));
        let single: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(parsed(&single), whole);
        assert_eq!(parsed(&[b"data: not ended\n"]), []);
    }

    #[test]
    fn an_id_alone_says_where_the_stream_is() {
        let mut parser = Parser::default();
        parser.feed(&Bytes::from_static(b"id: 41\n\n")).unwrap();
        assert_eq!((parser.take(), parser.last.as_deref()), (None, Some("41")));
        parser.feed(&Bytes::from_static(b"data: x\n\nid: 42\n")).unwrap();
        assert!(parser.take().is_some_and(|event| event.data == "x" && event.id.is_none()));
        assert_eq!((parser.take(), parser.last.as_deref()), (None, Some("41")));
    }

    #[test]
    fn an_event_without_an_end_does_not_fill_the_memory() {
        let mut parser = Parser::default();
        let chunk = Bytes::from(vec![b'x'; 16 << 20]);
        let fed = (0..5).map(|_| {
            let fed = parser.feed(&chunk);
            assert!(parser.take().is_none());
            fed
        });
        assert!(fed.collect::<Result<Vec<_>, _>>().is_err());
    }
}
