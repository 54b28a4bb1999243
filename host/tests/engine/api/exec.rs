//! Commands over the API: over a WebSocket, and with their output in the answer.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::service::serve::Serving;
use crate::support::https::{Https, token};
use crate::support::sandbox::{Sandbox, until};
use crate::support::service_api::{get, post, send, socket};

/// Longer than any expected wait.
const PATIENCE: Duration = Duration::from_secs(60);

/// A conversation with a command.
struct Talk {
    runtime: Runtime,
    socket: WebSocketStream<Box<dyn Stream>>,
}

/// Bytes in both directions.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

const ADDRESS: &str = "ws://localhost/v1/workspaces/project/exec";

/// All data received until the end.
#[derive(Debug, Default)]
struct Told {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    last: Value,
}

impl Talk {
    #[track_caller]
    fn begin(sandbox: &Sandbox, first: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let path = socket(sandbox);
        let socket = runtime.block_on(async {
            let stream: Box<dyn Stream> = Box::new(UnixStream::connect(path).await.unwrap());
            tokio_tungstenite::client_async(ADDRESS, stream).await.unwrap().0
        });
        let mut talk = Self { runtime, socket };
        talk.send(Message::text(first));
        talk
    }

    /// Connects over the network with a token. Returns the status of a refusal.
    fn with(https: &Https, token: &str, first: &str) -> Result<Self, u16> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut request = ADDRESS.into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        let socket = runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(&https.address).await.unwrap();
            let connector = tokio_rustls::TlsConnector::from(https.config.clone());
            let stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
            let stream: Box<dyn Stream> = Box::new(stream);
            tokio_tungstenite::client_async(request, stream).await
        });
        match socket {
            Ok((socket, _)) => {
                let mut talk = Self { runtime, socket };
                talk.send(Message::text(first));
                Ok(talk)
            }
            Err(Error::Http(answer)) => Err(answer.status().as_u16()),
            Err(other) => panic!("{other}"),
        }
    }

    #[track_caller]
    fn send(&mut self, message: Message) {
        self.runtime.block_on(self.socket.send(message)).unwrap();
    }

    #[track_caller]
    fn say(&mut self, text: Value) {
        self.send(Message::text(text.to_string()));
    }

    fn input(&mut self, bytes: &[u8]) {
        let mut framed = vec![0];
        framed.extend_from_slice(bytes);
        self.send(Message::binary(framed));
    }

    /// Receives data until stdout contains a text.
    #[track_caller]
    fn until(&mut self, text: &str) -> String {
        let mut all = Vec::new();
        while !String::from_utf8_lossy(&all).contains(text) {
            match self.next() {
                Some(Message::Binary(bytes)) => all.extend_from_slice(&bytes[1..]),
                Some(Message::Ping(_) | Message::Pong(_)) => {}
                other => panic!("{other:?} before {text:?}: {}", String::from_utf8_lossy(&all)),
            }
        }
        String::from_utf8_lossy(&all).into_owned()
    }

    #[track_caller]
    fn next(&mut self) -> Option<Message> {
        let next = async { tokio::time::timeout(PATIENCE, self.socket.next()).await };
        match self.runtime.block_on(next).expect("something comes") {
            // The connection ends with the last message, over TLS without a closing message.
            Some(Err(Error::Io(_))) => None,
            other => other.map(|message| message.unwrap()),
        }
    }

    #[track_caller]
    fn end(mut self) -> Told {
        let mut told = Told::default();
        while let Some(message) = self.next() {
            match message {
                Message::Binary(bytes) if bytes[0] == 1 => told.stdout.extend_from_slice(&bytes[1..]),
                Message::Binary(bytes) if bytes[0] == 2 => told.stderr.extend_from_slice(&bytes[1..]),
                Message::Text(text) => told.last = serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Close(_) => {}
                other => panic!("{other:?}"),
            }
        }
        told
    }
}

fn command(line: &str) -> Value {
    json!({ "command": ["sh", "-c", line] })
}

