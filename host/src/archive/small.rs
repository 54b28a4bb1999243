//! Small archives that are created and read as a whole.

use std::io::{self, Read};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{Owner, Pieces};

/// A file or folder of a small archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    path: String,
    owner: Owner,
    /// The file's text; none for a folder.
    text: Option<String>,
}

impl Entry {
    /// Creates a file that belongs to root and is readable by all.
    pub fn file(path: &str, text: String) -> Self {
        Self { path: path.to_owned(), owner: Owner { uid: 0, gid: 0 }, text: Some(text) }
    }

    /// Creates a folder; its parent folders are not in the archive.
    pub fn folder(path: &str, owner: Owner) -> Self {
        Self { path: path.to_owned(), owner, text: None }
    }
}

/// Creates an archive of entries, in order.
///
/// # Errors
/// An error if a path is too long for an archive.
pub fn small(entries: Vec<Entry>) -> io::Result<Pieces> {
    let mut builder = tar::Builder::new(Vec::new());
    for Entry { path, owner, text } in entries {
        let mut header = tar::Header::new_gnu();
        header.set_uid(owner.uid);
        header.set_gid(owner.gid);
        let (kind, mode) = match text {
            Some(_) => (tar::EntryType::Regular, 0o644),
            None => (tar::EntryType::Directory, 0o755),
        };
        header.set_entry_type(kind);
        header.set_mode(mode);
        let text = text.unwrap_or_default();
        header.set_size(text.len() as u64);
        builder.append_data(&mut header, &path, text.as_bytes())?;
    }
    let (to, from) = mpsc::channel(1);
    // The channel has room for one piece, and nothing was sent before.
    let _ = to.try_send(Ok(Bytes::from(builder.into_inner()?)));
    Ok(from)
}

/// Returns the text of the first file of an archive.
pub fn first_file(archive: &[u8]) -> Option<String> {
    let mut archive = tar::Archive::new(archive);
    let mut file =
        archive.entries().ok()?.filter_map(Result::ok).find(|entry| entry.header().entry_type().is_file())?;
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_archive_gives_its_files_back_with_their_owners() {
        let owner = Owner { uid: 1577, gid: 100 };
        let entries = vec![Entry::folder("home/workspace", owner), Entry::file("etc/passwd", "root:x:0:0\n".into())];
        let mut pieces = small(entries).unwrap();
        let bytes = pieces.blocking_recv().unwrap().unwrap();
        assert_eq!(first_file(&bytes).as_deref(), Some("root:x:0:0\n"));
        let mut archive = tar::Archive::new(&bytes[..]);
        let first = archive.entries().unwrap().next().unwrap().unwrap();
        assert_eq!((first.header().uid().unwrap(), first.header().gid().unwrap()), (1577, 100));
        assert_eq!(first_file(b"not an archive"), None);
    }
}
