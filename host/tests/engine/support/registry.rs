//! A registry with one image, on a free port of 127.0.0.1, where engines require no TLS.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use serde_json::{Value, json};
use wharf::workspace::sha256_hex;

use super::engine_api::{self as engine, BASE};
use super::sandbox::LABEL_SANDBOX;

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

pub struct Registry {
    pub reference: String,
    shared: Arc<Shared>,
}

struct Shared {
    manifest: String,
    /// Digest -> bytes.
    blobs: Vec<(String, Vec<u8>)>,
    /// Only half of the layer is sent until this is set.
    open: (Mutex<bool>, Condvar),
    ended: AtomicBool,
    layers: AtomicUsize,
    /// The value of `Authorization` that clients must send.
    login: Mutex<Option<String>>,
    /// The number of further requests to answer with "service unavailable".
    failing: AtomicUsize,
}

impl Registry {
    /// Starts a registry with an image that is the base image plus one file.
    pub fn new() -> Self {
        Self::start(base_layer(), true)
    }

    /// Starts a registry with an image whose layer stalls in the middle of the download.
    pub fn stalling() -> Self {
        Self::start(vec![0; 1024], false)
    }

    fn start(rest: Vec<u8>, open: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        // A layer that no engine has yet.
        let mut layer = tar_entry("from-registry", format!("{}:{port}", std::process::id()).as_bytes());
        layer.extend(tar_entry("filler", &vec![b'x'; 100_000]));
        layer.extend(rest);
        let digest = |bytes: &[u8]| format!("sha256:{}", sha256_hex(bytes));
        let arch = engine::get("/version")["Arch"].clone();
        let config = json!({
            "architecture": arch, "os": "linux", "config": { "Env": ["PATH=/bin"], "Cmd": ["sh"] },
            "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] }, "history": [{ "created_by": "test" }],
        });
        let config = config.to_string().into_bytes();
        let part =
            |kind: &str, bytes: &[u8]| json!({ "mediaType": kind, "size": bytes.len(), "digest": digest(bytes) });
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": part("application/vnd.docker.container.image.v1+json", &config),
            // Engines detect from the bytes that it is not compressed.
            "layers": [part("application/vnd.docker.image.rootfs.diff.tar.gzip", &layer)],
        });
        let shared = Arc::new(Shared {
            manifest: manifest.to_string(),
            blobs: vec![(digest(&config), config), (digest(&layer), layer)],
            open: (Mutex::new(open), Condvar::new()),
            ended: AtomicBool::new(false),
            login: Mutex::new(None),
            failing: AtomicUsize::new(0),
            layers: AtomicUsize::new(0),
        });
        let for_thread = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if for_thread.ended.load(Ordering::Relaxed) {
                    return;
                }
                let shared = for_thread.clone();
                // Some tests want a client that disconnects midway.
                std::thread::spawn(move || drop(serve(stream, &shared)));
            }
        });
        Self { reference: format!("127.0.0.1:{port}/wharf-test/image:1"), shared }
    }

    /// Requires this value of `Authorization` from now on.
    pub fn protect(&self, authorization: &str) {
        *self.shared.login.lock().unwrap() = Some(authorization.to_owned());
    }

    /// Makes the next requests fail as with an overloaded registry.
    pub fn fail_next(&self, requests: usize) {
        self.shared.failing.store(requests, Ordering::Relaxed);
    }

    /// Returns how often the layer was requested.
    pub fn layer_requests(&self) -> usize {
        self.shared.layers.load(Ordering::Relaxed)
    }

    /// Releases a stalled layer.
    pub fn unstall(&self) {
        *self.shared.open.0.lock().unwrap() = true;
        self.shared.open.1.notify_all();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.unstall();
        // Wakes the listener, so that its thread ends.
        let address = self.reference.split('/').next().unwrap_or_default();
        let _ = TcpStream::connect(address);
        engine::delete(&format!("/images/{}?force=true", self.reference));
    }
}

fn serve(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let mut authorization = None;
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(": ")
            && name.eq_ignore_ascii_case("authorization")
        {
            authorization = Some(value.to_owned());
        }
    }
    let login = shared.login.lock().unwrap().clone();
    if login.is_some() && login != authorization {
        let challenge = "WWW-Authenticate: Basic realm=\"test\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        return stream.write_all(format!("HTTP/1.1 401 X\r\n{challenge}").as_bytes());
    }
    let failing = |left: usize| left.checked_sub(1);
    if shared.failing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, failing).is_ok() {
        return stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let manifest_digest = format!("sha256:{}", sha256_hex(shared.manifest.as_bytes()));
    let (status, kind, digest, body): (u16, &str, &str, &[u8]) = match path.split_once("/manifests/") {
        _ if path == "/v2/" => (200, "application/json", "", b"{}"),
        Some((_, what)) if what == "1" || what == manifest_digest => {
            (200, MANIFEST, &manifest_digest, shared.manifest.as_bytes())
        }
        Some(_) => (404, "application/json", "", br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no such"}]}"#),
        None => match shared.blobs.iter().find(|(digest, _)| path.ends_with(digest.as_str())) {
            Some((digest, bytes)) => (200, "application/octet-stream", digest, bytes),
            None => (404, "application/json", "", b"{}"),
        },
    };
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nDocker-Content-Digest: {digest}\r\n\
         Docker-Distribution-Api-Version: registry/2.0\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    if method == "HEAD" {
        return Ok(());
    }
    let layer = shared.blobs.get(1).is_some_and(|(layer, _)| layer == digest);
    let (now, later) = if layer { body.split_at(body.len() / 2) } else { (body, &[][..]) };
    stream.write_all(now)?;
    stream.flush()?;
    if layer {
        shared.layers.fetch_add(1, Ordering::Relaxed);
        let mut open = shared.open.0.lock().unwrap();
        while !*open {
            open = shared.open.1.wait(open).unwrap();
        }
    }
    stream.write_all(later)
}

/// Returns the files of the base image, as a tar archive.
fn base_layer() -> Vec<u8> {
    let body = json!({ "Image": BASE, "Cmd": ["sh"], "Labels": { LABEL_SANDBOX: "registry" } });
    let made = engine::post("/containers/create", &body).done().json();
    let path = format!("/containers/{}", made["Id"].as_str().unwrap());
    let exported = engine::call("GET", &format!("{path}/export"), b"").done().body;
    engine::delete(&path).done();
    exported
}

/// Returns a file entry of a tar archive (ustar).
fn tar_entry(name: &str, content: &[u8]) -> Vec<u8> {
    let mut head = vec![0u8; 512];
    let mut put = |at: usize, text: &str| head[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{:011o}\0", content.len()));
    put(136, "00000000000\0");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\0");
    put(263, "00");
    let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    head.extend(content);
    head.resize(head.len().next_multiple_of(512), 0);
    head
}

/// Returns whether the engine has an image.
pub fn has_image(reference: &str) -> bool {
    let answer: Value = engine::call("GET", &format!("/images/{reference}/json"), b"").json();
    answer["Id"].is_string()
}
