//! The actual mounts of a container, from the kernel. The engine only reports the requested mounts.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;

use super::Docker;
use super::connect::Endpoint;
use super::error::Result;
use crate::paths::Identity;

/// The kernel's view of a container's mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mounted {
    /// The file or folder at the root of each mount.
    Seen(Vec<Identity>),
    /// The container has no process any more.
    Ended,
    /// This machine's kernel does not show the mounts, or not to this user.
    Hidden,
}

impl Docker {
    /// Reads the mount table of a container that runs on this machine.
    ///
    /// # Errors
    /// The errors of an inspection.
    pub async fn mounted(&self, id: &str) -> Result<Mounted> {
        if !self.local_files || !matches!(self.http().endpoint, Endpoint::Unix(_)) {
            return Ok(Mounted::Hidden);
        }
        let (container, process) = self.inspect_with_pid(id).await?;
        let Some(process) = process else { return Ok(Mounted::Ended) };
        let is_its = |process: u32| {
            let groups = std::fs::read_to_string(format!("/proc/{process}/cgroup"))?;
            Ok::<_, std::io::Error>(groups.contains(&container.id))
        };
        match is_its(process) {
            // Another process has this number: the engine has its own kernel, or another PID namespace.
            Ok(false) => return Ok(Mounted::Hidden),
            Ok(true) => {}
            Err(_) => return self.ended_or_hidden(id).await,
        }
        // A rename between both readings looks like a missing mount, so read again.
        let mut table = None;
        for _ in 0..3 {
            match read(process) {
                Ok((found, true)) => return Ok(Mounted::Seen(found)),
                Ok((found, false)) => table = Some(found),
                Err(_) => return self.ended_or_hidden(id).await,
            }
        }
        Ok(table.map_or(Mounted::Hidden, Mounted::Seen))
    }

    async fn ended_or_hidden(&self, id: &str) -> Result<Mounted> {
        let (_, process) = self.inspect_with_pid(id).await?;
        Ok(if process.is_none() { Mounted::Ended } else { Mounted::Hidden })
    }
}

/// Returns the roots of a process's mounts, and whether all of them could be opened.
fn read(process: u32) -> rustix::io::Result<(Vec<Identity>, bool)> {
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::DIRECTORY;
    let root = rustix::fs::open(format!("/proc/{process}/root"), flags, Mode::empty())?;
    let text = std::fs::read_to_string(format!("/proc/{process}/mountinfo"))
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let (mut found, mut whole) = (Vec::new(), true);
    for (number, point) in points(&text) {
        match root_of(&root, &point, number) {
            Ok(identity) => found.push(identity),
            Err(error @ (Errno::NOSYS | Errno::PERM | Errno::ACCESS)) => return Err(error),
            // A mount covered by another is unreachable, for the container too.
            Err(_) => whole = false,
        }
    }
    Ok((found, whole))
}

/// Opens a mount by its path in the container's tree, without following links, and verifies that it is that mount.
fn root_of(root: &OwnedFd, point: &std::path::Path, number: u64) -> rustix::io::Result<Identity> {
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::openat2(root.as_fd(), point, flags, Mode::empty(), inside)?;
    let wanted = StatxFlags::INO | StatxFlags::from_bits_retain(MNT_ID);
    let seen = rustix::fs::statx(&file, "", AtFlags::EMPTY_PATH, wanted)?;
    if seen.stx_mask & MNT_ID != 0 && seen.stx_mnt_id != number {
        return Err(Errno::STALE);
    }
    Ok(Identity::of(&rustix::fs::fstat(&file)?))
}

/// `STATX_MNT_ID`, since Linux 5.8.
const MNT_ID: u32 = 0x1000;

/// Parses a mount table (`proc(5)`, mountinfo) and returns number and path of each mount. It skips the kernel's own
/// file systems, which hold nothing of the host. Of several mounts at one path, only the last is reachable.
fn points(text: &str) -> Vec<(u64, PathBuf)> {
    const KERNELS: [&str; 8] = ["proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue", "securityfs", "debugfs"];
    let mut last: BTreeMap<PathBuf, u64> = BTreeMap::new();
    for line in text.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let kind = after.split(' ').next().unwrap_or_default();
        let mut fields = before.split(' ');
        let (number, point) = (fields.next().and_then(|number| number.parse().ok()), fields.nth(3));
        let (Some(number), Some(point)) = (number, point) else { continue };
        if !KERNELS.contains(&kind) {
            last.insert(PathBuf::from(unescaped(point)), number);
        }
    }
    last.into_iter().map(|(point, number)| (number, point)).collect()
}

/// Decodes the three octal digits that the kernel writes for spaces, tabs, newlines and backslashes.
fn unescaped(text: &str) -> std::ffi::OsString {
    use std::os::unix::ffi::OsStringExt;
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let [first, tail @ ..] = rest {
        let octal = tail.get(..3).and_then(|three| u8::from_str_radix(std::str::from_utf8(three).ok()?, 8).ok());
        match (first, octal) {
            (b'\\', Some(byte)) => {
                bytes.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    std::ffi::OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_table_gives_numbers_and_paths_as_they_are() {
        let table = "\
700 600 0:49 / / rw,relatime master:1 - overlay overlay rw\n\
701 700 0:52 / /proc rw - proc proc rw\n\
702 700 254:0 /srv/a\\040b /work\\040space\\134x rw,relatime - ext4 /dev/vda rw\n\
703 702 254:0 /srv/c /work\\040space\\134x rw,relatime - ext4 /dev/vda rw\n\
nonsense\n";
        let found = points(table);
        assert_eq!(found, [(700, PathBuf::from("/")), (703, PathBuf::from("/work space\\x"))]);
    }

    #[test]
    fn the_mounts_of_this_process_are_seen() {
        let (found, _) = read(std::process::id()).unwrap();
        let root = crate::paths::identity(std::path::Path::new("/")).unwrap();
        assert!(found.iter().any(|one| one.is(&root)), "{found:?}");
    }
}
