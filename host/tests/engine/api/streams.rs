//! Streams over the API: server-sent events, over a real socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::service::serve::Serving;
use crate::support::sandbox::{Sandbox, until};
use crate::support::service_api::{Answer, get, post, send, socket};

/// Longer than any expected wait.
const PATIENCE: Duration = Duration::from_secs(60);

/// A received event.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Event {
    pub name: String,
    pub id: String,
    pub data: Value,
}

/// A stream of events that is being read.
pub struct Events {
    /// Used to hang up.
    connection: UnixStream,
    events: Receiver<Event>,
    /// The last id, with or without an event.
    ids: Receiver<String>,
}

impl Events {
    #[track_caller]
    pub fn follow(sandbox: &Sandbox, path: &str, last: Option<&str>) -> Self {
        Self::ask(sandbox, "GET", path, last, "")
    }

    #[track_caller]
    pub fn ask(sandbox: &Sandbox, method: &str, path: &str, last: Option<&str>, body: &str) -> Self {
        let mut connection = UnixStream::connect(socket(sandbox)).unwrap();
        let last = last.map(|id| format!("last-event-id: {id}\r\n")).unwrap_or_default();
        let kind = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n{last}{kind}content-length: {}\r\n\r\n",
            body.len()
        );
        connection.write_all(format!("{head}{body}").as_bytes()).unwrap();
        let mut reader = BufReader::new(connection.try_clone().unwrap());
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(reader.read_line(&mut head).unwrap(), 0, "no answer: {head}");
        }
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert!(head.contains("content-type: text/event-stream"), "{head}");
        let ((to, events), (tell, ids)) = (channel(), channel());
        std::thread::spawn(move || {
            let (mut text, mut event) = (String::new(), Event::default());
            while let Some(chunk) = chunk(&mut reader) {
                text.push_str(&String::from_utf8(chunk).unwrap());
                while let Some(end) = text.find('\n') {
                    let line: String = text.drain(..=end).collect();
                    let line = line.trim_end_matches('\n');
                    if line.is_empty() {
                        let event = std::mem::take(&mut event);
                        if !event.id.is_empty() {
                            let _ = tell.send(event.id.clone());
                        }
                        // Without data it only carries the position of the stream.
                        if !event.data.is_null() && to.send(event).is_err() {
                            return;
                        }
                    } else if let Some(data) = line.strip_prefix("data: ") {
                        event.data = serde_json::from_str(data).unwrap();
                    } else if let Some(id) = line.strip_prefix("id: ") {
                        event.id = id.to_owned();
                    } else if let Some(name) = line.strip_prefix("event: ") {
                        event.name = name.to_owned();
                    } else {
                        assert!(line.starts_with(':'), "{line}");
                    }
                }
            }
        });
        Self { connection, events, ids }
    }

    /// Returns the next event.
    #[track_caller]
    pub fn next(&self) -> Event {
        self.events.recv_timeout(PATIENCE).expect("another event")
    }

    /// Returns the next event that matches; others are skipped.
    #[track_caller]
    pub fn until(&self, mut so: impl FnMut(&Event) -> bool) -> Event {
        loop {
            let event = self.next();
            if so(&event) {
                return event;
            }
        }
    }

    /// Returns the position at the start of the stream.
    #[track_caller]
    pub fn place(&self) -> String {
        self.ids.recv_timeout(PATIENCE).expect("a place")
    }

    /// Returns the remaining events, to the end of the stream.
    #[track_caller]
    pub fn rest(&self) -> Vec<Event> {
        let mut all = Vec::new();
        loop {
            match self.events.recv_timeout(PATIENCE) {
                Ok(event) => all.push(event),
                Err(RecvTimeoutError::Disconnected) => return all,
                Err(RecvTimeoutError::Timeout) => panic!("the stream does not end: {all:?}"),
            }
        }
    }

    pub fn hang_up(self) {
        self.connection.shutdown(std::net::Shutdown::Both).unwrap();
    }
}

/// Reads a chunk of a body; none at its end.
fn chunk(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut size = String::new();
    reader.read_line(&mut size).ok().filter(|read| *read > 0)?;
    let size = usize::from_str_radix(size.trim(), 16).unwrap();
    let mut bytes = vec![0; size + 2];
    reader.read_exact(&mut bytes).ok()?;
    bytes.truncate(size);
    (size > 0).then_some(bytes)
}

/// Requests events and expects a refusal instead.
#[track_caller]
fn refused(sandbox: &Sandbox, path: &str, headers: &str) -> Answer {
    let headers = format!("host: localhost\r\naccept: text/event-stream\r\n{headers}");
    send(&socket(sandbox), "GET", path, &headers, "")
}