/// Returns whether a command that contains this word runs in the workspace.
fn runs(sandbox: &Sandbox, word: &str) -> bool {
    // The brackets keep the search from finding itself.
    let pattern = format!("[{}]{}", &word[..1], &word[1..]);
    sandbox.run(&["exec", "--", "sh", "-c", &format!("cat /proc/[0-9]*/cmdline | grep -aq '{pattern}'")]).code == 0
}

#[test]
fn a_command_is_talked_to_with_its_streams_apart_and_its_code_at_the_end() {
    let sandbox = Sandbox::new();
    sandbox.append_config("[allow]\nexec_users = [\"*\"]\n");
    let serving = Serving::start(&sandbox, &[]);
    sandbox.up();
    let told = Talk::begin(&sandbox, &command("echo out; echo err >&2; exit 7").to_string()).end();
    assert_eq!((told.stdout, told.stderr, told.last), (b"out\n".into(), b"err\n".into(), json!({ "exit_code": 7 })));

    // Bytes pass through unchanged, and the end of the input ends the command's input.
    let bytes: Vec<u8> = (0..200_000_u32).map(|number| (number % 251) as u8).collect();
    let mut talk = Talk::begin(&sandbox, &json!({ "command": ["cat"], "stdin": true }).to_string());
    for part in bytes.chunks(64 << 10) {
        talk.input(part);
    }
    talk.say(json!({ "stdin-end": true }));
    let told = talk.end();
    assert!(told.stdout == bytes, "{} of {} bytes", told.stdout.len(), bytes.len());
    assert_eq!(told.last, json!({ "exit_code": 0 }));
    // A process that the command left behind may still write. The client does not wait for that.
    let told = Talk::begin(&sandbox, &command("sleep 300 & exit 4").to_string()).end();
    assert_eq!(told.last, json!({ "exit_code": 4, "cut": true }));
    // Environment, folder, user.
    let body = json!({ "command": ["sh", "-c", "echo $A $PWD $(id -u)"], "env": { "A": "b" }, "workdir": "/tmp", "user": "65534" });
    assert_eq!(Talk::begin(&sandbox, &body.to_string()).end().stdout, b"b /tmp 65534\n");
    serving.end();
}

#[test]
fn a_terminal_has_its_size_and_hears_of_another() {
    let sandbox = Sandbox::new();
    let serving = Serving::start(&sandbox, &[]);
    sandbox.up();
    let body = json!({ "command": ["sh"], "tty": true, "stdin": true, "rows": 33, "cols": 77 });
    let mut talk = Talk::begin(&sandbox, &body.to_string());
    // A terminal that does not exist yet has no size.
    talk.input(b"until stty size | grep -q '33 77'; do sleep 0.1; done; echo first $(stty size)\n");
    talk.until("first 33 77");
    talk.say(json!({ "resize": { "rows": 20, "cols": 40 } }));
    talk.input(b"until stty size | grep -q '20 40'; do sleep 0.1; done; echo second $(stty size)\n");
    talk.until("second 20 40");
    talk.input(b"exit 3\n");
    assert_eq!(talk.end().last, json!({ "exit_code": 3 }));
    serving.end();
}

