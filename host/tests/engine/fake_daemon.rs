//! Things behind a Unix socket that are no engine, or none that Wharf can use.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;

/// Answers every request on a socket with these bytes, and closes.
pub fn answer_with(socket: &Path, bytes: &'static [u8]) -> String {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // The first read holds the whole head of so small a request.
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).and_then(|_| stream.write_all(bytes));
        }
    });
    format!("unix://{}", socket.display())
}

/// Takes connections and says nothing.
pub fn silent(socket: &Path) -> String {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        let all: Vec<_> = listener.incoming().collect();
        drop(all);
    });
    format!("unix://{}", socket.display())
}