#[test]
fn events_come_as_they_happen_and_go_on_without_a_gap_where_they_broke_off() {
    let sandbox = Sandbox::new();
    let serving = Serving::start(&sandbox, &[]);
    let events = Events::follow(&sandbox, "/v1/events", None);
    let begin = events.place();
    sandbox.up();
    let created = events.until(|event| event.data["what"] == "created");
    assert_eq!(created.data["workspace"], sandbox.id().as_str());
    let started = events.until(|event| event.data["what"] == "started");
    events.hang_up();
    // While the stream is not read.
    post(&sandbox, "/v1/workspaces/project/pause", "").ok();
    let again = Events::follow(&sandbox, "/v1/events", Some(&started.id));
    assert_eq!(again.next().data["what"], "paused");
    post(&sandbox, "/v1/workspaces/project/unpause", "").ok();
    assert_eq!(again.next().data["what"], "unpaused");
    // A reader that resumes from the beginning sees all events.
    let whole = Events::follow(&sandbox, "/v1/events", Some(&begin));
    let whats: Vec<_> = (0..4).map(|_| whole.next().data["what"].as_str().unwrap().to_owned()).collect();
    assert_eq!(whats, ["created", "started", "paused", "unpaused"]);
    let page = get(&sandbox, "/v1/events?workspace=project&since=1h");
    let last = page.header("last-event-id").unwrap().to_owned();
    let page = page.ok();
    // An engine that hears of it late from containerd reports a pause and its end again.
    let repeated = |event: &serde_json::Value| ["paused", "unpaused"].iter().any(|what| event["what"] == **what);
    let all = page.as_array().unwrap();
    assert!(all.len() >= 4 && all[4..].iter().all(repeated), "{page}");
    assert_eq!(page[0], created.data);
    let first = get(&sandbox, "/v1/events?limit=3");
    let next = first.header("link").unwrap()[1..].split_once('>').unwrap().0.to_owned();
    assert_eq!(get(&sandbox, &next).ok()[0], page[3]);
    // A stream continues after a page.
    let behind = Events::follow(&sandbox, "/v1/events?workspace=project", Some(&last));
    sandbox.run_in(&sandbox.folder("other"), &["up"]).ok();
    post(&sandbox, "/v1/workspaces/project/kill", "").ok();
    assert_eq!(behind.until(|event| event.data["what"] == "exited").data["exit_code"], 137);
    serving.terminate();
    // Streams end with the service, in order.
    behind.rest();
    let whats: Vec<_> = whole.rest().into_iter().map(|event| event.data["what"].clone()).collect();
    assert!(whats.contains(&json!("exited")), "{whats:?}");
}

#[test]
fn what_a_stream_cannot_do_is_said_before_it_begins() {
    let sandbox = Sandbox::new();
    let serving = Serving::start(&sandbox, &[]);
    for id in ["x", "-1", "1.5"] {
        let answer = refused(&sandbox, "/v1/events", &format!("last-event-id: {id}\r\n"));
        assert_eq!(answer.problem(400), "bad-request", "{id}");
    }
    assert_eq!(refused(&sandbox, "/v1/events?until=1h", "").problem(400), "bad-request");
    assert_eq!(refused(&sandbox, "/v1/events?workspace=no-such", "").problem(404), "workspace-not-found");
    assert_eq!(get(&sandbox, "/v1/decisions/stream").problem(406), "only-events");
    // An id that this history has never issued: the history was replaced.
    let events = Events::follow(&sandbox, "/v1/events", Some("4711"));
    let gap = events.next();
    assert_eq!((gap.name.as_str(), &gap.data["after"]), ("gap", &json!(4711)));
    serving.end();
}

#[test]
fn streams_have_seats_of_their_own_and_give_them_back() {
    let sandbox = Sandbox::new();
    let serving = Serving::start(&sandbox, &[]);
    until("the engine is there", || get(&sandbox, "/v1/ready").status == 200);
    let held: Vec<_> = (0..128).map(|_| Events::follow(&sandbox, "/v1/events", None)).collect();
    let busy = refused(&sandbox, "/v1/events", "");
    assert_eq!((busy.problem(503), busy.header("retry-after")), ("busy".to_owned(), Some("1")));
    assert_eq!(get(&sandbox, "/v1/workspaces").ok(), json!([]), "reading goes on");
    sandbox.up();
    for events in &held {
        assert_eq!(events.next().data["what"], "created");
    }
    held.into_iter().for_each(Events::hang_up);
    until("they are given back", || refused_or_ended(&sandbox));
    serving.end();
}

