//! A minimal HTTP client for the API and the engine, over sockets and TLS alike. It shares no code with Wharf, and
//! sends any bytes that a test needs, including those that no client would send.

use std::io::{Read, Write};

use serde_json::Value;

/// An answer of the API or the engine.
pub struct Answer {
    pub status: u16,
    /// The head in lower case.
    pub head: String,
    pub body: Vec<u8>,
}

/// Builds an HTTP/1.1 request that asks for the connection to be closed.
pub fn request(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\n{headers}connection: close\r\ncontent-length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// Builds a request with JSON and HTTP/1.0, which the engine answers without chunks.
pub fn request_without_chunks(method: &str, path: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.0\r\nhost: docker\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// Sends bytes and reads until the connection ends.
#[track_caller]
pub fn exchange(mut stream: impl Read + Write, request: &[u8]) -> Answer {
    // The answer may arrive, and the connection end, before everything is sent.
    let _ = stream.write_all(request);
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    Answer::of(all)
}

impl Answer {
    #[track_caller]
    pub fn of(mut all: Vec<u8>) -> Self {
        let end = all.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no HTTP answer: {:?}", String::from_utf8_lossy(&all)));
        let body = all.split_off(end + 4);
        let head = String::from_utf8_lossy(&all[..end]).to_lowercase();
        let status = head[9..12].parse().unwrap();
        Self { status, head, body }
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.text()))
    }

    /// Fails the test unless the status reports success.
    #[track_caller]
    pub fn done(self) -> Self {
        assert!((200..300).contains(&self.status), "the answer is {}: {}", self.status, self.text());
        self
    }

    /// Expects a whole JSON document of the API.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        assert!(self.head.contains("content-type: application/json"), "{}", self.head);
        self.json()
    }

    /// Expects a whole problem document of the API and returns its code.
    #[track_caller]
    pub fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}\n{}", self.head, self.text());
        assert!(self.head.contains("content-type: application/problem+json"), "{}", self.head);
        let problem = self.json();
        for key in ["type", "title", "detail", "code", "remedy"] {
            assert!(problem[key].as_str().is_some_and(|text| !text.is_empty() && !text.contains('\n')), "{problem}");
        }
        assert_eq!(problem["status"], status);
        problem["code"].as_str().unwrap().to_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")))
    }
}
