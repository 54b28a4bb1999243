//! `cargo bench -p wharf --bench engine [-- ROUNDS]`: the library on a real engine, compared with the raw API, and its
//! own time.
//!
//! The library talks to the engine through a relay that knows when the engine works on its requests. The time of a verb
//! beyond that is Wharf's own time, including the relay's. The raw API is called without any of Wharf's code, with the
//! bodies that Wharf sends. Both alternate, so that a drift of the machine affects both. The results are medians.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use wharf::app::App;
use wharf::config::{Sources, load};
use wharf::hooks::ExecSpec;
use wharf::lifecycle::{Lifecycle, Recreate};
use wharf::wire::WorkspaceRequest;

/// The module of the tests.
#[allow(dead_code)]
#[path = "../tests/engine/support/http.rs"]
mod http;

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const IMAGE: &str = "wharf-base:local";

/// The engine's socket: that of `DOCKER_HOST`, of the Docker context, or the usual one.
static SOCKET: LazyLock<PathBuf> = LazyLock::new(|| {
    wharf::docker::socket(None).expect("this bench needs an engine on a Unix socket; DOCKER_HOST names another one")
});

/// The time that the engine has worked, and the last body of a create.
#[derive(Default)]
struct Meter {
    busy: Duration,
    pending: usize,
    since: Option<Instant>,
    create: Option<Vec<u8>>,
}

type Shared = Arc<Mutex<Meter>>;

fn begin(meter: &Shared) {
    let mut meter = meter.lock().unwrap();
    meter.pending += 1;
    meter.since.get_or_insert_with(Instant::now);
}

fn end(meter: &Shared) {
    let mut meter = meter.lock().unwrap();
    meter.pending -= 1;
    if meter.pending == 0 {
        let since = meter.since.take().unwrap();
        meter.busy += since.elapsed();
    }
}

fn relay(socket: &Path) -> Shared {
    let listener = UnixListener::bind(socket).unwrap();
    let meter = Shared::default();
    let shared = meter.clone();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let engine = UnixStream::connect(&*SOCKET).unwrap();
            let (mut from, mut to) = (client.try_clone().unwrap(), engine.try_clone().unwrap());
            let meter = shared.clone();
            // Whether the engine has an unanswered request of this connection.
            let open = Arc::new(Mutex::new(false));
            let answered = open.clone();
            std::thread::spawn(move || {
                let mut bytes = [0; 65536];
                while let Ok(count @ 1..) = from.read(&mut bytes) {
                    let chunk = &bytes[..count];
                    let is = |word: &[u8]| chunk.starts_with(word);
                    if is(b"GET ") || is(b"POST ") || is(b"DELETE ") {
                        *open.lock().unwrap() = true;
                        begin(&meter);
                    }
                    if let Some(at) = chunk.windows(4).position(|four| four == b"\r\n\r\n")
                        && chunk.windows(18).any(|words| words == b"/containers/create")
                    {
                        meter.lock().unwrap().create = Some(chunk[at + 4..].to_vec());
                    }
                    to.write_all(chunk).unwrap();
                }
                let _ = to.shutdown(Shutdown::Write);
            });
            let (mut from, mut to, meter) = (engine, client, shared.clone());
            std::thread::spawn(move || {
                let mut bytes = [0; 65536];
                let mut upgraded = false;
                while let Ok(count @ 1..) = from.read(&mut bytes) {
                    upgraded |= bytes.starts_with(b"HTTP/1.1 101");
                    // A command counts as the engine's work until its output ends.
                    if !upgraded && std::mem::take(&mut *answered.lock().unwrap()) {
                        end(&meter);
                    }
                    if to.write_all(&bytes[..count]).is_err() {
                        break;
                    }
                }
                if std::mem::take(&mut *answered.lock().unwrap()) {
                    end(&meter);
                }
                let _ = to.shutdown(Shutdown::Both);
            });
        }
    });
    meter
}

/// Sends one request of the raw API, on a new connection.
fn raw(method: &str, path: &str, body: &[u8]) -> serde_json::Value {
    let request = http::request_without_chunks(method, &format!("/v1.41{path}"), body);
    let answer = http::exchange(UnixStream::connect(&*SOCKET).unwrap(), &request);
    // A connection that is taken over answers with 101.
    assert!(answer.status == 101 || answer.status / 100 == 2, "{method} {path}: {} {}", answer.status, answer.text());
    serde_json::from_slice(&answer.body).unwrap_or_default()
}

/// The time of a verb with the library, Wharf's own part of it, and the time with the raw API.
struct Row {
    what: &'static str,
    library: Vec<Duration>,
    own: Vec<Duration>,
    raw: Vec<Duration>,
}

impl Row {
    fn new(what: &'static str) -> Self {
        Self { what, library: vec![], own: vec![], raw: vec![] }
    }

