//! Opening files that somebody else may change meanwhile: a project's belong to what runs in its workspace.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// Opens an ordinary file for reading. A link is not followed, and a pipe that took the file's place holds nobody.
///
/// # Errors
/// When it cannot be read, or is something else.
pub fn open_plain(path: &Path) -> io::Result<(File, Metadata)> {
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).map_err(io::Error::other)?;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let meta = file.metadata()?;
    match meta.is_file() {
        true => Ok((file, meta)),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no ordinary file")),
    }
}

/// Reads an ordinary text file of at most so many bytes.
///
/// # Errors
/// As [`open_plain`]; when it has more bytes, or is no UTF-8.
pub fn read_plain(path: &Path, most: u64) -> io::Result<String> {
    let (file, _) = open_plain(path)?;
    let mut text = String::new();
    file.take(most + 1).read_to_string(&mut text)?;
    match text.len() as u64 > most {
        true => Err(io::Error::new(io::ErrorKind::InvalidData, format!("it has more than {} KiB", most >> 10))),
        false => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ordinary_files_are_read_and_no_pipe_is_waited_for() {
        let dir = std::env::temp_dir().join(format!("wharf-plain-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("file"), "12345").unwrap();
        std::os::unix::fs::symlink("file", dir.join("link")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, dir.join("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert_eq!(read_plain(&dir.join("file"), 5).unwrap(), "12345");
        for (name, words) in [("link", "symbolic links"), ("pipe", "no ordinary file"), (".", "no ordinary file")] {
            let error = read_plain(&dir.join(name), 5).unwrap_err().to_string();
            assert!(error.contains(words), "{name}: {error}");
        }
        assert!(read_plain(&dir.join("file"), 4).unwrap_err().to_string().contains("more than"));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
