//! Checks files that influence decisions: configuration, policies and their imports, golden cases, seccomp profiles,
//! keys, tokens, and the state folder. A user who can write such a file decides with the rights of the current user.
//! Therefore the file is only used if it and each folder above it belong to this user or to root, and no other user
//! can write to them. The model is `StrictModes` of ssh.
//!
//! The path to a file is walked folder by folder, each opened below the previous one, and the checked file is the
//! file that is read: the opened file itself. Links are followed and each is checked like a file, so both ends count.
//!
//! May touch: the files to check, `/etc/passwd` and `/etc/group`.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};

/// Maximum files below a folder that influences decisions as a whole.
const MOST_FILES: usize = 10_000;
/// Maximum depth of folders below it.
const DEEPEST: usize = 32;

/// The reason why a file must not influence decisions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not safe to use: {}", wanted.display(), why)]
pub struct Untrusted {
    /// The requested file.
    pub wanted: PathBuf,
    /// The problem, and the file or folder that has it.
    pub why: String,
    /// The remedy.
    pub remedy: String,
}

/// The reason why a file that influences decisions cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Other users can change it.
    #[error("{0}")]
    Untrusted(#[from] Untrusted),
    /// It cannot be read.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Error {
    /// Returns whether the file does not exist.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::NotFound)
    }

    /// Returns the remedy, if other users can change the file.
    pub fn remedy(&self) -> Option<&str> {
        match self {
            Self::Untrusted(untrusted) => Some(&untrusted.remedy),
            Self::Io(_) => None,
        }
    }
}

impl From<rustix::io::Errno> for Error {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Io(error.into())
    }
}

/// Opens a file that influences decisions. It must be an ordinary file, and opening never blocks.
///
/// # Errors
/// An error if it does not exist, is no ordinary file, or can be changed by other users.
pub fn open(path: &Path) -> Result<File, Error> {
    let found = walk(path)?;
    let is_null = FileType::from_raw_mode(found.stat.st_mode) == FileType::CharacterDevice
        && found.stat.st_rdev == rustix::fs::makedev(1, 3);
    // An empty input, as in `--config /dev/null`.
    if !is_null && FileType::from_raw_mode(found.stat.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("it is not a regular file").into());
    }
    Ok(File::from(found.open(OFlags::RDONLY)?))
}

/// Reads a file that influences decisions.
///
/// # Errors
/// The errors of [`open`], and an error if it is larger than `most` bytes.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("it is larger than {most} bytes")).into());
    }
    Ok(bytes)
}

/// Reads a text that influences decisions.
///
/// # Errors
/// The errors of [`read`], and an error if it is not UTF-8.
pub fn read_to_string(path: &Path, most: u64) -> Result<String, Error> {
    let text = String::from_utf8(read(path, most)?);
    text.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text").into())
}

/// Checks a file or folder of any kind, and all folders above it. A missing file is not an error, but the folders on
/// its path are checked.
///
/// # Errors
/// An error if other users can change or create it.
pub fn check(path: &Path) -> Result<(), Error> {
    match walk(path) {
        Ok(_) => Ok(()),
        Err(error) if error.is_missing() => Ok(()),
        // A file that this user cannot access cannot be read either. The read then reports the error.
        Err(Error::Io(error)) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(error),
    }
}

/// Checks a folder, all folders above it, and these names in it, each like [`check`], with one walk to the folder.
///
/// # Errors
/// An error if other users can change or create one of them.
pub fn check_in(folder: &Path, names: &[&str]) -> Result<(), Error> {
    let ignored = |error: &Error| match error {
        Error::Io(error) => matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied),
        Error::Untrusted(_) => false,
    };
    let found = match walk(folder) {
        Err(error) if ignored(&error) => return Ok(()),
        found => found?,
    };
    let (rules, opened) = (Rules::of_process(), found.open(OFlags::PATH | OFlags::DIRECTORY)?);
    for name in names {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let inner = match rustix::fs::openat(&opened, *name, flags, Mode::empty()).map_err(Error::from) {
            Err(error) if ignored(&error) => continue,
            inner => inner?,
        };
        let stat = rustix::fs::fstat(&inner)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
            check(&folder.join(name))?;
        } else {
            rules.hold(&folder.join(name), &found.place.join(name), &inner, &stat)?;
        }
    }
    Ok(())
}

/// Checks a file, or a folder with everything below it, and all folders above. A missing file is not an error, as in
/// [`check`].
///
/// # Errors
/// An error if other users can change a part of it, or if it contains too many files.
pub fn check_all(path: &Path) -> Result<(), Error> {
    let found = match walk(path) {
        Err(error) if error.is_missing() => return Ok(()),
        Err(Error::Io(error)) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
        found => found?,
    };
    if FileType::from_raw_mode(found.stat.st_mode) != FileType::Directory {
        return Ok(());
    }
    let mut left = MOST_FILES;
    let place = found.place.clone();
    below(&Rules::of_process(), path, &place, &found.open(OFlags::RDONLY | OFlags::DIRECTORY)?, (&mut left, DEEPEST))
}

