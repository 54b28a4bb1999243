//! Engine behaviour that a real engine does not show on demand, simulated by a scripted fake on a Unix socket.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::*;

mod events;
mod info;

/// The fake's reaction to a request.
enum Answer {
    /// Status and body.
    Json(u16, String),
    /// These bytes.
    Raw(Vec<u8>),
    /// Sends these bytes and then stays silent forever.
    Hold(Vec<u8>),
    /// Closes the connection.
    Close,
    /// Never answers.
    Silence,
}

struct Fake {
    path: PathBuf,
    /// `<connection number> <method> <path>` of each request.
    seen: Arc<Mutex<Vec<String>>>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Fake {
    /// Starts a fake. The script receives `<method> <path>` and the number of requests before.
    fn start(script: impl Fn(&str, usize) -> Answer + Send + Sync + 'static) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("wharf-fake-{}-{number}.sock", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (script, log) = (Arc::new(script), seen.clone());
        tokio::spawn(async move {
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, number, script.clone(), log.clone()));
            }
        });
        Self { path, seen }
    }

    /// Starts a fake of a current engine. Its script sees every request except the first ping.
    fn engine(script: impl Fn(&str, usize) -> Answer + Send + Sync + 'static) -> Self {
        Self::start(move |request, count| if request == "GET /_ping" { pong("1.41") } else { script(request, count) })
    }

    async fn connect(&self) -> Result<Docker> {
        Docker::connect(Some(&format!("unix://{}", self.path.display())), "test").await
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

type Script = dyn Fn(&str, usize) -> Answer + Send + Sync;

async fn serve(mut stream: UnixStream, number: usize, script: Arc<Script>, seen: Arc<Mutex<Vec<String>>>) {
    while let Some(request) = read_request(&mut stream).await {
        let count = {
            let mut seen = seen.lock().unwrap();
            seen.push(format!("{number} {request}"));
            seen.len() - 1
        };
        match script(&request, count) {
            Answer::Json(status, body) => {
                let head = format!(
                    "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
            }
            Answer::Raw(bytes) => stream.write_all(&bytes).await.unwrap(),
            Answer::Hold(bytes) => {
                stream.write_all(&bytes).await.unwrap();
                std::future::pending().await
            }
            Answer::Close => return,
            Answer::Silence => std::future::pending().await,
        }
    }
}

/// Reads one request with its body and returns `<method> <path>`.
async fn read_request(stream: &mut UnixStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    stream.read_exact(&mut vec![0; length.unwrap_or(0)]).await.ok()?;
    Some(head.split(' ').take(2).collect::<Vec<_>>().join(" "))
}

fn pong(version: &str) -> Answer {
    let head = format!("HTTP/1.1 200 OK\r\nApi-Version: {version}\r\nServer: Docker/20.10.24+dfsg1 (linux)\r\n");
    Answer::Raw(format!("{head}Content-Length: 2\r\n\r\nOK").into_bytes())
}

fn empty_list() -> Answer {
    Answer::Json(200, "[]".to_owned())
}

#[tokio::test]
async fn every_call_names_the_version_that_was_agreed_on_and_reuses_the_connection() {
    let fake = Fake::engine(|_, _| empty_list());
    let docker = fake.connect().await.unwrap();
    docker.list(&[("a", "b")], true).await.unwrap();
    docker.local_images().await.unwrap();
    assert_eq!(docker.engine_version(), "20.10.24+dfsg1");
    let seen = fake.seen();
    assert_eq!(seen[0], "0 GET /_ping");
    assert!(seen[1].starts_with("0 GET /v1.41/containers/json?all=true&filters="), "{}", seen[1]);
    assert_eq!(seen[2], "0 GET /v1.41/images/json");
}

#[tokio::test]
async fn a_newer_engine_is_asked_in_the_newest_version_that_wharf_knows() {
    let fake = Fake::start(|_, count| if count == 0 { pong("1.99") } else { empty_list() });
    assert_eq!(fake.connect().await.unwrap().api_version(), "1.51");
}

#[tokio::test]
async fn an_engine_that_is_too_old_is_refused_with_what_is_needed() {
    let error = Fake::start(|_, _| pong("1.40")).connect().await.unwrap_err();
    assert_eq!(error.code(), "engine-too-old");
    assert!(error.to_string().contains("1.40") && error.to_string().contains("1.41"), "{error}");
}

#[tokio::test]
async fn what_is_no_engine_is_not_taken_for_one() {
    for answer in ["HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "SSH-2.0-OpenSSH_9.2\r\n"] {
        let error = Fake::start(move |_, _| Answer::Raw(answer.into())).connect().await.unwrap_err();
        assert_eq!(error.code(), "engine-unreachable");
        assert!(error.to_string().contains("not a Docker engine"), "{error}");
    }
}

#[tokio::test]
async fn an_engine_that_does_not_answer_is_given_up_after_five_seconds() {
    let fake = Fake::start(|_, _| Answer::Silence);
    tokio::time::timeout(Duration::from_secs(8), async {
        let error = fake.connect().await.unwrap_err();
        assert!(error.to_string().contains("no answer within 5 s"), "{error}");
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_missing_and_a_dead_socket_are_told_apart_and_say_what_to_do() {
    let missing = Docker::connect(Some("unix:///no/such.sock"), "test").await.unwrap_err();
    assert!(missing.to_string().contains("does not exist"), "{missing}");
    assert!(missing.remedy().contains("systemctl start docker"));
    let path = std::env::temp_dir().join(format!("wharf-dead-{}.sock", std::process::id()));
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let dead = Docker::connect(Some(&path.display().to_string()), "test").await.unwrap_err();
    std::fs::remove_file(&path).unwrap();
    assert!(dead.to_string().contains("nothing listens"), "{dead}");
    let tcp = Docker::connect(Some("tcp://127.0.0.1:1"), "test").await.unwrap_err();
    assert!(tcp.to_string().contains("connection refused"), "{tcp}");
}

#[tokio::test]
async fn a_connection_that_the_engine_closed_meanwhile_is_replaced_without_an_error() {
    let fake = Fake::engine(|_, count| if count == 1 { Answer::Close } else { empty_list() });
    let docker = fake.connect().await.unwrap();
    docker.local_images().await.unwrap();
    assert_eq!(fake.seen().len(), 3);
}

#[tokio::test]
async fn a_change_that_may_have_reached_the_engine_is_not_sent_twice() {
    let fake = Fake::engine(|_, _| Answer::Close);
    let docker = fake.connect().await.unwrap();
    assert_eq!(docker.kill("c", "HUP").await.unwrap_err().code(), "engine-connection-lost");
    assert_eq!(fake.seen().len(), 2);
}

#[tokio::test]
async fn an_unreadable_answer_is_a_protocol_error_that_names_the_operation() {
    let fake = Fake::engine(|_, _| Answer::Json(200, "{\"no\": \"list\"}".to_owned()));
    let error = fake.connect().await.unwrap().local_images().await.unwrap_err();
    assert_eq!(error.code(), "engine-protocol");
    assert!(error.to_string().contains("list the images"), "{error}");
}

#[tokio::test]
async fn containers_that_only_nearly_match_are_not_listed() {
    let one = |id: &str, value: &str| {
        format!(
            r#"{{"Id":"{id}","Names":["/{id}"],"Image":"i","ImageID":"s","Created":1,"Labels":{{"k":"{value}"}},"State":"running","Status":"Up"}}"#
        )
    };
    let body = format!("[{},{}]", one("a", "ws-1"), one("b", "ws-10"));
    let fake = Fake::engine(move |_, _| Answer::Json(200, body.clone()));
    let list = fake.connect().await.unwrap().list(&[("k", "ws-1")], true).await.unwrap();
    assert_eq!(list.iter().map(|container| container.id.as_str()).collect::<Vec<_>>(), ["a"]);
}

/// Starts a fake whose exec stream sends `text` and then stays open, with this inspection.
fn exec_engine(text: &'static [u8], look: &'static str) -> Fake {
    Fake::engine(move |request, _| match request {
        "POST /v1.41/containers/c/exec" => Answer::Json(201, r#"{"Id":"e1"}"#.to_owned()),
        "POST /v1.41/exec/e1/start" => {
            let head = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
            Answer::Hold([head.as_slice(), text].concat())
        }
        _ => Answer::Json(200, look.to_owned()),
    })
}

#[tokio::test]
async fn a_stream_that_the_engine_forgets_to_close_ends_soon_after_the_process() {
    let fake = exec_engine(b"\x01\0\0\0\0\0\0\x02hi", r#"{"Running":false,"ExitCode":7,"Pid":12}"#);
    let started = Instant::now();
    let request = ExecRequest { command: vec!["x".to_owned()], ..Default::default() };
    let all = fake.connect().await.unwrap().exec_collect("c", &request, 100).await.unwrap();
    assert_eq!((all.code, all.stdout.as_slice()), (7, b"hi".as_slice()));
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_silent_process_that_runs_is_not_given_up() {
    let fake = exec_engine(b"", r#"{"Running":true,"ExitCode":null,"Pid":12}"#);
    let docker = fake.connect().await.unwrap();
    let request = ExecRequest { command: vec!["x".to_owned()], ..Default::default() };
    let (mut output, _, control) = docker.exec("c", &request).await.unwrap().into_parts();
    let wait = Duration::from_millis(1500);
    assert!(tokio::time::timeout(wait, output.next()).await.is_err());
    assert!(tokio::time::timeout(wait, control.exit()).await.is_err());
}

#[tokio::test]
async fn an_exec_start_that_is_not_a_switch_is_an_error() {
    let fake = Fake::engine(|request, _| match request {
        "POST /v1.41/containers/c/exec" => Answer::Json(201, r#"{"Id":"e1"}"#.to_owned()),
        _ => Answer::Json(
            400,
            r#"{"message":"OCI runtime exec failed: exec: \"x\": executable file not found in $PATH: unknown"}"#
                .to_owned(),
        ),
    });
    let request = ExecRequest { command: vec!["x".to_owned()], ..Default::default() };
    let error = fake.connect().await.unwrap().exec("c", &request).await.unwrap_err();
    assert_eq!((error.code(), error.exit_code()), ("command-not-found", Some(127)));
}

#[tokio::test]
async fn a_pull_that_breaks_off_or_fails_inside_its_progress_is_an_error() {
    let stream = |text: &str| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
        Answer::Raw(format!("{head}{:x}\r\n{text}\r\n0\r\n\r\n", text.len()).into_bytes())
    };
    let fake = Fake::engine(move |request, _| {
        assert_eq!(request, "POST /v1.41/images/create?fromImage=debian&tag=latest");
        stream(
            "{\"status\":\"Pulling\"}\r\n{\"error\":\"manifest unknown\",\"errorDetail\":{\"message\":\"manifest unknown\"}}\r\n",
        )
    });
    let mut steps = 0;
    let error = fake.connect().await.unwrap().pull("debian", |_| steps += 1).await.unwrap_err();
    assert_eq!((error.code(), steps), ("pull-failed", 1));
    assert!(error.to_string().contains("manifest unknown"), "{error}");
}

#[tokio::test]
async fn a_future_that_is_dropped_does_not_spoil_the_next_call() {
    let fake = Fake::engine(|request, _| if request.contains("wait") { Answer::Silence } else { empty_list() });
    let docker = fake.connect().await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(50), docker.wait("c")).await.is_err());
    docker.local_images().await.unwrap();
}

#[tokio::test]
async fn who_goes_on_already_is_told_apart_from_who_cannot_also_when_the_engine_lags_behind_its_runtime() {
    let answers = [
        "Container c is not paused",
        "Cannot unpause container c: cannot resume a running process: unknown",
        "Cannot unpause container c: ttrpc: closed: unknown",
    ];
    let fake = Fake::engine(move |_, count| {
        Answer::Json(500, serde_json::json!({ "message": answers[count - 1] }).to_string())
    });
    let docker = fake.connect().await.unwrap();
    for code in ["conflict", "conflict", "engine-failed"] {
        assert_eq!(docker.unpause("c").await.unwrap_err().code(), code);
    }
}
