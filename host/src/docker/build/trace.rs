//! The progress of a BuildKit build, as lines of text.
//!
//! BuildKit reports steps ("vertexes") with start and end, and their output in pieces (BuildKit, `control.proto`:
//! `StatusResponse`). Each report holds what has changed.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bollard_buildkit_proto::moby::buildkit::v1::{StatusResponse, Vertex};
use prost::Message;

/// Steps of BuildKit itself, which tell a reader nothing about the Dockerfile.
const INTERNAL: [&str; 3] = ["[internal]", "copy /context", "exporting"];
/// A step that took longer gets a line with its time.
const LONG_MS: i64 = 1000;

/// The steps seen so far.
#[derive(Default)]
pub(super) struct Trace {
    steps: BTreeMap<String, Step>,
}

#[derive(Default)]
struct Step {
    begun: bool,
    ended: bool,
    /// Output without its end of line yet.
    rest: Vec<u8>,
}

impl Trace {
    /// Takes one report, in Base64, and passes new lines on. A report that cannot be read is left out: the answer
    /// itself says how the build ended.
    pub(super) fn push(&mut self, report: &str, on_line: &mut impl FnMut(&str)) {
        let report = STANDARD.decode(report).ok().and_then(|bytes| StatusResponse::decode(bytes.as_slice()).ok());
        let Some(StatusResponse { vertexes, logs, .. }) = report else {
            tracing::debug!("a report of the builder cannot be read");
            return;
        };
        for vertex in vertexes.iter().filter(|vertex| vertex.started.is_some()) {
            self.begin(vertex, on_line);
        }
        for log in logs {
            let rest = &mut self.steps.entry(log.vertex).or_default().rest;
            rest.extend_from_slice(&log.msg);
            if let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') {
                let whole: Vec<u8> = rest.drain(..=end).collect();
                lines(&whole, on_line);
            }
        }
        for vertex in vertexes.iter().filter(|vertex| vertex.completed.is_some()) {
            self.end(vertex, on_line);
        }
    }

    fn begin(&mut self, vertex: &Vertex, on_line: &mut impl FnMut(&str)) {
        let step = self.steps.entry(vertex.digest.clone()).or_default();
        if !std::mem::replace(&mut step.begun, true) && !is_internal(&vertex.name) {
            let cached = if vertex.cached { " (cached)" } else { "" };
            lines(format!("{}{cached}", vertex.name).as_bytes(), on_line);
        }
    }

    fn end(&mut self, vertex: &Vertex, on_line: &mut impl FnMut(&str)) {
        let step = self.steps.entry(vertex.digest.clone()).or_default();
        if std::mem::replace(&mut step.ended, true) {
            return;
        }
        lines(&std::mem::take(&mut step.rest), on_line);
        let (Some(from), Some(to)) = (vertex.started, vertex.completed) else { return };
        let ms = (to.seconds - from.seconds) * 1000 + i64::from(to.nanos - from.nanos) / 1_000_000;
        if ms >= LONG_MS && !is_internal(&vertex.name) && vertex.error.is_empty() {
            // The number is enough: "[2/3]".
            let number = vertex.name.split_inclusive(']').next().unwrap_or_default();
            on_line(&format!("{number} done in {}.{} s", ms / 1000, ms % 1000 / 100));
        }
    }
}

fn is_internal(name: &str) -> bool {
    INTERNAL.iter().any(|prefix| name.starts_with(prefix))
}

/// Passes the lines of a text on, without blank lines. A program's progress bar overwrites its line: only its last
/// state counts.
fn lines(text: &[u8], on_line: &mut impl FnMut(&str)) {
    for line in String::from_utf8_lossy(text).lines() {
        let line = line.trim_end_matches('\r');
        let line = line.rsplit('\r').next().unwrap_or_default();
        if !line.trim().is_empty() {
            on_line(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded from Docker 20.10.24: `RUN echo bad; exit 5`.
    const OUTPUT: &str = "Gl4KR3NoYTI1Njo1ODVmOWY4ZTU0MTNmNTZmOGNhYjA5ZmEwMzVmOGVlMzhiMjcwOGIwMGU4ZTY2NjM3ODliZGUzMDNiMjMzMzZjEgsI0+q32AYQ66W2SRgBIgRiYWQK";
    const ENDED: &str = "Co4CCkdzaGEyNTY6NTg1ZjlmOGU1NDEzZjU2ZjhjYWIwOWZhMDM1ZjhlZTM4YjI3MDhiMDBlOGU2NjYzNzg5YmRlMzAzYjIzMzM2YxJHc2hhMjU2OjY3ZmViNzQxZTFhNjY5NTA3OWU0NTU3MTE1MDQ4NDVmYzQ1YmU1YzU4YzE0OWMwNDI0ODJmMzhlNTE5NjAwNTEaGlsyLzJdIFJVTiBlY2hvIGJhZDsgZXhpdCA1KgwI0uq32AYQudb+ygMyCwjT6rfYBhCb6ptcOkNleGVjdXRvciBmYWlsZWQgcnVubmluZyBbL2Jpbi9zaCAtYyBlY2hvIGJhZDsgZXhpdCA1XTogZXhpdCBjb2RlOiA1";

    fn told(reports: &[&str]) -> Vec<String> {
        let (mut trace, mut told) = (Trace::default(), Vec::new());
        for report in reports {
            trace.push(report, &mut |line: &str| told.push(line.to_owned()));
        }
        told
    }

    #[test]
    fn a_step_is_named_once_and_its_output_follows() {
        assert_eq!(told(&[ENDED, OUTPUT, ENDED]), ["[2/2] RUN echo bad; exit 5", "bad"]);
    }

    #[test]
    fn output_in_pieces_becomes_whole_lines_and_garbage_is_left_out() {
        let piece = |text: &str| {
            let log = bollard_buildkit_proto::moby::buildkit::v1::VertexLog {
                vertex: "x".into(),
                msg: text.as_bytes().to_vec(),
                ..Default::default()
            };
            STANDARD.encode(StatusResponse { logs: vec![log], ..Default::default() }.encode_to_vec())
        };
        let (first, second) = (piece("10 %\r20"), piece(" %\r30 %\n\nnext"));
        assert_eq!(told(&[&first, "no base64!", &second]), ["30 %"]);
    }
}
