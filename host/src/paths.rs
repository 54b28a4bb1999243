//! Resolves host paths and identifies the files at their ends.
//!
//! A path is text until a process resolves it, and two processes may resolve the same text differently:
//! `/proc/self/cwd` is another folder for Wharf than for the engine. Therefore a path for the engine is resolved
//! here, once, and only the resolved form is passed on. Its target is recorded by device and inode, so that another
//! folder in the same place is detected.
//!
//! The crate `cap-std` has no such walk. It keeps a path below a folder and exposes none of its steps, while here the
//! path starts at the root, and each step, including links, is open when it is checked (`trust` checks its owner and
//! mode, [`resolve`] its file system).
//!
//! May touch: metadata of host files. It neither reads nor writes their contents.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// Maximum number of links to follow, equal to the kernel's own limit.
const LINKS: u32 = 40;

/// Folders with files from the kernel, or for devices; nothing below them may be the source of a mount.
const KERNEL: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Identity of the file at the end of a path.
///
/// A device's number may change after a reboot, but inodes stay, so the boot is stored with them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Number of the device, from `stat`.
    pub device: u64,
    /// Number of the inode on that device.
    pub inode: u64,
    /// The kernel's id of the boot during which both were read.
    #[serde(default)]
    pub boot: String,
}

impl Identity {
    /// Returns whether both are the same file. Devices are compared only within one boot.
    pub fn is(&self, other: &Self) -> bool {
        self.inode == other.inode && (self.device == other.device || self.boot != other.boot)
    }

    pub(crate) fn of(stat: &rustix::fs::Stat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino, boot: boot() }
    }
}

fn boot() -> String {
    static BOOT: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let read = || std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
    BOOT.get_or_init(read).clone()
}

/// The target of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The absolute path without links and dots.
    pub path: PathBuf,
    /// The identity of the file.
    pub identity: Identity,
    /// Device and inode of all its ancestor folders, root first, and of the file itself, last.
    above: Vec<(u64, u64)>,
    /// Whether it is a folder.
    pub is_folder: bool,
    /// Whether it is a socket.
    pub is_socket: bool,
    /// Whether it is a file or a folder, not a socket, pipe or device.
    pub is_plain: bool,
}

impl Resolved {
    /// Returns whether it is the other file or lies within it, under any name.
    pub fn is_within(&self, other: &Self) -> bool {
        self.above.contains(&(other.identity.device, other.identity.inode))
    }
}

/// The reason why a path cannot be resolved.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The path does not start at the root, so its meaning depends on the process.
    #[error("the path is not absolute")]
    NotAbsolute,
    /// It leads through files of the kernel, which have another meaning in another process.
    #[error("it leads through '{0}', which differs between processes")]
    Kernel(PathBuf),
    /// More links than the kernel follows.
    #[error("it has too many links")]
    Links,
    /// It cannot be read.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl Error {
    /// Returns whether the file does not exist.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == std::io::ErrorKind::NotFound)
    }
}

/// A folder, file or link on the way to a file.
pub(crate) struct Step<'a> {
    /// Its path, without links and dots.
    pub(crate) place: &'a Path,
    /// A handle for metadata only; a link itself is open, not its target.
    pub(crate) opened: &'a OwnedFd,
    pub(crate) stat: &'a Stat,
}

/// A fully walked path: everything on the way is open.
pub(crate) struct Way {
    root: (OwnedFd, Stat),
    /// From below the root to the end, without links.
    walked: Vec<(OsString, OwnedFd, Stat)>,
}

impl Way {
    /// Returns the path without links and dots.
    pub(crate) fn place(&self) -> PathBuf {
        joined(self.walked.iter().map(|(name, ..)| name), None)
    }

    /// Returns device and inode of everything on the way, root first and end last.
    fn files(&self) -> Vec<(u64, u64)> {
        let stats = [&self.root.1].into_iter().chain(self.walked.iter().map(|(_, _, stat)| stat));
        stats.map(|stat| (stat.st_dev, stat.st_ino)).collect()
    }

    /// Returns the metadata of the end.
    pub(crate) fn stat(&self) -> &Stat {
        self.walked.last().map_or(&self.root.1, |(_, _, stat)| stat)
    }