#[test]
fn a_client_that_goes_away_and_a_limit_that_is_over_end_the_command() {
    let sandbox = Sandbox::new();
    let serving = Serving::start(&sandbox, &[]);
    sandbox.up();
    let mut talk = Talk::begin(&sandbox, &command("echo begun; sleep 4711").to_string());
    talk.until("begun");
    assert!(runs(&sandbox, "4711"));
    drop(talk);
    until("it has ended", || !runs(&sandbox, "4711"));

    let mut body = command("sleep 4712");
    body["timeout"] = json!("300ms");
    let told = Talk::begin(&sandbox, &body.to_string()).end();
    assert_eq!((&told.last["code"], &told.last["status"]), (&json!("timeout"), &json!(408)));
    until("it has ended", || !runs(&sandbox, "4712"));

    // A command that does not read its input blocks its own client, and nothing else.
    let mut talk = Talk::begin(&sandbox, &json!({ "command": ["sleep", "4713"], "stdin": true }).to_string());
    let (mut sent, mut part) = (0, vec![b'x'; 1 << 19]);
    part[0] = 0;
    while sent < 16 {
        let sending = talk.socket.send(Message::binary(part.clone()));
        let sending = async { tokio::time::timeout(Duration::from_secs(1), sending).await };
        match talk.runtime.block_on(sending) {
            Ok(taken) => taken.unwrap(),
            Err(_) => break,
        }
        sent += 1;
    }
    assert!(sent < 16, "8 MiB are taken for a command that reads nothing");
    get(&sandbox, "/v1/health").ok();
    drop(talk);
    until("it has ended", || !runs(&sandbox, "4713"));

    // The service ends commands that run for other clients.
    let mut talk = Talk::begin(&sandbox, &command("echo begun; sleep 4714").to_string());
    talk.until("begun");
    let ending = std::thread::spawn(move || serving.end());
    assert_eq!(talk.end().last["code"], "stopping");
    ending.join().unwrap();
    assert!(!runs(&sandbox, "4714"));
}

#[test]
fn what_cannot_be_run_is_a_problem_as_the_last_message() {
    let sandbox = Sandbox::new();
    sandbox
        .script("rule.rhai", "fn pre_exec(ctx) { if ctx.exec.command[0] == \"evil\" { ctx.deny(\"evil\", \"no\"); } }");
    let serving = Serving::start(&sandbox, &[]);
    sandbox.up();
    let code = |first: &str| Talk::begin(&sandbox, first).end().last["code"].as_str().unwrap_or_default().to_owned();
    assert_eq!(code("{"), "bad-request");
    assert_eq!(code("{\"command\": []}"), "bad-request");
    assert_eq!(code("{\"command\": [\"a\"], \"nose\": 1}"), "bad-request");
    assert_eq!(code("{\"command\": [\"evil\"]}"), "evil");
    assert_eq!(code("{\"command\": [\"/no/such/command\"]}"), "command-not-found");
    let mut talk = Talk::begin(&sandbox, &json!({ "command": ["cat"], "stdin": true }).to_string());
    talk.send(Message::binary(vec![9, 9]));
    assert_eq!(talk.end().last["code"], "bad-request");
    // A message above the size limit ends the command; nothing of it is stored.
    let mut talk = Talk::begin(&sandbox, &json!({ "command": ["sleep", "4717"], "stdin": true }).to_string());
    let large = Message::binary(vec![0; (1 << 20) + 1]);
    let _ = talk.runtime.block_on(talk.socket.send(large));
    drop(talk);
    until("no command is left", || !runs(&sandbox, "4717"));
    let plain = get(&sandbox, "/v1/workspaces/project/exec");
    assert_eq!(plain.problem(426), "only-websocket");
    let cross = "host: localhost\r\norigin: http://example.com\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                 sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let cross = send(&socket(&sandbox), "GET", "/v1/workspaces/project/exec", cross, "");
    assert_eq!(cross.problem(403), "cross-site");
    serving.terminate();
}

