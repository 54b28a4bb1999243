//! Tar archives of local files: packed in pieces while they are sent, unpacked while they arrive.
//!
//! Data from a container is not trusted. Nothing is written outside the named folder, not even through links, and
//! only files, folders and links are created, with ordinary permission bits.
//!
//! May touch: the files and folders that a user named.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

mod beneath;
mod context;
mod dockerfile;
mod ignore;
mod restamp;
mod small;
mod unpack;
#[cfg(test)]
pub(crate) use beneath::tests as beneath_tests;
pub use beneath::{Bound, Folder, Found};
pub use context::Context;
pub use dockerfile::{Feature, SYNTAX_ARG};
pub use ignore::Ignore;
pub use restamp::restamp;
pub use small::{Entry, first_file, small};
pub use unpack::{Unpacked, unpack};

/// Size of the pieces.
const PIECE: usize = 64 << 10;
/// Maximum number of pieces that wait for a slow reader.
const WAITING: usize = 16;

/// Pieces of an archive, in order; an error comes last.
pub type Pieces = mpsc::Receiver<io::Result<Bytes>>;

/// Owner of the files in an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User id.
    pub uid: u64,
    /// Group id.
    pub gid: u64,
}

/// Names of skipped files, at most 20.
pub type LeftOut = Vec<String>;
/// Maximum number of names in [`LeftOut`].
const NAMED: usize = 20;

/// Packs a file, or a folder with its contents, under another name. Links stay links. Sockets, pipes and devices are
/// skipped, and reported when everything is packed.
///
/// It works on a dedicated thread and waits for the reader. It ends when the reader goes away.
pub fn pack(source: PathBuf, name: PathBuf, owner: Option<Owner>) -> (Pieces, oneshot::Receiver<LeftOut>) {
    let (tell, left_out) = oneshot::channel();
    let pieces = stream(move |to| {
        let mut builder = tar::Builder::new(to);
        builder.follow_symlinks(false);
        let mut packer = Packer { builder, owner, left_out: LeftOut::new() };
        // For a link that the user names, only its parent folder is resolved: the link is packed as a link.
        let at = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", source.display()));
        let last = source.components().next_back();
        match (last, source.parent()) {
            (Some(Component::Normal(entry)), Some(parent)) if !ends_with_a_dot(&source) => {
                let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
                packer.add(&Folder::resolve(parent).map_err(at)?, entry, &name)?;
            }
            _ => packer.add(&Folder::resolve(&source).map_err(at)?, OsStr::new("."), &name)?,
        }
        packer.builder.into_inner()?.flush()?;
        // The caller may have dropped its receiver.
        let _ = tell.send(packer.left_out);
        Ok(())
    });
    (pieces, left_out)
}

/// Returns whether a path ends with `/` or `/.`: it then refers to the target of a link.
fn ends_with_a_dot(path: &Path) -> bool {
    let bytes = path.as_os_str().as_encoded_bytes();
    bytes.ends_with(b"/") || bytes.ends_with(b"/.")
}

/// Runs a function that writes an archive on a dedicated thread.
pub fn stream(write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static) -> Pieces {
    let (to, from) = mpsc::channel(WAITING);
    tokio::task::spawn_blocking(move || {
        let mut writer = Writer { to: to.clone(), buffer: Vec::with_capacity(PIECE) };
        let result = write(&mut writer).and_then(|()| writer.flush());
        if let Err(error) = result {
            // If the reader has gone away, the error is not needed.
            let _ = to.blocking_send(Err(error));
        }
    });
    from
}

struct Packer<W: Write> {
    builder: tar::Builder<W>,
    owner: Option<Owner>,
    left_out: LeftOut,
}

impl<W: Write> Packer<W> {
    /// Adds a file, or a folder with its contents. Each folder is kept open while its contents are read, so that a
    /// link that replaces it is not followed.
    fn add(&mut self, folder: &Folder, entry: &OsStr, name: &Path) -> io::Result<()> {
        let path = folder.path().join(entry);
        let at = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let meta = folder.about(entry).map_err(at)?;
        let kind = meta.file_type();
        let mut header = tar::Header::new_gnu();
        header.set_metadata_in_mode(&meta, tar::HeaderMode::Complete);
        if let Some(Owner { uid, gid }) = self.owner {
            header.set_uid(uid);
            header.set_gid(gid);
        }
        if kind.is_symlink() {
            header.set_size(0);
            return self.builder.append_link(&mut header, name, folder.link(entry).map_err(at)?).map_err(at);
        }
        if kind.is_file() {
            let (file, meta) = folder.file(entry).map_err(at)?;
            // A file that grows or shrinks meanwhile must not break the archive: exactly the header's size is sent.
            let size = meta.len();
            header.set_size(size);
            let padded = file.take(size).chain(io::repeat(0)).take(size);
            return self.builder.append_data(&mut header, name, padded).map_err(at);
        }
        if kind.is_dir() {
            header.set_size(0);
            self.builder.append_data(&mut header, name, io::empty()).map_err(at)?;
            let inner = folder.child(entry).map_err(at)?;
            for entry in inner.names(usize::MAX).map_err(at)? {
                self.add(&inner, &entry, &name.join(&entry))?;
            }
        } else if self.left_out.len() < NAMED {
            self.left_out.push(path.display().to_string());
        }
        Ok(())
    }
}

/// Reads pieces from a thread that may block.
pub struct Reader {
    from: Pieces,
    piece: Bytes,
}

