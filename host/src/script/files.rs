//! Reads a file that influences decisions: an ordinary file, up to its maximum size.

use std::io::Read;
use std::path::Path;

/// Reads an ordinary file of at most `most` bytes. Checks its kind and size before reading, and never blocks on
/// opening: a pipe or a device is refused.
///
/// # Errors
/// The reason, as words that follow its path: "cannot be read: ...", "is a folder, not a file".
pub fn read_bounded(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("cannot be read: {error}");
    // Check the path first: opening some devices has side effects.
    is_file(&std::fs::metadata(path).map_err(failed)?)?;
    let file = crate::trust::open(path).map_err(|error| match error.remedy() {
        Some(remedy) => format!("cannot be used: {error}: {remedy}"),
        None => format!("cannot be read: {error}"),
    })?;
    let about = file.metadata().map_err(failed)?;
    is_file(&about)?;
    let too_large = |length: u64| format!("has {}, but may have at most {}", shown(length), shown(most));
    if about.len() > most {
        return Err(too_large(about.len()));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(about.len()).unwrap_or(0));
    // The file may grow meanwhile.
    file.take(most + 1).read_to_end(&mut bytes).map_err(failed)?;
    match u64::try_from(bytes.len()) {
        Ok(length) if length <= most => Ok(bytes),
        _ => Err(too_large(most + 1)),
    }
}

fn is_file(about: &std::fs::Metadata) -> Result<(), String> {
    use std::os::unix::fs::FileTypeExt;
    let kind = about.file_type();
    let what = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a folder",
        () if kind.is_fifo() => "a named pipe",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    Err(format!("is {what}, not a regular file"))
}

/// Formats bytes in the largest unit that gives at least 1.
fn shown(bytes: u64) -> String {
    match bytes {
        0..0x400 => format!("{bytes} bytes"),
        0x400..0x10_0000 => format!("{} KiB", bytes.div_ceil(1 << 10)),
        _ => format!("{} MiB", bytes.div_ceil(1 << 20)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ordinary_files_within_their_bound_are_read() {
        let dir = std::env::temp_dir().join(format!("wharf-bounded-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("file");
        std::fs::write(&file, "12345").unwrap();
        assert_eq!(read_bounded(&file, 5).unwrap(), b"12345");
        assert_eq!(read_bounded(&file, 4).unwrap_err(), "has 5 bytes, but may have at most 4 bytes");
        // A sparse file of 1 TiB: reading it would take long and need all memory.
        std::fs::File::create(&file).unwrap().set_len(1 << 40).unwrap();
        let began = std::time::Instant::now();
        assert_eq!(read_bounded(&file, 1 << 20).unwrap_err(), "has 1048576 MiB, but may have at most 1 MiB");
        assert_eq!(read_bounded(&dir, 5).unwrap_err(), "is a folder, not a regular file");
        assert_eq!(read_bounded(Path::new("/dev/zero"), 5).unwrap_err(), "is a device, not a regular file");
        let pipe = dir.join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
        assert_eq!(read_bounded(&pipe, 5).unwrap_err(), "is a named pipe, not a regular file");
        let _socket = std::os::unix::net::UnixListener::bind(dir.join("socket")).unwrap();
        assert_eq!(read_bounded(&dir.join("socket"), 5).unwrap_err(), "is a socket, not a regular file");
        assert!(read_bounded(&dir.join("none"), 5).unwrap_err().starts_with("cannot be read: No such file"));
        assert!(began.elapsed() < std::time::Duration::from_secs(2));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