#[test]
fn a_command_is_run_to_its_end_and_answers_with_what_it_wrote() {
    let sandbox = Sandbox::new();
    sandbox.append_config("[allow]\nexec_users = [\"*\"]\n");
    let serving = Serving::start(&sandbox, &[]);
    sandbox.up();
    let run = |body: Value| post(&sandbox, "/v1/workspaces/project/exec", &body.to_string());
    let ended = run(command("echo out; echo err >&2; exit 5")).ok();
    assert_eq!(
        ended,
        json!({ "exit_code": 5, "stdout": "out\n", "stderr": "err\n", "truncated": false, "cut": false })
    );
    let binary = run(command("printf '\\377\\376'")).ok();
    assert_eq!((&binary["stdout_base64"], binary.get("stderr_base64")), (&json!("//4="), None));
    let much = run(command("head -c 1100000 /dev/zero | tr '\\0' x")).ok();
    assert_eq!((much["stdout"].as_str().unwrap().len(), &much["truncated"]), (1 << 20, &json!(true)));
    let fed = run(json!({ "command": ["tr", "a-z", "A-Z"], "input": "hello" })).ok();
    assert_eq!(fed["stdout"], "HELLO");
    let mut late = command("sleep 4715");
    late["timeout"] = json!("200ms");
    assert_eq!(run(late).problem(408), "timeout");
    // An ended command whose leftover process writes forever does not block the client either.
    let endless = "(while :; do echo x; sleep 0.05; done) &";
    let answer = run(json!({ "command": ["sh", "-c", endless], "timeout": "2s" })).ok();
    // Some engines close the output themselves a moment after the command ends, and then nothing is cut.
    assert_eq!(answer["exit_code"], json!(0), "it was in time");
    until("it has ended", || !runs(&sandbox, "4715"));
    let mut detached = command("sleep 4716");
    detached["detach"] = json!(true);
    assert!(run(detached).ok()["exec_id"].is_string());
    assert!(runs(&sandbox, "4716"));
    assert_eq!(run(json!({ "command": ["/no/such"] })).problem(422), "command-not-found");
    for wrong in [
        json!({ "command": [] }),
        json!({ "command": ["a"], "tty": true }),
        json!({}),
        json!({ "command": ["true"], "env": { "A=B": "c" } }),
        json!({ "command": ["true"], "workdir": "tmp" }),
    ] {
        assert_eq!(run(wrong).problem(400), "bad-request");
    }
    assert_eq!(run(json!({ "command": ["true"], "user": "nobody-here" })).problem(422), "start-failed");
    post(&sandbox, "/v1/workspaces/project/kill", "").ok();
    assert_eq!(run(command("true")).problem(409), "not-running");
    serving.end();
}

#[test]
fn over_the_network_a_token_must_be_allowed_to_and_a_command_ends_with_it() {
    let sandbox = Sandbox::new();
    let (https, serving) = Https::start(&sandbox, "");
    sandbox.json(&["up", "--label", "team=pay"]);
    let viewer = token(&sandbox, &["viewer", "--role", "viewer"]);
    let other = token(&sandbox, &["other", "--role", "operator", "--label", "team=ops"]);
    let own = token(&sandbox, &["own", "--role", "operator", "--label", "team=pay"]);
    let line = command("echo begun; sleep 4718").to_string();
    assert_eq!(Talk::with(&https, &viewer, &line).err(), Some(403));
    assert_eq!(Talk::with(&https, &other, &line).err(), Some(404));
    assert_eq!(Talk::with(&https, "wharf_nobody", &line).err(), Some(401));
    let mut talk = Talk::with(&https, &own, &line).ok().unwrap();
    talk.until("begun");
    assert!(runs(&sandbox, "4718"));
    sandbox.run(&["token", "rm", "own"]).ok();
    assert_eq!(talk.end().last["code"], "bad-token");
    until("it has ended", || !runs(&sandbox, "4718"));
    serving.terminate();
}

#[test]
fn no_command_stays_of_clients_that_go_away_at_any_moment() {
    use std::io::Write;
    let sandbox = Sandbox::new();
    let serving = Serving::start(&sandbox, &[]);
    sandbox.up();
    let body = r#"{"command": ["sleep", "4321"], "timeout": "900s"}"#;
    let length = body.len();
    for round in 0..40u64 {
        let mut client = std::os::unix::net::UnixStream::connect(socket(&sandbox)).unwrap();
        let head = "POST /v1/workspaces/project/exec HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json";
        write!(client, "{head}\r\ncontent-length: {length}\r\n\r\n{body}").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(round * 7));
    }
    // Commands that had not started when their clients left would have started by now.
    std::thread::sleep(std::time::Duration::from_secs(3));
    crate::support::sandbox::until("all of them have ended", || !sandbox.sh("ps").contains("sleep 4321"));
    serving.end();
}
