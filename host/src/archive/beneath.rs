//! Reads below a folder whose files another process may change at any moment. A project's files belong to the
//! processes in its workspace, which can swap a folder and a link a million times a second. So a path is never
//! checked by one call and opened by the next: the path is walked from descriptor to descriptor, each link is read
//! and walked in the same way, and no step leads above the folder.
//!
//! A link that stays inside is followed wherever it is: a relative link, or an absolute link that names the folder
//! itself. A link that leads outside is an error, and so is a pipe or a device, which is never opened.
//!
//! `change` writes below a folder in the same way.
//!
//! The crate `cap-std` (tested at 4.0.3) is not used: its `Dir` refuses an absolute link that stays inside, has no
//! bounds within a path, does not report where a path ended without walking it again, blocks when it opens a pipe,
//! and follows links when it is opened.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

mod change;

/// Maximum number of links on the path to one file, as in the kernel.
const MOST_LINKS: usize = 40;
/// Flags for referring to a folder or file without opening it.
const NAMED: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A folder kept open by a handle, even if its path changes later.
#[derive(Debug)]
pub struct Folder {
    held: OwnedFd,
    path: PathBuf,
}

/// A folder that a path may enter, but not leave through a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    device: u64,
    inode: u64,
}

impl Bound {
    /// Returns the folder at a path; none if there is none.
    pub fn at(path: &Path) -> Option<Self> {
        path.metadata().ok().as_ref().map(Self::of)
    }

    fn of(about: &Metadata) -> Self {
        Self { device: about.dev(), inode: about.ino() }
    }
}

/// The target of a path below a folder.
#[derive(Debug)]
pub struct Found {
    parent: OwnedFd,
    name: OsString,
    /// Its location below the folder, without links.
    pub within: PathBuf,
    /// Its metadata. It is never a link.
    pub about: Metadata,
}

impl Found {
    /// Opens it, if it is an ordinary file.
    ///
    /// # Errors
    /// An error if it is another kind of object, or has become one meanwhile.
    pub fn open(&self) -> io::Result<(File, Metadata)> {
        open_file(&self.parent, &self.name)
    }
}

impl Folder {
    /// Opens a folder. Its path may contain links and is resolved once.
    ///
    /// # Errors
    /// An error if there is none, or a part of its path is replaced by a link meanwhile.
    pub fn resolve(path: &Path) -> io::Result<Self> {
        Self::open(&path.canonicalize()?)
    }

