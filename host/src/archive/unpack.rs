//! Unpacks archives. An archive from a container is not trusted, and neither is the target folder: a workspace may
//! write there, too, and swap folders and links meanwhile. Therefore every entry is created through an open folder
//! handle, and no link on the way is followed.

use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::{Folder, LeftOut, NAMED};

/// Permissions that a folder's owner needs to fill and to move it.
const OWNER: u32 = 0o700;
/// Maximum depth of folders in an archive: each is kept open while its entries are moved or removed.
const DEEPEST: usize = 256;

/// The result of unpacking.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Unpacked {
    /// Number of created files, folders and links.
    pub entries: u64,
    /// Names of skipped entries: devices, pipes, and locations outside the folder.
    pub skipped: LeftOut,
    /// Permission bits of the folder itself, if the archive has an entry for it without a name, as `./` or `/`.
    pub mode: Option<u32>,
    /// Folders that their owner may not write or search, with their permission bits. They are created with these
    /// rights, so that they can be filled and moved. The caller sets the final bits afterwards, last folder first.
    pub narrow: Vec<(PathBuf, u32)>,
}

/// Unpacks an archive into a folder.
///
/// # Errors
/// The errors of the archive's reader and of the file system, and an object that blocks the path of an entry.
pub fn unpack(from: impl Read, folder: &Folder) -> io::Result<Unpacked> {
    let mut archive = tar::Archive::new(from);
    let mut unpacker = Unpacker { root: folder, last: None, done: Unpacked::default() };
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let made =
            unpacker.add(&mut entry).map_err(|error| io::Error::new(error.kind(), format!("{name}: {error}")))?;
        if made {
            unpacker.done.entries += 1;
        } else if !entry.header().entry_type().is_pax_global_extensions() && unpacker.done.skipped.len() < NAMED {
            unpacker.done.skipped.push(name);
        }
    }
    Ok(unpacker.done)
}

struct Unpacker<'a> {
    root: &'a Folder,
    /// The folder of the previous entry: most often the next entry is created there, too.
    last: Option<(PathBuf, Folder)>,
    done: Unpacked,
}

impl Unpacker<'_> {
    /// Creates an entry. Returns whether its kind is supported.
    fn add<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>) -> io::Result<bool> {
        let kind = entry.header().entry_type();
        let Some(path) = place(&entry.path()?)? else { return Ok(false) };
        let mode = entry.header().mode()? & 0o777;
        // The oldest archives mark a folder by a trailing slash in its name.
        let is_folder = kind.is_dir() || (kind.is_file() && entry.path_bytes().ends_with(b"/"));
        let Some((above, name)) = path.parent().zip(path.file_name()) else {
            self.done.mode = is_folder.then_some(mode).or(self.done.mode);
            return Ok(is_folder);
        };
        if is_folder {
            let made = self.folder(above)?.folder_or_new(name)?;
            made.set_mode(mode | OWNER)?;
            if mode & OWNER != OWNER {
                self.done.narrow.push((path, mode));
            }
        } else if kind.is_file() || kind.is_gnu_sparse() {
            let mut file = self.folder(above)?.make_file(name)?;
            if io::copy(entry, &mut file)? != entry.size() {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is truncated"));
            }
            file.set_permissions(PermissionsExt::from_mode(mode))?;
            if let Some(time) = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(entry.header().mtime()?)) {
                file.set_modified(time)?;
            }
        } else if kind.is_symlink() {
            let target = entry.link_name()?.ok_or_else(nowhere)?;
            let time = entry.header().mtime()?.try_into().ok();
            self.folder(above)?.make_link(name, &target, time)?;
        } else if kind.is_hard_link() {
            let target = entry.link_name()?.ok_or_else(nowhere)?;
            let target = place(&target)?.ok_or_else(nowhere)?;
            let (beside, file) = target.parent().zip(target.file_name()).ok_or_else(nowhere)?;
            let from = self.root.plain_folder(beside)?.ok_or(io::ErrorKind::NotFound)?;
            self.folder(above)?.make_hard_link(name, &from, file)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// Returns a folder below the root without following links; missing folders are created.
    fn folder(&mut self, path: &Path) -> io::Result<&Folder> {
        let held = match self.last.take() {
            Some((at, held)) if at == path => held,
            _ => {
                let mut held = self.root.again()?;
                for name in path.components() {
                    held = held.folder_or_new(name.as_os_str())?;
                }
                held
            }
        };
        Ok(&self.last.insert((path.to_owned(), held)).1)
    }
}

fn nowhere() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it links to a file that is not in the archive")
}