impl Reader {
    /// Creates a reader of these pieces.
    pub fn new(from: Pieces) -> Self {
        Self { from, piece: Bytes::new() }
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.from.blocking_recv() {
                Some(piece) => self.piece = piece?,
                None => return Ok(0),
            }
        }
        let count = self.piece.len().min(buffer.len());
        let (to, from) = (buffer.get_mut(..count).unwrap_or_default(), self.piece.split_to(count));
        to.copy_from_slice(&from);
        Ok(count)
    }
}

struct Writer {
    to: mpsc::Sender<io::Result<Bytes>>,
    buffer: Vec<u8>,
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE));
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the archive is no longer read");
        self.to.blocking_send(Ok(piece.into())).map_err(gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpack(from: impl Read, folder: &Path) -> io::Result<Unpacked> {
        super::unpack(from, &Folder::resolve(folder)?)
    }

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("wharf-archive-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_folder_comes_out_as_it_went_in_under_another_name() {
        let dir = Dir::new("same");
        let (source, target) = (dir.0.join("source"), dir.0.join("target"));
        std::fs::create_dir_all(source.join("deep/er")).unwrap();
        std::fs::create_dir_all(&target).unwrap();
        std::fs::write(source.join("deep/er/big"), vec![7; 300_000]).unwrap();
        std::fs::write(source.join("empty"), "").unwrap();
        std::os::unix::fs::symlink("deep/er/big", source.join("link")).unwrap();
        let long = "n".repeat(200);
        std::fs::write(source.join(&long), "x").unwrap();
        let (pieces, left_out) = pack(source, "renamed".into(), Some(Owner { uid: 0, gid: 0 }));
        let at = target.clone();
        let done = tokio::task::spawn_blocking(move || unpack(Reader::new(pieces), &at)).await.unwrap().unwrap();
        assert_eq!((done.entries, done.skipped, left_out.await.unwrap()), (7, vec![], vec![]));
        assert_eq!(std::fs::read(target.join("renamed/deep/er/big")).unwrap(), vec![7; 300_000]);
        assert_eq!(target.join("renamed/link").read_link().unwrap(), Path::new("deep/er/big"));
        assert_eq!(std::fs::read(target.join("renamed").join(long)).unwrap(), b"x");
    }

    fn archive(fill: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        fill(&mut builder);
        builder.into_inner().unwrap()
    }

    fn entry(builder: &mut tar::Builder<Vec<u8>>, kind: tar::EntryType, name: &str, link: Option<&str>, data: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o6777);
        header.set_size(data.len() as u64);
        // Written raw: the crate refuses to create such names.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        if let Some(link) = link {
            header.set_link_name_literal(link).unwrap();
        }
        header.set_cksum();
        builder.append(&header, data).unwrap();
    }

    #[test]
    fn a_hostile_archive_writes_nothing_outside_and_makes_no_devices() {
        let dir = Dir::new("hostile");
        let (inside, outside) = (dir.0.join("inside"), dir.0.join("outside"));
        std::fs::create_dir_all(&inside).unwrap();
        std::fs::create_dir_all(&outside).unwrap();
        let absolute = outside.join("absolute").display().to_string();
        for (name, link) in [("../outside/up", None), (absolute.as_str(), None), ("out", Some("../outside"))] {
            let bytes = archive(|builder| match link {
                None => entry(builder, tar::EntryType::Regular, name, None, b"x"),
                Some(link) => {
                    entry(builder, tar::EntryType::Symlink, name, Some(link), b"");
                    entry(builder, tar::EntryType::Regular, "out/through", None, b"x");
                }
            });
            // Refusing the archive and skipping the entry are both correct, as long as nothing is created outside.
            let _ = unpack(bytes.as_slice(), &inside);
            assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "{name}");
        }
        let bytes = archive(|builder| {
            entry(builder, tar::EntryType::Char, "device", None, b"");
            entry(builder, tar::EntryType::Fifo, "pipe", None, b"");
            entry(builder, tar::EntryType::Regular, "tool", None, b"x");
        });
        let done = unpack(bytes.as_slice(), &inside).unwrap();
        assert_eq!((done.entries, done.skipped), (1, vec!["device".to_owned(), "pipe".to_owned()]));
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(inside.join("tool").metadata().unwrap().permissions().mode() & 0o7000, 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_neither_file_folder_nor_link_is_left_out_and_named() {
        let dir = Dir::new("special");
        std::fs::create_dir_all(dir.0.join("in/deep")).unwrap();
        std::fs::write(dir.0.join("in/file"), "x").unwrap();
        let socket = dir.0.join("in/deep/socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let (pieces, left_out) = pack(dir.0.join("in"), ".".into(), None);
        let at = dir.0.clone();
        let done = tokio::task::spawn_blocking(move || unpack(Reader::new(pieces), &at)).await.unwrap().unwrap();
        assert_eq!(left_out.await.unwrap(), [socket.display().to_string()]);
        assert_eq!((done.entries, done.mode.is_some()), (3, true));
        assert!(dir.0.join("file").exists() && dir.0.join("deep").is_dir());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_cannot_be_read_is_the_last_piece_and_named() {
        let (mut pieces, _) = pack("/no/such/file".into(), "x".into(), None);
        let error = pieces.recv().await.unwrap().unwrap_err();
        assert!(error.to_string().contains("/no/such/file"), "{error}");
        assert!(pieces.recv().await.is_none());
    }
}