    /// Returns the folder of the end, and its name there; none for the root.
    pub(crate) fn into_parent(mut self) -> Option<(OwnedFd, OsString)> {
        let (name, ..) = self.walked.pop()?;
        Some((self.walked.pop().map_or(self.root.0, |(_, folder, _)| folder), name))
    }
}

/// Walks the path to a file, part by part on open descriptors, so that links swapped meanwhile lead nowhere else.
/// Each step, including the root and links, is checked before it is used.
///
/// # Errors
/// The error of a check, an error for a missing file, and `ELOOP` for more links than the kernel follows.
pub(crate) fn walk<E: From<Errno>>(path: &Path, check: &mut dyn FnMut(&Step<'_>) -> Result<(), E>) -> Result<Way, E> {
    let look = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::open("/", look | OFlags::DIRECTORY, Mode::empty())?;
    let stat = rustix::fs::fstat(&root)?;
    check(&Step { place: Path::new("/"), opened: &root, stat: &stat })?;
    let mut way = Way { root: (root, stat), walked: Vec::new() };
    // The remaining parts of the path, next one last.
    let mut ahead: Vec<OsString> = parts(path);
    ahead.reverse();
    let mut links = 0;
    while let Some(part) = ahead.pop() {
        if FileType::from_raw_mode(way.stat().st_mode) != FileType::Directory {
            return Err(Errno::NOTDIR.into());
        }
        if part == ".." {
            way.walked.pop();
            continue;
        }
        let folder = way.walked.last().map_or(way.root.0.as_fd(), |(_, folder, _)| folder.as_fd());
        let opened = rustix::fs::openat(folder, &part, look, Mode::empty())?;
        let stat = rustix::fs::fstat(&opened)?;
        let place = joined(way.walked.iter().map(|(name, ..)| name), Some(&part));
        check(&Step { place: &place, opened: &opened, stat: &stat })?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            way.walked.push((part, opened, stat));
            continue;
        }
        links += 1;
        if links > LINKS {
            return Err(Errno::LOOP.into());
        }
        let target = rustix::fs::readlinkat(&opened, "", Vec::new())?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        if target.is_absolute() {
            way.walked.clear();
        }
        ahead.extend(parts(&target).into_iter().rev());
    }
    Ok(way)
}

/// Resolves a path like `walk`. Links in `/proc`, `/sys` or `/dev` are not followed, and paths in these folders are
/// not resolved.
///
/// # Errors
/// See [`Error`].
pub fn resolve(path: &Path) -> Result<Resolved, Error> {
    if !path.is_absolute() {
        return Err(Error::NotAbsolute);
    }
    // All files of one device are in the same kind of file system.
    let mut device = None;
    let way = walk(path, &mut |step| {
        let is_root = step.place == Path::new("/");
        let known = device.replace(step.stat.st_dev) == Some(step.stat.st_dev);
        match !is_root && (is_kernels(step.place) || !known && is_proc(step.opened)?) {
            true => Err(Error::Kernel(step.place.to_owned())),
            false => Ok(()),
        }
    })?;
    let kind = FileType::from_raw_mode(way.stat().st_mode);
    Ok(Resolved {
        path: way.place(),
        above: way.files(),
        identity: Identity::of(way.stat()),
        is_folder: kind == FileType::Directory,
        is_socket: kind == FileType::Socket,
        is_plain: matches!(kind, FileType::Directory | FileType::RegularFile),
    })
}

/// Returns the identity of the file at a path, without following its last part.
///
/// # Errors
/// An error if it cannot be read.
pub fn identity(path: &Path) -> std::io::Result<Identity> {
    let stat = rustix::fs::statat(rustix::fs::CWD, path, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(Identity::of(&stat))
}

/// Returns whether a path is in one of the kernel's folders.
pub fn is_kernels(path: &Path) -> bool {
    KERNEL.iter().any(|folder| path.starts_with(folder))
}

fn parts(path: &Path) -> Vec<OsString> {
    let part = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(part).collect()
}

fn joined<'a>(walked: impl Iterator<Item = &'a OsString>, last: Option<&OsString>) -> PathBuf {
    let mut path = PathBuf::from("/");
    path.extend(walked);
    path.extend(last);
    path
}