fn below(
    rules: &Rules,
    wanted: &Path,
    place: &Path,
    folder: &OwnedFd,
    (left, deeper): (&mut usize, usize),
) -> Result<(), Error> {
    let too_much = |what: &str| {
        let why = format!("{} {what}", place.display());
        Untrusted { wanted: wanted.to_owned(), why, remedy: "name a smaller folder".into() }
    };
    for entry in rustix::fs::Dir::read_from(folder)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        *left = left.checked_sub(1).ok_or_else(|| too_much(&format!("contains more than {MOST_FILES} files")))?;
        let inner = place.join(name);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = match rustix::fs::openat(folder, name, flags, Mode::empty()) {
            // It has disappeared meanwhile.
            Err(rustix::io::Errno::NOENT) => continue,
            opened => opened?,
        };
        let stat = rustix::fs::fstat(&opened)?;
        rules.hold(wanted, &inner, &opened, &stat)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let deeper = deeper.checked_sub(1).ok_or_else(|| too_much("is nested too deeply"))?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            below(rules, wanted, &inner, &rustix::fs::openat(folder, name, flags, Mode::empty())?, (left, deeper))?;
        }
    }
    Ok(())
}

/// The target of a path.
struct Found {
    /// The folder that contains it, and its name there; none for the root.
    parent: Option<(OwnedFd, OsString)>,
    stat: Stat,
    place: PathBuf,
}

impl Found {
    /// Opens it. It must be the file that was checked.
    fn open(&self, flags: OFlags) -> Result<OwnedFd, Error> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = match &self.parent {
            None => rustix::fs::openat(CWD, "/", flags, Mode::empty())?,
            Some((folder, name)) => rustix::fs::openat(folder, name.as_os_str(), flags, Mode::empty())?,
        };
        let now = rustix::fs::fstat(&opened)?;
        // Only this user and root could have replaced it, as an editor does.
        if (now.st_dev, now.st_ino) != (self.stat.st_dev, self.stat.st_ino) {
            Rules::of_process().hold(&self.place, &self.place, &opened, &now)?;
            if FileType::from_raw_mode(now.st_mode) != FileType::from_raw_mode(self.stat.st_mode) {
                return Err(io::Error::other("it was replaced during the check").into());
            }
        }
        Ok(opened)
    }
}

/// Walks the path to a file, checks each step, and follows links.
fn walk(path: &Path) -> Result<Found, Error> {
    let rules = Rules::of_process();
    let absolute = std::path::absolute(path)?;
    let way = crate::paths::walk(&absolute, &mut |step| rules.hold(path, step.place, step.opened, step.stat))?;
    let (place, stat) = (way.place(), *way.stat());
    Ok(Found { parent: way.into_parent(), stat, place })
}

/// The allowed owners and writers of files that influence decisions.
struct Rules {
    user: u32,
    group: u32,
}

impl Rules {
    fn of_process() -> Self {
        Self { user: rustix::process::geteuid().as_raw(), group: rustix::process::getegid().as_raw() }
    }

    /// Checks that a step on the path to a file is safe.
    fn hold(&self, wanted: &Path, place: &Path, opened: &OwnedFd, stat: &Stat) -> Result<(), Error> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        let shown = place.display();
        let refuse = |why: String, remedy: String| Err(Untrusted { wanted: wanted.to_owned(), why, remedy }.into());
        if stat.st_uid != 0 && stat.st_uid != self.user {
            let (of, us) = (user_name(stat.st_uid), user_name(self.user));
            let flag = if kind == FileType::Symlink { "-h " } else { "" };
            let or_root = if self.user == 0 { "" } else { " or root" };
            let why = format!("{shown} belongs to {of}, but must belong to {us}{or_root}");
            return refuse(why, format!("run `chown {flag}{us} {}`, or use another path", quoted(place)));
        }
        // The mode of a link is meaningless, and a device's mode does not show who controls the data read from it.
        if !matches!(kind, FileType::RegularFile | FileType::Directory) {
            return Ok(());
        }
        let sticky = kind == FileType::Directory && stat.st_mode & 0o1000 != 0;
        let mode = stat.st_mode & 0o7777;
        if sticky {
            return Ok(());
        }
        let others = mode & 0o002 != 0;
        let group = mode & 0o020 != 0 && (!self.is_private(stat.st_gid) || has_acl(opened));
        if others || group {
            let (who, flag) = match (others, mode & 0o020 != 0) {
                (true, true) => ("all users".to_owned(), "go-w"),
                (true, false) => ("all users".to_owned(), "o-w"),
                _ => (format!("the group {}", group_name(stat.st_gid)), "g-w"),
            };
            let why = format!("{shown} (mode {mode:04o}) is writable by {who}");
            return refuse(why, format!("run `chmod {flag} {}`", quoted(place)));
        }
        Ok(())
    }

    /// Returns whether a group belongs to this user alone. With a umask of 002, new files are writable by that group.
    fn is_private(&self, group: u32) -> bool {
        if group != self.group {
            return false;
        }
        let (passwd, groups) = (account_file("/etc/passwd"), account_file("/etc/group"));
        is_private(&passwd, &groups, self.user, group)
    }
}