    /// Opens a folder whose path is absolute and has no links.
    ///
    /// # Errors
    /// An error if there is none, or its path has a link.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = NAMED | OFlags::DIRECTORY;
        let mut held = rustix::fs::openat(CWD, "/", flags, Mode::empty())?;
        for part in path.components() {
            match part {
                Component::Normal(name) => held = rustix::fs::openat(&held, name, flags, Mode::empty())?,
                Component::ParentDir => return Err(ErrorKind::InvalidInput.into()),
                _ => {}
            }
        }
        Ok(Self { held, path: path.to_owned() })
    }

    /// Opens a folder that a user named, following all links on the way. Inside one of `bounds`, which others can
    /// write, a link may only lead to places within that bound.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] and [`ErrorKind::NotADirectory`] if there is no folder,
    /// [`ErrorKind::PermissionDenied`] if a link leads out of a bound, and those of the file system.
    pub fn named(path: &Path, bounds: &[Bound]) -> io::Result<Self> {
        let path = if path.is_absolute() { path.to_owned() } else { std::env::current_dir()?.join(path) };
        let root = Self::open(Path::new("/"))?;
        let (mut above, last) = root.walk(path.strip_prefix("/").unwrap_or(&path), bounds)?;
        let (held, within) = above.pop().filter(|_| last.is_none()).ok_or(Errno::NOTDIR)?;
        Ok(Self { held, path: root.path.join(within) })
    }

    /// Returns another handle to the same folder.
    ///
    /// # Errors
    /// An error if the process has too many open files.
    pub fn again(&self) -> io::Result<Self> {
        Ok(Self { held: self.held.try_clone()?, path: self.path.clone() })
    }

    /// Returns its path at the time of opening, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a subfolder of this folder. It must not be a link.
    ///
    /// # Errors
    /// An error if there is none.
    pub fn child(&self, name: &OsStr) -> io::Result<Self> {
        let held = rustix::fs::openat(&self.held, name, NAMED | OFlags::DIRECTORY, Mode::empty())?;
        Ok(Self { held, path: self.path.join(name) })
    }

    /// Opens a folder below this one; links that stay inside are followed.
    ///
    /// # Errors
    /// The errors of [`Folder::find`], and an error if it is no folder.
    pub fn folder(&self, path: &Path) -> io::Result<Self> {
        let (mut above, last) = self.walk(path, &[])?;
        let (held, within) = above.pop().filter(|_| last.is_none()).ok_or(Errno::NOTDIR)?;
        Ok(Self { held, path: self.path.join(within) })
    }

    /// Returns the metadata of an object in this folder, without following links.
    ///
    /// # Errors
    /// An error if it cannot be read.
    pub fn about(&self, name: &OsStr) -> io::Result<Metadata> {
        File::from(rustix::fs::openat(&self.held, name, NAMED, Mode::empty())?).metadata()
    }

    /// Returns the target of a link in this folder.
    ///
    /// # Errors
    /// An error if it is no longer a link.
    pub fn link(&self, name: &OsStr) -> io::Result<PathBuf> {
        let target = rustix::fs::readlinkat(&self.held, name, Vec::new())?;
        Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
    }

    /// Returns the sorted names in this folder, at most `most` of them.
    ///
    /// # Errors
    /// An error if the folder cannot be read.
    pub fn names(&self, most: usize) -> io::Result<Vec<OsString>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&self.held, ".", flags, Mode::empty())?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(opened)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                names.push(name.to_owned());
            }
            if names.len() == most {
                break;
            }
        }
        names.sort();
        Ok(names)
    }

    /// Opens an ordinary file in this folder. It must not be a link, and opening never blocks on another kind of
    /// object.
    ///
    /// # Errors
    /// An error if it cannot be read, or is another kind of object.
    pub fn file(&self, name: &OsStr) -> io::Result<(File, Metadata)> {
        open_file(&self.held, name)
    }

    /// Returns the target of a path below this folder; links that stay inside are followed.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no target, [`ErrorKind::PermissionDenied`] if the path leads outside, and
    /// those of the file system.
    pub fn find(&self, path: &Path) -> io::Result<Found> {
        let (mut above, last) = self.walk(path, &[])?;
        let (held, within) = above.pop().ok_or(Errno::NOENT)?;
        match last {
            Some((name, about)) => Ok(Found { within: within.join(&name), parent: held, name, about }),
            None => {
                let about = File::from(held.try_clone()?).metadata()?;
                Ok(Found { parent: held, name: OsString::from("."), within, about })
            }
        }
    }

    /// Opens an ordinary file below this folder; links that stay inside are followed.
    ///
    /// # Errors
    /// The errors of [`Folder::find`], and an error if it is no ordinary file.
    pub fn open_below(&self, path: &Path) -> io::Result<(File, Metadata)> {
        let found = self.find(path)?;
        open_file(&found.parent, &found.name)
    }

    /// Reads a text file of at most `most` bytes below this folder.
    ///
    /// # Errors
    /// The errors of [`Folder::open_below`]; an error if it has more bytes, or is not UTF-8.
    pub fn read_text(&self, path: &Path, most: u64) -> io::Result<String> {
        let mut text = String::new();
        self.open_below(path)?.0.take(most + 1).read_to_string(&mut text)?;
        match text.len() as u64 > most {
            true => Err(io::Error::new(ErrorKind::InvalidData, format!("it is larger than {most} bytes"))),
            false => Ok(text),
        }
    }

    /// Walks a path. Returns the folders from this one to the last, each with its location, and a final object that
    /// is no folder, if any.
    ///
    /// A link in a bound may only lead to places within that bound. A `..` may leave a bound as long as no link was
    /// followed within it: it is then the way back that the path itself names.
    #[allow(clippy::type_complexity)]
    fn walk(
        &self,
        path: &Path,
        bounds: &[Bound],
    ) -> io::Result<(Vec<(OwnedFd, PathBuf)>, Option<(OsString, Metadata)>)> {
        let outside = |floor: &Path| {
            io::Error::new(ErrorKind::PermissionDenied, format!("it leads out of {}", self.path.join(floor).display()))
        };
        let mut above = vec![(self.held.try_clone()?, PathBuf::new())];
        // The bounds currently entered: for each its location, the number of folders down to it, and the number of
        // links before it.
        let mut floors = vec![(PathBuf::new(), 1, 0)];
        // The remaining names of the path, next one last.
        let (mut ahead, mut links) = (parts(path).ok_or_else(|| outside(Path::new("")))?, 0);
        while let Some(name) = ahead.pop() {
            let Some((floor, depth, before)) = floors.last() else { return Err(outside(Path::new(""))) };
            if name == ".." {
                if above.len() == *depth {
                    if floors.len() == 1 || links > *before {
                        return Err(outside(floor));
                    }
                    floors.pop();
                }
                above.pop();
                continue;
            }
            let Some((folder, within)) = above.last() else { return Err(outside(floor)) };
            let opened = File::from(rustix::fs::openat(folder, name.as_os_str(), NAMED, Mode::empty())?);
            let about = opened.metadata()?;
            if about.is_symlink() {
                links += 1;
                if links > MOST_LINKS {
                    return Err(Errno::LOOP.into());
                }
                let target = rustix::fs::readlinkat(&opened, "", Vec::new())?;
                let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                if target.is_absolute() {
                    let inner = target.strip_prefix(self.path.join(floor)).map_err(|_| outside(floor))?;
                    ahead.extend(parts(inner).ok_or_else(|| outside(floor))?);
                    above.truncate(*depth);
                } else {
                    ahead.extend(parts(&target).ok_or_else(|| outside(floor))?);
                }
            } else if about.is_dir() {
                let within = within.join(&name);
                if bounds.contains(&Bound::of(&about)) {
                    floors.push((within.clone(), above.len() + 1, links));
                }
                above.push((opened.into(), within));
            } else if ahead.is_empty() {
                return Ok((above, Some((name, about))));
            } else {
                return Err(Errno::NOTDIR.into());
            }
        }
        Ok((above, None))
    }
}

