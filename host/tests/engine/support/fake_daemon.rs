//! Servers behind a Unix socket that are not an engine, or not one that Wharf can use.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;

/// Answers every request on a socket with these bytes, and closes the connection.
pub fn answer_with(socket: &Path, bytes: &'static [u8]) -> String {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // The first read contains the whole head of such a small request.
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).and_then(|_| stream.write_all(bytes));
        }
    });
    format!("unix://{}", socket.display())
}

/// Accepts connections and sends nothing.
pub fn silent(socket: &Path) -> String {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        let all: Vec<_> = listener.incoming().collect();
        drop(all);
    });
    format!("unix://{}", socket.display())
}

/// Relays all traffic to the engine until a request that `passes` rejects. That connection, and all later ones, are
/// closed.
pub fn relay(socket: &Path, passes: impl Fn(&str) -> bool + Clone + Send + 'static) -> String {
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        let cut = Arc::new(AtomicBool::new(false));
        for client in listener.incoming().flatten() {
            if cut.load(Ordering::Relaxed) {
                continue;
            }
            let engine = UnixStream::connect(super::engine_api::socket()).unwrap();
            let (mut from, mut to) = (client.try_clone().unwrap(), engine.try_clone().unwrap());
            let (cut, passes) = (cut.clone(), passes.clone());
            std::thread::spawn(move || {
                let mut bytes = [0; 65536];
                while let Ok(count @ 1..) = from.read(&mut bytes) {
                    if !passes(&String::from_utf8_lossy(&bytes[..count])) {
                        cut.store(true, Ordering::Relaxed);
                        let _ = from.shutdown(std::net::Shutdown::Both);
                        break;
                    }
                    if to.write_all(&bytes[..count]).is_err() {
                        break;
                    }
                }
                // Only this direction: a command without stdin closes it and still writes.
                let _ = to.shutdown(std::net::Shutdown::Write);
            });
            let (mut from, mut to) = (engine, client);
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    format!("unix://{}", socket.display())
}

/// Relays all traffic to the engine, and replaces a text in every answer by another of the same length.
pub fn lying(socket: &Path, truth: &'static str, lie: &'static str) -> String {
    use std::os::unix::net::UnixStream;
    assert_eq!(truth.len(), lie.len());
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let engine = UnixStream::connect(super::engine_api::socket()).unwrap();
            let (mut from, mut to) = (client.try_clone().unwrap(), engine.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Both);
            });
            let (mut from, mut to) = (engine, client);
            std::thread::spawn(move || {
                let mut bytes = vec![0; 1 << 20];
                // A part of an answer that does not split the text.
                while let Ok(mut count @ 1..) = from.read(&mut bytes) {
                    let tail = |count: usize, bytes: &[u8]| {
                        (1..truth.len()).any(|part| bytes[..count].ends_with(&truth.as_bytes()[..part]))
                    };
                    while tail(count, &bytes) && count < bytes.len() {
                        match from.read(&mut bytes[count..]) {
                            Ok(more @ 1..) => count += more,
                            _ => break,
                        }
                    }
                    while let Some(at) = bytes[..count].windows(truth.len()).position(|part| part == truth.as_bytes()) {
                        bytes[at..at + lie.len()].copy_from_slice(lie.as_bytes());
                    }
                    if to.write_all(&bytes[..count]).is_err() {
                        break;
                    }
                }
                let _ = to.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    format!("unix://{}", socket.display())
}

/// Relays all traffic to the engine, except while it is unreachable: then all connections are cut.
pub struct Outage {
    pub endpoint: String,
    line: std::sync::Arc<Line>,
}

#[derive(Default)]
struct Line {
    away: std::sync::atomic::AtomicBool,
    open: std::sync::Mutex<Vec<std::os::unix::net::UnixStream>>,
    requests: std::sync::Mutex<Vec<String>>,
}

impl Outage {
    pub fn new(socket: &Path) -> Self {
        use std::os::unix::net::UnixStream;
        use std::sync::atomic::Ordering;
        let listener = UnixListener::bind(socket).unwrap();
        let line = std::sync::Arc::new(Line::default());
        let shared = line.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if shared.away.load(Ordering::Relaxed) {
                    continue;
                }
                let engine = UnixStream::connect(super::engine_api::socket()).unwrap();
                shared.open.lock().unwrap().extend([client.try_clone().unwrap(), engine.try_clone().unwrap()]);
                let (mut from, mut to) = (client.try_clone().unwrap(), engine.try_clone().unwrap());
                let line = shared.clone();
                std::thread::spawn(move || {
                    let mut bytes = [0; 65536];
                    while let Ok(count @ 1..) = from.read(&mut bytes) {
                        let first = String::from_utf8_lossy(&bytes[..count]).lines().next().unwrap_or("").to_owned();
                        line.requests.lock().unwrap().push(first);
                        if to.write_all(&bytes[..count]).is_err() {
                            break;
                        }
                    }
                    let _ = to.shutdown(std::net::Shutdown::Both);
                });
                let (mut from, mut to) = (engine, client);
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Both);
                });
            }
        });
        Self { endpoint: format!("unix://{}", socket.display()), line }
    }

    pub fn set_away(&self, away: bool) {
        self.line.away.store(away, std::sync::atomic::Ordering::Relaxed);
        if away {
            for stream in self.line.open.lock().unwrap().drain(..) {
                let _ = stream.shutdown(std::net::Shutdown::Both);
            }
        }
    }

    /// Counts the requests whose first line contains this text.
    pub fn count(&self, part: &str) -> usize {
        self.line.requests.lock().unwrap().iter().filter(|line| line.contains(part)).count()
    }
}