fn is_private(passwd: &str, groups: &str, user: u32, group: u32) -> bool {
    let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
    let number = |fields: &[String], at: usize| fields.get(at).and_then(|field| field.parse::<u32>().ok());
    let users: Vec<Vec<String>> = passwd.lines().map(fields).collect();
    let Some(name) = users.iter().find(|fields| number(fields, 2) == Some(user)).and_then(|fields| fields.first())
    else {
        return false;
    };
    // Other users with this primary group.
    if users.iter().any(|fields| number(fields, 3) == Some(group) && number(fields, 2) != Some(user)) {
        return false;
    }
    let of_group: Vec<Vec<String>> =
        groups.lines().map(fields).filter(|fields| number(fields, 2) == Some(group)).collect();
    let alone = |fields: &Vec<String>| {
        let members = fields.get(3).map_or("", String::as_str);
        fields.first() == Some(name) && members.split(',').all(|member| member.is_empty() || member == name)
    };
    !of_group.is_empty() && of_group.iter().all(alone)
}

fn account_file(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Returns whether an access control list extends the group's bits.
fn has_acl(opened: &OwnedFd) -> bool {
    let mut buffer = [0; 4096];
    let place = format!("/proc/self/fd/{}", opened.as_fd().as_raw_fd());
    !matches!(
        rustix::fs::getxattr(place, "system.posix_acl_access", &mut buffer[..]),
        Err(rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP)
    )
}

fn name_in(file: &str, number: u32) -> Option<String> {
    let text = account_file(file);
    let mut named = text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, id) = (fields.next()?, fields.nth(1)?);
        (id.parse() == Ok(number)).then(|| name.to_owned())
    });
    named.next()
}

fn user_name(user: u32) -> String {
    name_in("/etc/passwd", user).unwrap_or_else(|| user.to_string())
}

fn group_name(group: u32) -> String {
    name_in("/etc/group", group).unwrap_or_else(|| group.to_string())
}