    async fn library<T, E: std::fmt::Debug>(&mut self, meter: &Shared, verb: impl Future<Output = Result<T, E>>) -> T {
        let before = meter.lock().unwrap().busy;
        let begin = Instant::now();
        let done = verb.await.unwrap();
        let took = begin.elapsed();
        // The relay may see the end a moment late.
        while meter.lock().unwrap().pending > 0 {
            std::thread::yield_now();
        }
        let busy = meter.lock().unwrap().busy - before;
        self.library.push(took);
        self.own.push(took.saturating_sub(busy));
        done
    }

    fn raw<T>(&mut self, run: impl FnOnce() -> T) -> T {
        let begin = Instant::now();
        let done = run();
        self.raw.push(begin.elapsed());
        done
    }
}

fn median(times: &[Duration]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted.get(sorted.len() / 2).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn main() {
    let rounds = std::env::args().filter_map(|arg| arg.parse().ok()).next().unwrap_or(21);
    let folder = Folder(std::env::temp_dir().join(format!("wharf-bench-{}", std::process::id())));
    let (project, neighbour) = (folder.0.join("one"), folder.0.join("two"));
    std::fs::create_dir_all(&project).unwrap();
    std::fs::create_dir_all(&neighbour).unwrap();
    let socket = folder.0.join("relay.sock");
    let meter = relay(&socket);
    let set = vec![
        format!("engine.endpoint=unix://{}", socket.display()),
        format!("workspace.image={IMAGE}"),
        "workspace.command=[\"sleep\", \"600\"]".to_owned(),
    ];
    let sources = Sources { file: None, search: vec![], env: Default::default(), set };
    let app = App::new(sources.clone(), load(&sources).unwrap(), folder.0.join("state"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let rows = runtime.block_on(async {
        let lifecycle = app.lifecycle().await.unwrap();
        let request = |project: &Path| WorkspaceRequest { project: project.to_path_buf(), ..Default::default() };
        // It keeps the network while the other workspace comes and goes.
        let kept = lifecycle.up(&request(&neighbour), Recreate::Never, &mut |_| {}).await.unwrap();
        let rows = measure(&lifecycle, &meter, &request(&project), rounds).await;
        lifecycle.remove(&kept.id, true, true).await.unwrap();
        rows
    });
    println!("| what | library | raw API | ratio | Wharf's own time |\n| --- | --- | --- | --- | --- |");
    for row in &rows {
        let (library, raw, own) = (median(&row.library), median(&row.raw), median(&row.own));
        println!("| {} | {library:.1} ms | {raw:.1} ms | {:.3} | {own:.2} ms |", row.what, library / raw);
    }
    println!("\nMedians of {rounds} rounds, alternating; own time includes the relay's.");
}

async fn measure(life: &Lifecycle, meter: &Shared, request: &WorkspaceRequest, rounds: usize) -> Vec<Row> {
    let mut up = Row::new("`up` / create, start");
    let mut exec = Row::new("`exec true` / create, start, look");
    let mut ls = Row::new("`ls` / list");
    let mut stop = Row::new("`stop` with no time / stop");
    let mut rm = Row::new("`rm` / remove");
    let now = Some(Duration::ZERO);
    for _ in 0..rounds {
        let made = up.library(meter, life.up(request, Recreate::Never, &mut |_| {})).await;
        let id = made.id;
        let command = ExecSpec { command: vec!["true".into()], ..ExecSpec::default() };
        let run = async {
            let (mut output, stdin, control) = life.exec(&id, command, false, None).await?.into_parts();
            drop(stdin);
            while let Some(item) = output.next().await {
                item?;
            }
            Ok::<_, wharf::lifecycle::Error>(control.exit().await?)
        };
        exec.library(meter, run).await;
        ls.library(meter, life.list()).await;
        stop.library(meter, life.stop(&id, now)).await;
        rm.library(meter, life.remove(&id, false, false)).await;

        let body = meter.lock().unwrap().create.clone().unwrap();
        let raw_id = up.raw(|| {
            let made = raw("POST", "/containers/create", &body);
            let id = made["Id"].as_str().unwrap().to_owned();
            raw("POST", &format!("/containers/{id}/start"), b"");
            id
        });
        exec.raw(|| {
            let body = br#"{"AttachStdout":true,"AttachStderr":true,"Cmd":["true"]}"#;
            let exec = raw("POST", &format!("/containers/{raw_id}/exec"), body);
            let exec = exec["Id"].as_str().unwrap().to_owned();
            raw("POST", &format!("/exec/{exec}/start"), br#"{"Detach":false,"Tty":false}"#);
            while raw("GET", &format!("/exec/{exec}/json"), b"")["Running"] == true {}
        });
        ls.raw(|| raw("GET", "/containers/json?all=true", b""));
        stop.raw(|| raw("POST", &format!("/containers/{raw_id}/stop?t=0"), b""));
        rm.raw(|| raw("DELETE", &format!("/containers/{raw_id}?v=true"), b""));
    }
    vec![up, exec, ls, stop, rm]
}
