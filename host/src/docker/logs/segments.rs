//! The files of a container's log: the current and the rotated files at one moment.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Bytes searched at once for the beginning of the tail.
const BLOCK: usize = 64 * 1024;
/// How often the files are reopened if they are renamed meanwhile.
const ATTEMPTS: usize = 5;

/// One log file.
pub(super) struct Part {
    pub(super) file: File,
    /// Device and inode: they survive a rename.
    pub(super) identity: (u64, u64),
    /// Size in bytes at opening; the engine writes whole lines.
    pub(super) size: u64,
}

fn open(path: &Path) -> io::Result<Part> {
    let file = File::open(path)?;
    let meta = file.metadata()?;
    Ok(Part { file, identity: (meta.dev(), meta.ino()), size: meta.len() })
}

/// Returns the name of the n-th rotated file, counted from the newest.
fn rotated(path: &Path, number: u32, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}{end}"));
    name.into()
}

/// Opens all files as of one moment, from the oldest to the current file.
pub(super) fn open_all(path: &Path, most: u32) -> io::Result<Vec<Part>> {
    for _ in 0..ATTEMPTS {
        let current = open(path)?;
        let identity = current.identity;
        let mut parts = Vec::new();
        for number in (1..most).rev() {
            match open(&rotated(path, number, "")) {
                Ok(part) => parts.push(part),
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Err(_) if rotated(path, number, ".gz").exists() => {
                    return Err(io::Error::new(io::ErrorKind::Unsupported, "rotated files are compressed"));
                }
                Err(_) => {}
            }
        }
        // The engine renames the oldest file first and the current file last.
        let meta = std::fs::metadata(path)?;
        if (meta.dev(), meta.ino()) == identity && parts.iter().all(|part| part.identity != identity) {
            parts.push(current);
            return Ok(parts);
        }
    }
    Err(io::Error::other("the files are rotated too fast to be opened"))
}

/// Returns the offset of the last `wanted` lines of a file and how many lines there are.
pub(super) fn tail_start(part: &mut Part, wanted: u64) -> io::Result<(u64, u64)> {
    let mut block = vec![0; BLOCK];
    let (mut end, mut found) = (part.size, 0);
    while end > 0 {
        let length = end.min(block.len() as u64);
        let start = end - length;
        let Some(piece) = usize::try_from(length).ok().and_then(|length| block.get_mut(..length)) else { break };
        part.file.seek(SeekFrom::Start(start))?;
        part.file.read_exact(piece)?;
        for at in memchr::memrchr_iter(b'\n', piece) {
            let after = start + at as u64 + 1;
            if after == part.size {
                continue;
            }
            found += 1;
            if found == wanted {
                return Ok((after, found));
            }
        }
        end = start;
    }
    Ok((0, if part.size > 0 { found + 1 } else { 0 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that is removed on drop.
    struct Dir(PathBuf);

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn dir(name: &str, files: &[(&str, &str)]) -> Dir {
        let dir = std::env::temp_dir().join(format!("wharf-log-parts-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        for (name, text) in files {
            std::fs::write(dir.join(name), text).unwrap();
        }
        Dir(dir)
    }

    #[test]
    fn files_are_opened_from_the_oldest_on_and_only_as_many_as_are_kept() {
        let dir = dir("order", &[("log", "abc"), ("log.1", "ab"), ("log.2", "a"), ("log.3", "stale")]);
        let sizes = |most| open_all(&dir.0.join("log"), most).unwrap().iter().map(|part| part.size).collect::<Vec<_>>();
        assert_eq!((sizes(3), sizes(1)), (vec![1, 2, 3], vec![3]));
        std::fs::rename(dir.0.join("log.2"), dir.0.join("log.2.gz")).unwrap();
        assert!(open_all(&dir.0.join("log"), 3).is_err_and(|error| error.kind() == io::ErrorKind::Unsupported));
        assert!(open_all(&dir.0.join("none"), 3).is_err());
    }

    #[test]
    fn the_tail_begins_where_counting_all_lines_says() {
        let text: String = (0..30_000).map(|n| format!("line {n}\n")).collect();
        let dir = dir("tail", &[("log", text.as_str()), ("empty", ""), ("unfinished", "a\nb\nc")]);
        let start = |name: &str, wanted| tail_start(&mut open(&dir.0.join(name)).unwrap(), wanted).unwrap();
        for wanted in [1, 2, 999, 20_000, 29_999, 30_000] {
            let lines: Vec<&str> = text.lines().collect();
            let rest: usize = lines[lines.len() - wanted..].iter().map(|line| line.len() + 1).sum();
            assert_eq!(start("log", wanted as u64), ((text.len() - rest) as u64, wanted as u64));
        }
        assert_eq!(start("log", 30_001), (0, 30_000));
        assert_eq!(start("empty", 5), (0, 0));
        assert_eq!(start("unfinished", 2), (2, 2));
    }
}