/// Returns whether a stream is refused or ended.
fn refused_or_ended(sandbox: &Sandbox) -> bool {
    let mut connection = UnixStream::connect(socket(sandbox)).unwrap();
    let request = "GET /v1/events HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\r\n";
    connection.write_all(request.as_bytes()).unwrap();
    let mut line = [0; 12];
    connection.read_exact(&mut line).unwrap();
    line == *b"HTTP/1.1 200"
}

#[test]
fn decisions_are_told_as_they_are_taken() {
    let sandbox = Sandbox::new();
    sandbox.script("rule.rhai", "fn pre_create(ctx) { ctx.spec.env.TEAM = \"pay\"; }");
    let serving = Serving::start(&sandbox, &[]);
    until("the engine is there", || get(&sandbox, "/v1/ready").status == 200);
    let all = Events::follow(&sandbox, "/v1/decisions/stream", None);
    let some = Events::follow(&sandbox, "/v1/decisions/stream?hook=pre-create&policy=rule.rhai", None);
    sandbox.up();
    let record = some.next();
    assert_eq!(record.data, get(&sandbox, &format!("/v1/decisions/{}", record.id)).ok());
    assert_eq!(record.data["hook"], "pre-create");
    let hooks: Vec<_> = (0..3).map(|_| all.next()).collect();
    let names: Vec<_> = hooks.iter().map(|event| event.data["hook"].as_str().unwrap()).collect();
    assert_eq!(names, ["select-image", "security-profile", "pre-create"]);
    let behind = Events::follow(&sandbox, "/v1/decisions/stream", Some(&hooks[0].id));
    assert_eq!(behind.next(), hooks[1]);
    serving.end();
}

#[test]
fn logs_are_followed_and_go_on_behind_the_last_line() {
    let sandbox = Sandbox::new();
    let serving = Serving::start(&sandbox, &[]);
    // The engine reads both streams concurrently, so only output separated in time has an order.
    let line = "i=0; while ! test -e /workspace/go; do sleep 0.1; done; echo one; sleep 0.5; echo two >&2; \
                while ! test -e /workspace/end; do sleep 0.1; done; echo last";
    sandbox.json(&["up", "--", "sh", "-c", line]);
    let logs = Events::follow(&sandbox, "/v1/workspaces/project/logs?follow=true&tail=10&timestamps=true", None);
    sandbox.write("project/go", "");
    let mut lines: Vec<_> = (0..2).map(|_| logs.next()).collect();
    lines.sort_by_key(|line| line.data["stream"].to_string());
    let said: Vec<_> = lines.iter().map(|line| (&line.data["stream"], &line.data["message"])).collect();
    assert_eq!(said[0], (&json!("stderr"), &json!("two")));
    assert_eq!(said[1], (&json!("stdout"), &json!("one")));
    let one = lines[1].clone();
    let all = send(&socket(&sandbox), "GET", "/v1/workspaces/project/logs", "host: localhost\r\n", "");
    assert!(all.head.contains("content-type: application/x-ndjson"), "{}", all.head);
    logs.hang_up();
    // A reader that knows the first line only gets the later ones, whatever the rest of the query says.
    let again = Events::follow(&sandbox, "/v1/workspaces/project/logs?follow=true&tail=0", Some(&one.id));
    let mut rest = vec![again.next()];
    sandbox.write("project/end", "");
    rest.extend(again.rest());
    assert_eq!(rest.pop().unwrap().name, "end");
    assert_eq!(rest.last().unwrap().data["message"], "last");
    assert!(rest.iter().all(|line| line.data["message"] != "one"), "{rest:?}");
    // Without following: the lines as the command prints them.
    let printed = sandbox.run(&["--json", "logs"]).ok().text();
    let plain = send(&socket(&sandbox), "GET", "/v1/workspaces/project/logs", "host: localhost\r\n", "");
    let lines: String = chunks(&plain.body);
    assert_eq!(lines, printed);
    let grep = send(
        &socket(&sandbox),
        "GET",
        "/v1/workspaces/project/logs?grep=LAS&ignore_case=true",
        "host: localhost\r\n",
        "",
    );
    assert_eq!(chunks(&grep.body).lines().count(), 1);
    for query in ["stream=both", "tail=-1", "after=x", "grep=a(b", "since=soon", "after=ab:1:o1&tail=1"] {
        assert_eq!(
            get(&sandbox, &format!("/v1/workspaces/project/logs?{query}")).problem(400),
            "bad-request",
            "{query}"
        );
    }
    serving.end();
}

/// Joins the chunks of a body.
fn chunks(body: &[u8]) -> String {
    let mut reader = BufReader::new(body);
    let mut all = Vec::new();
    while let Some(bytes) = chunk(&mut reader) {
        all.extend(bytes);
    }
    String::from_utf8(all).unwrap()
}