/// Quotes a path for a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// Returns whether a path leads to an existing file. Links are followed.
pub fn exists(path: &Path) -> bool {
    rustix::fs::statat(CWD, path, AtFlags::empty()).is_ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("wharf-trust-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&dir);
            std::fs::create_dir_all(dir.join("a/b")).unwrap();
            std::fs::write(dir.join("a/b/file"), "text").unwrap();
            let this = Self(dir);
            this.mode("a/b/file", 0o644);
            this.mode("a/b", 0o755);
            this.mode("a", 0o755);
            this
        }

        fn at(&self, path: &str) -> PathBuf {
            self.0.join(path)
        }

        fn mode(&self, path: &str, mode: u32) {
            std::fs::set_permissions(self.at(path), std::fs::Permissions::from_mode(mode)).unwrap();
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[track_caller]
    fn refused(path: &Path, words: &[&str]) {
        let error = read(path, 100).unwrap_err();
        let Error::Untrusted(untrusted) = &error else { panic!("{error}") };
        let text = format!("{untrusted}; {}", untrusted.remedy);
        for word in words {
            assert!(text.contains(word), "{word}: {text}");
        }
        assert!(check(path).is_err(), "{text}");
    }

    #[test]
    fn names_in_a_folder_are_checked_like_files_by_themselves() {
        let folder = Folder::new("names");
        let names = ["file", "link", "missing"];
        symlink(folder.at("a/target"), folder.at("a/b/link")).unwrap();
        std::fs::write(folder.at("a/target"), "text").unwrap();
        folder.mode("a/target", 0o644);
        assert!(check_in(&folder.at("a/b"), &names).is_ok());
        assert!(check_in(&folder.at("none"), &names).is_ok());
        for (path, bad, good) in [("a/b/file", 0o646, 0o644), ("a/target", 0o646, 0o644), ("a/b", 0o777, 0o755)] {
            folder.mode(path, bad);
            let error = check_in(&folder.at("a/b"), &names).unwrap_err();
            assert!(matches!(&error, Error::Untrusted(found) if found.why.contains(path)), "{error}");
            folder.mode(path, good);
        }
        chown(folder.at("a/b/file"), Some(1_577), None).unwrap();
        assert!(check_in(&folder.at("a/b"), &names).unwrap_err().to_string().contains("belongs to"));
    }

    #[test]
    fn a_file_that_others_can_write_or_replace_is_refused_with_what_to_do() {
        let folder = Folder::new("modes");
        let file = folder.at("a/b/file");
        assert_eq!(read(&file, 100).unwrap(), b"text");
        folder.mode("a/b/file", 0o646);
        refused(&file, &["a/b/file (mode 0646)", "all users", "chmod o-w"]);
        folder.mode("a/b/file", 0o644);
        folder.mode("a", 0o777);
        refused(&file, &["/a (mode 0777)", "chmod go-w"]);
        // Where only the owner may replace a file, its safety depends only on the file itself.
        folder.mode("a", 0o1777);
        assert!(read(&file, 100).is_ok());
        folder.mode("a/b/file", 0o666);
        refused(&file, &["a/b/file"]);
    }

    #[test]
    fn both_ends_of_a_link_and_the_folders_above_each_count() {
        let folder = Folder::new("links");
        std::fs::create_dir(folder.at("c")).unwrap();
        symlink("../a/b", folder.at("c/link")).unwrap();
        let file = folder.at("c/link/file");
        assert_eq!(read(&file, 100).unwrap(), b"text");
        folder.mode("a", 0o777);
        refused(&file, &["/a (mode 0777)"]);
        folder.mode("a", 0o755);
        folder.mode("c", 0o777);
        refused(&file, &["/c (mode 0777)"]);
        symlink("loop", folder.at("loop")).unwrap();
        assert!(matches!(read(&folder.at("loop"), 100), Err(Error::Io(_))));
    }

    #[test]
    fn what_another_user_owns_is_refused() {
        if rustix::process::geteuid().as_raw() != 0 {
            return;
        }
        let folder = Folder::new("owners");
        let file = folder.at("a/b/file");
        chown(&file, Some(65_534), None).unwrap();
        refused(&file, &["belongs to", "must belong to root", "chown root"]);
        chown(&file, Some(0), None).unwrap();
        chown(folder.at("a"), Some(65_534), None).unwrap();
        refused(&file, &["/a belongs to"]);
        chown(folder.at("a"), Some(0), None).unwrap();
        folder.mode("a", 0o1777);
        symlink("b/file", folder.at("a/link")).unwrap();
        rustix::fs::chownat(
            CWD,
            folder.at("a/link"),
            Some(rustix::fs::Uid::from_raw(65_534)),
            None,
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .unwrap();
        refused(&folder.at("a/link"), &["/a/link belongs to", "chown -h root"]);
    }

    #[test]
    fn a_folder_that_decides_is_checked_to_its_depth() {
        let folder = Folder::new("deep");
        assert!(check_all(&folder.at("a")).is_ok());
        assert!(check_all(&folder.at("none")).is_ok());
        folder.mode("a/b/file", 0o666);
        assert!(matches!(check_all(&folder.at("a")), Err(Error::Untrusted(_))));
    }

    #[test]
    fn neither_a_pipe_nor_a_folder_nor_a_large_file_is_read_and_none_waits() {
        let folder = Folder::new("kinds");
        rustix::fs::mknodat(CWD, folder.at("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        for path in ["pipe", "a", "none", "a/b/file/x"] {
            assert!(matches!(read(&folder.at(path), 100), Err(Error::Io(_))), "{path}");
        }
        assert!(matches!(read(&folder.at("a/b/file"), 3), Err(Error::Io(_))));
        assert!(check(&folder.at("none/at/all")).is_ok());
        assert_eq!(read(Path::new("/dev/null"), 100).unwrap(), b"");
    }

    #[test]
    fn a_group_of_its_own_is_one_that_nobody_else_is_in() {
        let passwd = "root:x:0:0::/:/bin/sh\nada:x:1000:1000::/:/bin/sh\nbob:x:1001:1001::/:/bin/sh\n";
        let group = "root:x:0:\nada:x:1000:ada\nbob:x:1001:\nstaff:x:50:ada\n";
        assert!(is_private(passwd, group, 1000, 1000));
        assert!(is_private(passwd, group, 0, 0));
        assert!(!is_private(passwd, group, 1000, 50));
        assert!(!is_private(passwd, "ada:x:1000:bob\n", 1000, 1000));
        assert!(!is_private("ada:x:1000:1000::\nbob:x:1001:1000::\n", group, 1000, 1000));
        assert!(!is_private(passwd, "", 1000, 1000));
    }
}