/// Returns the location of an entry below the folder; none for a location outside.
fn place(path: &Path) -> io::Result<Option<PathBuf>> {
    let mut place = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => place.push(name),
            Component::ParentDir => return Ok(None),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    if place.components().count() > DEEPEST {
        let text = format!("it is nested in more than {DEEPEST} folders");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(Some(place))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::archive::beneath_tests::{Place, Swapper};

    fn header(kind: tar::EntryType, mode: u32, size: usize) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size as u64);
        header.set_mtime(1_000_000_000);
        header
    }

    /// Returns an archive of a folder with a subfolder, with files and links in both.
    fn tree() -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let text = b"written";
        for name in ["sub/", "sub/deep/"] {
            builder.append_data(&mut header(tar::EntryType::Directory, 0o755, 0), name, io::empty()).unwrap();
        }
        for number in 0..8 {
            for folder in ["sub", "sub/deep"] {
                let file = &mut header(tar::EntryType::Regular, 0o640, text.len());
                builder.append_data(file, format!("{folder}/file{number}"), &text[..]).unwrap();
                let link = &mut header(tar::EntryType::Symlink, 0o777, 0);
                builder.append_link(link, format!("{folder}/link{number}"), "file0").unwrap();
                let hard = &mut header(tar::EntryType::Link, 0o640, 0);
                builder.append_link(hard, format!("{folder}/hard{number}"), format!("{folder}/file{number}")).unwrap();
            }
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn folders_and_links_that_are_exchanged_while_an_archive_is_unpacked_have_nothing_written_outside() {
        let place = Place::new("unpack");
        let project = place.project();
        symlink("../outside", project.join("way")).unwrap();
        let archive = tree();
        let root = Folder::open(&project).unwrap();
        let swapper = Swapper::new(&project, &[("sub", "way")]);
        let refused = (0..3_000).filter(|_| unpack(&archive[..], &root).is_err()).count();
        drop(swapper);
        assert!(refused > 0, "no exchange was met");
        // The swapping was the only obstacle.
        if project.join("sub").is_symlink() {
            std::fs::remove_file(project.join("sub")).unwrap();
        }
        assert!(unpack(&archive[..], &root).is_ok());
        let names: Vec<_> = std::fs::read_dir(place.0.join("outside")).unwrap().flatten().collect();
        assert_eq!(names.len(), 1, "{names:?}");
        assert_eq!(std::fs::read_to_string(place.0.join("outside/file")).unwrap(), "OUTSIDE");
    }

    #[test]
    fn a_link_in_the_place_of_an_entry_is_replaced_and_one_on_the_way_is_an_error() {
        let place = Place::new("unpack-links");
        let project = place.project();
        for number in 0..8 {
            symlink("../../outside/file", project.join(format!("sub/file{number}"))).unwrap();
        }
        let root = Folder::open(&project).unwrap();
        let done = unpack(&tree()[..], &root).unwrap();
        assert_eq!((done.entries, done.skipped.len()), (50, 0));
        assert_eq!(std::fs::read_to_string(project.join("sub/file0")).unwrap(), "written");
        let meta = std::fs::metadata(project.join("sub/deep/hard3")).unwrap();
        assert_eq!(meta.permissions().mode() & 0o7777, 0o640);
        assert_eq!(meta.modified().unwrap(), SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000));
        std::fs::remove_dir_all(project.join("sub/deep")).unwrap();
        symlink("../../outside", project.join("sub/deep")).unwrap();
        let error = unpack(&tree()[..], &root).unwrap_err();
        assert!(error.to_string().starts_with("sub/deep/: "), "{error}");
        assert_eq!(std::fs::read_to_string(place.0.join("outside/file")).unwrap(), "OUTSIDE");
        assert_eq!(std::fs::read_dir(place.0.join("outside")).unwrap().count(), 1);
    }

    #[test]
    fn an_archive_that_is_cut_off_or_too_deep_is_an_error() {
        let place = Place::new("unpack-bad");
        let root = Folder::open(&place.project()).unwrap();
        // Truncated within the first file, which starts after three headers.
        assert!(unpack(&tree()[..3 * 512 + 3], &root).is_err());
        let mut builder = tar::Builder::new(Vec::new());
        let deep = format!("{}file", "d/".repeat(DEEPEST));
        builder.append_data(&mut header(tar::EntryType::Regular, 0o644, 1), deep, &b"x"[..]).unwrap();
        assert!(unpack(&builder.into_inner().unwrap()[..], &root).unwrap_err().to_string().contains("256 folders"));
    }
}
