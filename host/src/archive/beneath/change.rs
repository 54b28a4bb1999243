//! Writes below a folder that other users and processes may also write. Every object is addressed by an open folder
//! handle and one name in it, and a link in place of that name is never followed.

use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::Folder;

impl Folder {
    /// Creates a subfolder with these permission bits, subject to the umask, and opens it.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if the name is taken.
    pub fn make_folder(&self, name: &OsStr, mode: u32) -> io::Result<Self> {
        rustix::fs::mkdirat(&self.held, name, Mode::from_raw_mode(mode))?;
        self.child(name)
    }

    /// Opens a subfolder, creating it if it does not exist.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotADirectory`] if another kind of object is there, including a link.
    pub fn folder_or_new(&self, name: &OsStr) -> io::Result<Self> {
        match rustix::fs::mkdirat(&self.held, name, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => self.child(name),
            Err(error) => Err(error.into()),
        }
    }

    /// Creates a file in this folder that only its owner can read. It replaces an object with this name unless that
    /// is a folder.
    ///
    /// # Errors
    /// The errors of the file system.
    pub fn make_file(&self, name: &OsStr) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.replacing(name, || rustix::fs::openat(&self.held, name, flags, Mode::RUSR | Mode::WUSR)).map(File::from)
    }

    /// Creates a link in this folder with the given time, in seconds. It replaces an object with this name unless
    /// that is a folder.
    ///
    /// # Errors
    /// The errors of the file system.
    pub fn make_link(&self, name: &OsStr, target: &Path, time: Option<i64>) -> io::Result<()> {
        self.replacing(name, || rustix::fs::symlinkat(target, &self.held, name))?;
        let Some(tv_sec) = time else { return Ok(()) };
        let time = Timespec { tv_sec, tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        match rustix::fs::utimensat(&self.held, name, &times, AtFlags::SYMLINK_NOFOLLOW) {
            // A file system that stores no times for links has none to set.
            Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Creates a hard link in this folder to a file in another folder. It replaces an object with this name unless
    /// that is a folder.
    ///
    /// # Errors
    /// The errors of the file system.
    pub fn make_hard_link(&self, name: &OsStr, from: &Self, file: &OsStr) -> io::Result<()> {
        self.replacing(name, || rustix::fs::linkat(&from.held, file, &self.held, name, AtFlags::empty()))
    }

    fn replacing<T>(&self, name: &OsStr, make: impl Fn() -> rustix::io::Result<T>) -> io::Result<T> {
        match make() {
            Err(Errno::EXIST) => {
                rustix::fs::unlinkat(&self.held, name, AtFlags::empty())?;
                Ok(make()?)
            }
            made => Ok(made?),
        }
    }

    /// Sets this folder's permission bits.
    ///
    /// # Errors
    /// An error if the folder belongs to another user.
    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        // The descriptor only refers to the folder, and the kernel can change such a file only through this path.
        std::fs::set_permissions(format!("/proc/self/fd/{}", self.held.as_raw_fd()), Permissions::from_mode(mode))
    }

    /// Opens a folder below this one without following links; none if there is no such folder.
    ///
    /// # Errors
    /// The errors of the file system.
    pub fn plain_folder(&self, path: &Path) -> io::Result<Option<Self>> {
        let mut at = self.again()?;
        for name in path.components() {
            at = match at.child(name.as_os_str()) {
                Ok(next) => next,
                Err(error) => {
                    return match Errno::from_io_error(&error) {
                        Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
                        _ => Err(error),
                    };
                }
            };
        }
        Ok(Some(at))
    }

    /// Moves an object from this folder to another one. It replaces an object with the new name unless that is a
    /// folder.
    ///
    /// # Errors
    /// The errors of the file system, also if a non-empty folder has the name.
    pub fn rename(&self, name: &OsStr, to: &Self, new: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.held, name, &to.held, new)?)
    }

    /// Removes an object from this folder, with its contents. A missing object is not an error.
    ///
    /// # Errors
    /// The errors of the file system.
    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        let gone = |result: rustix::io::Result<()>| match result {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        };
        let inner = match self.child(name) {
            Ok(inner) => inner,
            Err(error) => {
                return match Errno::from_io_error(&error) {
                    Some(Errno::NOENT) => Ok(()),
                    Some(Errno::NOTDIR | Errno::LOOP) => gone(rustix::fs::unlinkat(&self.held, name, AtFlags::empty())),
                    _ => Err(error),
                };
            }
        };
        for entry in inner.names(usize::MAX)? {
            inner.remove(&entry)?;
        }
        gone(rustix::fs::unlinkat(&self.held, name, AtFlags::REMOVEDIR))
    }
}