fn is_proc(file: &OwnedFd) -> Result<bool, Error> {
    const MAGIC: [i64; 4] = [
        0x9fa0,      // proc
        0x6265_6572, // sysfs
        0x6367_7270, // cgroup2
        0x27_e0eb,   // cgroup
    ];
    let system = rustix::fs::fstatfs(file)?;
    #[allow(clippy::unnecessary_cast)] // Its width differs between machines.
    Ok(MAGIC.contains(&(system.f_type as i64)))
}

impl From<Errno> for Error {
    fn from(error: Errno) -> Self {
        // Each step opens a link itself, so this error only means too many links.
        if error == Errno::LOOP { Self::Links } else { Self::Io(error.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().canonicalize().unwrap().join(format!("wharf-paths-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(path.join("a/b")).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn links_and_dots_are_gone_from_a_resolved_path() {
        let folder = Folder::new("links");
        let at = |path: &str| folder.0.join(path);
        symlink("a/b", at("relative")).unwrap();
        symlink(at("a"), at("absolute")).unwrap();
        symlink("../a/../relative", at("a/twice")).unwrap();
        for path in ["relative", "absolute/b", "a/twice", "a/./b/../../a/b/", "absolute/twice"] {
            let found = resolve(&at(path)).unwrap();
            assert_eq!(found.path, at("a/b"), "{path}");
            assert!(found.identity.is(&identity(&at("a/b")).unwrap()) && found.is_folder && found.is_plain, "{path}");
        }
        assert_eq!(resolve(Path::new("/..//.")).unwrap().path, Path::new("/"));
    }

    #[test]
    fn what_the_kernel_makes_is_no_place_however_it_is_reached() {
        let folder = Folder::new("kernel");
        let at = |path: &str| folder.0.join(path);
        symlink("/proc/self/cwd", at("link")).unwrap();
        symlink("link", at("again")).unwrap();
        let written = [
            "/proc/self/cwd/srv",
            "/proc/self/root/etc",
            "/proc/1/cwd",
            "/proc",
            "/sys",
            "/dev/null",
            "/dev/shm",
            "/dev/fd/0",
        ];
        let linked = [at("link"), at("again"), at("link/x"), at("a/../again")];
        for path in written.iter().map(PathBuf::from).chain(linked) {
            assert!(matches!(resolve(&path), Err(Error::Kernel(_))), "{}: {:?}", path.display(), resolve(&path));
        }
    }

    #[test]
    fn a_path_that_leads_nowhere_says_why() {
        let folder = Folder::new("nowhere");
        let at = |path: &str| folder.0.join(path);
        symlink("loop", at("loop")).unwrap();
        std::fs::write(at("file"), "x").unwrap();
        assert!(matches!(resolve(&at("loop")), Err(Error::Links)));
        assert!(resolve(&at("no")).unwrap_err().is_missing());
        assert!(!resolve(&at("file/x")).unwrap_err().is_missing());
        assert!(!resolve(&at("file/..")).unwrap_err().is_missing());
        assert!(matches!(resolve(Path::new("a")), Err(Error::NotAbsolute)));
        let _listener = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        let socket = resolve(&at("socket")).unwrap();
        assert!(socket.is_socket && !socket.is_plain && !resolve(&at("file")).unwrap().is_socket);
    }

    #[test]
    fn another_folder_in_the_same_place_is_another_one_and_a_boot_may_renumber_devices() {
        let folder = Folder::new("identity");
        let at = |path: &str| folder.0.join(path);
        let before = identity(&at("a")).unwrap();
        std::fs::rename(at("a"), at("old")).unwrap();
        std::fs::create_dir(at("a")).unwrap();
        assert!(!before.is(&identity(&at("a")).unwrap()) && before.is(&identity(&at("old")).unwrap()));
        let renumbered = Identity { device: before.device + 1, ..before.clone() };
        assert!(!before.is(&renumbered));
        assert!(before.is(&Identity { boot: "another".into(), ..renumbered }));
    }
}