#[test]
fn a_reader_that_does_not_read_costs_no_memory_and_keeps_nobody_else_waiting() {
    let sandbox = Sandbox::new();
    let mut serving = Serving::start(&sandbox, &[]);
    sandbox.json(&["up", "--", "sh", "-c", "while :; do head -c 100000 /dev/zero | tr '\\0' x; echo; done"]);
    let memory = serving.memory();
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut connection = UnixStream::connect(socket(&sandbox)).unwrap();
        let head = "GET /v1/workspaces/project/logs?follow=true HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\r\n";
        connection.write_all(head.as_bytes()).unwrap();
        let mut begin = [0; 1 << 16];
        connection.read_exact(&mut begin).unwrap();
        held.push(connection);
    }
    // Long enough to write much more than may be buffered.
    let container = crate::support::engine_api::containers();
    assert!(!container.is_empty());
    let logs = || sandbox.run(&["exec", "--", "sh", "-c", "cat /proc/1/io | grep wchar | cut -d' ' -f2"]).ok().text();
    until("much is written", || logs().trim().parse::<u64>().is_ok_and(|bytes| bytes > 0));
    for _ in 0..20 {
        get(&sandbox, "/v1/health").ok();
        std::thread::sleep(Duration::from_millis(100));
    }
    let grown = serving.memory().saturating_sub(memory);
    assert!(grown < 64 << 20, "{} MiB for readers that do not read", grown >> 20);
    drop(held);
    post(&sandbox, "/v1/workspaces/project/kill", "").ok();
    serving.end();
}

#[test]
fn what_workspaces_use_is_read_once_for_all_who_follow_it() {
    let sandbox = Sandbox::new();
    sandbox.config("[metrics]\ninterval = \"60s\"");
    let serving = Serving::start(&sandbox, &[]);
    sandbox.up();
    sandbox.run_in(&sandbox.folder("other"), &["up"]).ok();
    let all = Events::follow(&sandbox, "/v1/stats", None);
    let one = Events::follow(&sandbox, "/v1/workspaces/project/stats", None);
    // Earlier than the next entry of the history.
    let both =
        all.until(|event| event.data.as_array().is_some_and(|all| all.len() == 2 && all[0]["memory_used"].is_u64()));
    assert!(both.data[0]["cpu_percent"].is_f64() || all.next().data[0]["cpu_percent"].is_f64());
    let mine = one.until(|event| event.data[0]["memory_used"].is_u64());
    assert_eq!((mine.data.as_array().unwrap().len(), &mine.data[0]["id"]), (1, &json!(sandbox.id())));
    let reading = get(&sandbox, "/v1/stats").ok();
    assert_eq!(reading.as_array().unwrap().len(), 2);
    assert_eq!(get(&sandbox, "/v1/workspaces/project/stats").ok()[0]["id"], json!(sandbox.id()));
    post(&sandbox, "/v1/workspaces/project/kill", "").ok();
    one.until(|event| event.data[0]["state"] == "exited");
    assert_eq!(get(&sandbox, "/v1/workspaces/project/stats").problem(409), "not-running");
    serving.end();
}

#[test]
fn what_workspaces_use_is_read_once_a_second_however_many_ask_and_a_new_one_is_there_at_once() {
    let sandbox = Sandbox::new();
    // Between two entries of the history, readings are only made on request.
    sandbox.config("[metrics]\ninterval = \"1h\"");
    let serving = Serving::start(&sandbox, &[]);
    sandbox.up();
    let ask = || get(&sandbox, "/v1/stats").ok();
    assert!(ask()[0]["cpu_percent"].is_f64(), "one that was started since the last reading is read for the call");
    let of = |all: &serde_json::Value, id: &str| {
        let view = all.as_array().unwrap().iter().find(|view| view["id"] == id).cloned().unwrap();
        assert!(view["cpu_percent"].is_f64(), "{view}");
        view["read_at"].as_str().unwrap().to_owned()
    };
    let id = sandbox.id();
    // On a busy machine a second may pass between two calls, but not every time.
    let shared = (0..20).any(|_| of(&ask(), &id) == of(&ask(), &id));
    assert!(shared, "each call reads anew");
    let before = of(&ask(), &id);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert!(of(&ask(), &id) > before, "an old reading is given");
    let other = sandbox.folder("other");
    sandbox.run_in(&other, &["up"]).ok();
    let both = ask();
    assert_eq!(both.as_array().unwrap().len(), 2);
    assert!(both.as_array().unwrap().iter().all(|view| view["cpu_percent"].is_f64()), "{both}");
    serving.end();
}
