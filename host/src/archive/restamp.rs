//! Rewrites an archive of a caller who must not set other users' ownership: owners and permission bits are set here.

use std::io::{self, Read, Write};
use std::sync::{Arc, OnceLock};

use super::{Owner, Pieces, Reader, stream};

/// Passes on an archive while it arrives. Its files get `owner`, or keep their owner if there is none. Set-uid and
/// set-gid bits are removed, and so are extended attributes, which may grant capabilities. Devices and pipes are
/// dropped. A defect of the archive is stored in `wrong`, and the archive is then cut off.
pub fn restamp(pieces: Pieces, owner: Option<Owner>, wrong: Arc<OnceLock<String>>) -> Pieces {
    stream(move |to| {
        pass_on(Reader::new(pieces), to, owner).inspect_err(|error| {
            // Keep the first error, which is the cause.
            let _ = wrong.set(error.to_string());
        })
    })
}

fn pass_on(from: impl Read, to: &mut dyn Write, owner: Option<Owner>) -> io::Result<()> {
    let mut archive = tar::Archive::new(from);
    let mut builder = tar::Builder::new(to);
    for entry in archive.entries()? {
        let entry = entry?;
        let mut header = entry.header().clone();
        if let Some(Owner { uid, gid }) = owner {
            header.set_uid(uid);
            header.set_gid(gid);
            // The engine prefers a user name that it knows to the number.
            let named = header.set_username("").and_then(|()| header.set_groupname(""));
            // The oldest header format has no names.
            drop(named);
        }
        header.set_mode(header.mode()? & 0o1777);
        let path = entry.path()?.into_owned();
        let kind = header.entry_type();
        if kind.is_symlink() || kind.is_hard_link() {
            let Some(target) = entry.link_name()?.map(std::borrow::Cow::into_owned) else { continue };
            header.set_size(0);
            builder.append_link(&mut header, &path, target)?;
        } else if kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse() {
            let size = entry.size();
            header.set_entry_type(tar::EntryType::Regular);
            header.set_size(size);
            builder.append_data(&mut header, &path, Whole { from: entry, left: size })?;
        } else if kind.is_dir() {
            header.set_size(0);
            builder.append_data(&mut header, &path, io::empty())?;
        }
    }
    builder.into_inner()?.flush()
}

/// A file of an archive, which must not end before its declared size.
struct Whole<R> {
    from: R,
    left: u64,
}

impl<R: Read> Read for Whole<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        if count == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a file of the archive is truncated"));
        }
        self.left = self.left.saturating_sub(count as u64);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(fill: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        fill(&mut builder);
        builder.into_inner().unwrap()
    }

    fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_uid(0);
        header.set_gid(0);
        header.set_username("root").unwrap();
        header
    }

    #[test]
    fn nothing_in_an_archive_is_another_users_or_runs_as_one() {
        let long = format!("{}/end", "deep/".repeat(40));
        let sent = archive(|to| {
            to.append_data(&mut header(tar::EntryType::Regular, 0o6755, 2), &long, &b"hi"[..]).unwrap();
            to.append_data(&mut header(tar::EntryType::Directory, 0o2755, 0), "folder", io::empty()).unwrap();
            to.append_link(&mut header(tar::EntryType::Symlink, 0o777, 0), "link", "/etc/passwd").unwrap();
            to.append_link(&mut header(tar::EntryType::Link, 0o4755, 0), "hard", &long).unwrap();
            let mut device = header(tar::EntryType::Block, 0o666, 0);
            device.set_device_major(8).unwrap();
            to.append_data(&mut device, "disk", io::empty()).unwrap();
            to.append_data(&mut header(tar::EntryType::Fifo, 0o666, 0), "pipe", io::empty()).unwrap();
        });
        let mut passed = Vec::new();
        pass_on(&sent[..], &mut passed, Some(Owner { uid: 1577, gid: 1600 })).unwrap();
        let mut archive = tar::Archive::new(&passed[..]);
        let mut names = Vec::new();
        for entry in archive.entries().unwrap() {
            let entry = entry.unwrap();
            let header = entry.header();
            assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (1577, 1600));
            assert_eq!(header.mode().unwrap() & 0o6000, 0);
            assert!(header.username_bytes().is_none_or(|name| name.is_empty()));
            names.push(entry.path().unwrap().display().to_string());
        }
        assert_eq!(names, [long.as_str(), "folder", "link", "hard"]);
    }

    #[test]
    fn an_archive_that_is_cut_off_or_none_is_an_error() {
        let sent = archive(|to| {
            let data = vec![7; 3000];
            to.append_data(&mut header(tar::EntryType::Regular, 0o644, 3000), "file", &data[..]).unwrap();
        });
        assert!(pass_on(&sent[..2000], &mut Vec::new(), None).is_err());
        assert!(pass_on(&sent[..300], &mut Vec::new(), None).is_err());
        assert!(pass_on(&[b'x'; 1024][..], &mut Vec::new(), None).is_err());
        assert!(pass_on(&sent[..], &mut Vec::new(), None).is_ok());
    }
}