/// Opens an ordinary file; any other object is examined but not opened.
fn open_file(folder: &OwnedFd, name: &OsStr) -> io::Result<(File, Metadata)> {
    let ordinary = |file: &File| {
        let about = file.metadata()?;
        if about.is_symlink() {
            return Err(Errno::LOOP.into());
        }
        if !about.is_file() {
            return Err(io::Error::new(ErrorKind::InvalidInput, "it is not a regular file"));
        }
        Ok(about)
    };
    ordinary(&File::from(rustix::fs::openat(folder, name, NAMED, Mode::empty())?))?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(folder, name, flags, Mode::empty())?);
    let about = ordinary(&file)?;
    Ok((file, about))
}

/// Returns the names of a relative path, first one last.
fn parts(path: &Path) -> Option<Vec<OsString>> {
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => parts.push(name.to_owned()),
            Component::ParentDir => parts.push(OsString::from("..")),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    parts.reverse();
    Some(parts)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::fs::symlink;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// A folder with a project, and files outside the project.
    pub(crate) struct Place(pub(crate) PathBuf);

    impl Place {
        pub(crate) fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("wharf-beneath-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&dir);
            std::fs::create_dir_all(dir.join("project/sub")).unwrap();
            std::fs::create_dir_all(dir.join("outside")).unwrap();
            std::fs::write(dir.join("outside/file"), "OUTSIDE").unwrap();
            std::fs::write(dir.join("project/sub/file"), "inside").unwrap();
            Self(dir.canonicalize().unwrap())
        }

        pub(crate) fn project(&self) -> PathBuf {
            self.0.join("project")
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// Swaps pairs of names in a folder as fast as it can, until it is dropped.
    pub(crate) struct Swapper(Arc<AtomicBool>, Option<std::thread::JoinHandle<u64>>);

    impl Swapper {
        pub(crate) fn new(folder: &Path, pairs: &[(&str, &str)]) -> Self {
            let end = Arc::new(AtomicBool::new(false));
            let pairs: Vec<_> = pairs.iter().map(|(a, b)| (folder.join(a), folder.join(b))).collect();
            let ends = end.clone();
            let swap = move || {
                let mut count = 0;
                while !ends.load(Ordering::Relaxed) {
                    for (a, b) in &pairs {
                        rustix::fs::renameat_with(CWD, a, CWD, b, rustix::fs::RenameFlags::EXCHANGE).unwrap();
                    }
                    count += 1;
                }
                count
            };
            Self(end, Some(std::thread::spawn(swap)))
        }
    }

    impl Drop for Swapper {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
            let count = self.1.take().map(|thread| thread.join().unwrap_or_default());
            assert!(count.is_none_or(|count| count > 10), "nothing was exchanged");
        }
    }

    #[test]
    fn links_inside_are_followed_and_none_leads_outside() {
        let place = Place::new("links");
        let project = place.project();
        let make = |target: &str, name: &str| symlink(target, project.join(name)).unwrap();
        make("sub/file", "relative");
        make(project.join("sub").to_str().unwrap(), "absolute");
        make("../project/sub/file", "through");
        make("../outside/file", "out");
        make("/etc/passwd", "root");
        make("../../outside/file", "sub/deep");
        make("loop", "loop");
        make("sub", "folder");
        make("folder/../sub/file", "dots");
        let folder = Folder::open(&project).unwrap();
        let read = |path: &str| folder.read_text(Path::new(path), 100);
        for path in ["sub/file", "relative", "absolute/file", "folder/file", "sub/../sub/file", "dots"] {
            assert_eq!(read(path).unwrap(), "inside", "{path}");
        }
        for path in
            ["out", "root", "sub/deep", "../outside/file", "folder/../../outside/file", "/etc/passwd", "through"]
        {
            let error = read(path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{path}: {error}");
        }
        assert!(read("loop").is_err() && read("sub").is_err() && read("sub/file/x").is_err());
        assert_eq!(read("none").unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(folder.find(Path::new("folder/file")).unwrap().within, Path::new("sub/file"));
        assert!(Folder::open(&project.join("folder")).is_err() && Folder::resolve(&project.join("folder")).is_ok());
    }

    #[test]
    fn a_folder_that_is_named_is_found_through_links_which_lead_out_of_no_bound() {
        let place = Place::new("named");
        let project = place.project();
        let bounds = [Bound::at(&project).unwrap()];
        let make = |target: &Path, name: &str| symlink(target, place.0.join(name)).unwrap();
        make(&project, "way");
        make(Path::new("way/sub"), "further");
        make(Path::new("../outside"), "project/out");
        make(&place.0.join("outside"), "project/absolute");
        make(&project.join("sub"), "project/in");
        make(Path::new("../project/sub"), "project/back");
        make(Path::new("."), "project/here");
        let named = |path: &str| Folder::named(&place.0.join(path), &bounds).map(|found| found.path().to_owned());
        for path in ["project/sub", "way/sub", "further", "project/in", "way/in", "project/sub/../here/sub"] {
            assert_eq!(named(path).unwrap(), project.join("sub"), "{path}");
        }
        for path in ["outside", "project/../outside", "way/../outside", "project/sub/../../outside"] {
            assert_eq!(named(path).unwrap(), place.0.join("outside"), "{path}");
        }
        for path in
            ["project/out", "way/absolute", "project/back", "project/here/../outside", "project/in/../../outside"]
        {
            assert_eq!(named(path).unwrap_err().kind(), ErrorKind::PermissionDenied, "{path}");
        }
        assert_eq!(named("none").unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(named("outside/file").unwrap_err().kind(), ErrorKind::NotADirectory);
        let without = Folder::named(&project.join("out"), &[]).unwrap();
        assert_eq!(without.path(), place.0.join("outside"));
    }

    #[test]
    fn neither_a_pipe_nor_a_device_is_waited_for() {
        let place = Place::new("kinds");
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(CWD, place.project().join("pipe"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let folder = Folder::open(&place.project()).unwrap();
        assert!(folder.read_text(Path::new("pipe"), 9).unwrap_err().to_string().contains("not a regular file"));
        assert!(folder.file(OsStr::new("sub")).is_err());
        assert!(folder.read_text(Path::new("sub/file"), 3).unwrap_err().to_string().contains("larger than 3 bytes"));
    }

    #[test]
    fn folders_and_links_that_are_exchanged_while_they_are_read_show_nothing_from_outside() {
        let place = Place::new("race");
        let project = place.project();
        symlink("../outside", project.join("way")).unwrap();
        std::fs::write(project.join("plain"), "inside").unwrap();
        symlink("../outside/file", project.join("other")).unwrap();
        let swapper = Swapper::new(&project, &[("sub", "way"), ("plain", "other")]);
        let folder = Folder::open(&project).unwrap();
        let (mut inside, mut refused, mut by_name) = (0, 0, 0);
        for _ in 0..20_000 {
            for path in ["sub/file", "plain"] {
                // Deliberately wrong: checked by one call and opened by the next. It shows that this test detects the
                // flaw.
                let real = project.join(path).canonicalize().is_ok_and(|real| real.starts_with(&project));
                by_name +=
                    u32::from(real && std::fs::read_to_string(project.join(path)).is_ok_and(|text| text == "OUTSIDE"));
                match folder.read_text(Path::new(path), 100) {
                    Ok(text) => {
                        assert_eq!(text, "inside");
                        inside += 1;
                    }
                    Err(_) => refused += 1,
                }
            }
        }
        drop(swapper);
        assert!(inside > 100 && refused > 100 && by_name > 0, "all were seen: {inside} {refused} {by_name}");
    }
}
