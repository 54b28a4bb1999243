//! The Unix socket. It is closed to other users, is never bound through a link, and never replaces a live socket.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tokio::net::{UnixListener, UnixStream};

/// The time to wait for another process that takes a socket in the same folder, and for an answer of the existing
/// socket.
const PATIENCE: Duration = Duration::from_secs(2);

/// The first file descriptor that a service manager passes.
const FIRST: i32 = 3;

/// The reason that a socket is unavailable.
#[derive(Debug)]
pub(in crate::api) struct Refused {
    pub(in crate::api) message: String,
    pub(in crate::api) remedy: String,
}

/// A listening socket; dropping it removes its file.
#[derive(Debug)]
pub(in crate::api) struct Socket {
    listener: UnixListener,
    /// The file if this process made it, with its device and inode.
    own: Option<(PathBuf, (u64, u64))>,
}

impl Socket {
    /// Binds the socket. It must be called within the runtime.
    pub(in crate::api) fn claim(path: &Path) -> Result<Self, Refused> {
        let refuse = |why: String, remedy: &str| Refused {
            message: format!("the API cannot listen on '{}': {why}", path.display()),
            remedy: remedy.to_owned(),
        };
        let elsewhere = "choose another path in api.socket, or turn the API off with api.enabled = false";
        let failed = |error: std::io::Error| refuse(error.to_string(), elsewhere);
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let place = File::open(folder).map_err(failed)?;
        let about = place.metadata().map_err(failed)?;
        if !is_safe_folder(about.mode(), about.uid(), own_uid()) {
            let why = format!("other users can write to the folder '{}', or own it", folder.display());
            return Err(refuse(why, "use a folder of your own that only you can write to"));
        }
        // Of two concurrent processes, the second sees the socket of the first. The lock on the folder is released at
        // the end.
        if !locked(&place).map_err(failed)? {
            return Err(refuse("another process is replacing a socket in that folder".to_owned(), "try again"));
        }
        match std::fs::symlink_metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
            Ok(there) if !there.file_type().is_socket() => {
                return Err(refuse("the path exists, and is not a socket".to_owned(), elsewhere));
            }
            Ok(there) if there.uid() != own_uid() => {
                return Err(refuse("the path is a socket of another user".to_owned(), elsewhere));
            }
            Ok(_) if lives(path) => {
                return Err(refuse("another process listens on it".to_owned(), elsewhere));
            }
            // The socket of a dead process.
            Ok(_) => {}
        }
        // It is closed to others before it moves to its place.
        let aside = folder.join(format!(".w{}", std::process::id()));
        let _ = std::fs::remove_file(&aside);
        let listener = bind_closed(&aside, path).inspect_err(|_| {
            let _ = std::fs::remove_file(&aside);
        });
        let listener = listener.map_err(failed)?;
        let about = std::fs::symlink_metadata(path).map_err(failed)?;
        Ok(Self { listener, own: Some((path.to_path_buf(), (about.dev(), about.ino()))) })
    }

    /// Returns the socket that a service manager passes, if it does, and its address; see sd_listen_fds(3). The manager
    /// owns the file. It must be called within the runtime.
    pub(in crate::api) fn inherited() -> Result<Option<(Self, String)>, Refused> {
        let refuse = |why: String| Refused {
            message: format!("cannot use the socket of the service manager: {why}"),
            remedy: "pass exactly one listening Unix socket, or none".into(),
        };
        let env = |name: &str| std::env::var(name).ok();
        let Some(count) = handed_down(env, std::process::id()) else { return Ok(None) };
        if count != 1 {
            return Err(refuse(format!("there are {count}")));
        }
        // The kernel makes a copy of the descriptor. The descriptor's number is not owned by this code, but the copy
        // is.
        let copy = rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty())
            .and_then(|own| rustix::process::pidfd_getfd(own, FIRST, rustix::process::PidfdGetfdFlags::empty()))
            .map_err(|error| refuse(error.to_string()))?;
        let listens = rustix::net::sockopt::socket_acceptconn(&copy).map_err(|error| refuse(error.to_string()))?;
        let domain = rustix::net::sockopt::socket_domain(&copy).map_err(|error| refuse(error.to_string()))?;
        if !listens || domain != rustix::net::AddressFamily::UNIX {
            return Err(refuse("it is not a listening Unix socket".into()));
        }
        let listener = std::os::unix::net::UnixListener::from(copy);
        let place = listener.local_addr().ok().and_then(|address| address.as_pathname().map(Path::to_path_buf));
        let listen = || {
            listener.set_nonblocking(true)?;
            UnixListener::from_std(listener)
        };
        let listener = listen().map_err(|error| refuse(error.to_string()))?;
        let place = place.map_or_else(|| "from the service manager".to_owned(), |path| path.display().to_string());
        Ok(Some((Self { listener, own: None }, place)))
    }

    /// Accepts the next connection of a permitted user; returns it with the user ID.
    pub(in crate::api) async fn accept(&self) -> std::io::Result<(UnixStream, u32)> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            let uid = stream.peer_cred()?.uid();
            if may_call(uid, own_uid()) {
                return Ok((stream, uid));
            }
            tracing::warn!("api: a connection of the user {uid} was refused");
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let Some((path, identity)) = &self.own else { return };
        // Another process may have replaced the file.
        let same = std::fs::symlink_metadata(path).is_ok_and(|now| (now.dev(), now.ino()) == *identity);
        if same && let Err(error) = std::fs::remove_file(path) {
            tracing::warn!("api: cannot remove '{}': {error}", path.display());
        }
    }
}

fn bind_closed(aside: &Path, path: &Path) -> std::io::Result<UnixListener> {
    let listener = std::os::unix::net::UnixListener::bind(aside)?;
    std::fs::set_permissions(aside, std::fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    // The rename replaces the old file atomically, and does not follow links.
    std::fs::rename(aside, path)?;
    Ok(listener)
}

/// Returns the number of descriptors that a service manager passes to this process, if it does.
fn handed_down(env: impl Fn(&str) -> Option<String>, own: u32) -> Option<u32> {
    let ours = env("LISTEN_PID")?.parse() == Ok(own);
    env("LISTEN_FDS")?.parse().ok().filter(|count| ours && *count > 0)
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Returns whether a user may connect: the same user, or root.
fn may_call(uid: u32, own: u32) -> bool {
    uid == own || uid == 0
}

/// Returns whether no other user can replace a file of this user in the folder.
fn is_safe_folder(mode: u32, owner: u32, own: u32) -> bool {
    (owner == own || owner == 0) && (mode & 0o022 == 0 || mode & 0o1000 != 0)
}

fn locked(folder: &File) -> std::io::Result<bool> {
    let begin = Instant::now();
    loop {
        match folder.try_lock() {
            Ok(()) => return Ok(true),
            Err(std::fs::TryLockError::WouldBlock) if begin.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(std::fs::TryLockError::WouldBlock) => return Ok(false),
            Err(std::fs::TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// Returns whether a socket has a listener. A listener that is too busy to accept a connection is alive too.
fn lives(path: &Path) -> bool {
    let (to, answer) = mpsc::channel();
    let path = path.to_path_buf();
    let ask = move || {
        let dead = std::os::unix::net::UnixStream::connect(path)
            .is_err_and(|error| matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound));
        // The receiver no longer waits for a late answer.
        let _ = to.send(!dead);
    };
    let asked = std::thread::Builder::new().name("wharf-socket".into()).spawn(ask).is_ok();
    !asked || answer.recv_timeout(PATIENCE).unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("wharf-socket-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir_all(&path).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn mode(path: &Path) -> u32 {
        std::fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_a_living_one_never() {
        let folder = Folder::new("stale");
        let path = folder.0.join("s");
        // The file of a listener remains after the listener is closed.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let socket = Socket::claim(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        assert!(Socket::claim(&path).unwrap_err().message.contains("another process listens on it"));
        std::os::unix::net::UnixStream::connect(&path).unwrap();
        socket.accept().await.unwrap();
        drop(socket);
        assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 0, "nothing is left, and nothing aside");
    }

    #[tokio::test]
    async fn what_is_no_socket_stays_and_links_are_not_followed() {
        let folder = Folder::new("links");
        let (path, target) = (folder.0.join("s"), folder.0.join("target"));
        std::fs::write(&path, "kept").unwrap();
        assert!(Socket::claim(&path).unwrap_err().message.contains("not a socket"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "kept");
        std::fs::remove_file(&path).unwrap();
        for what in ["dangling", "to a dead socket"] {
            std::os::unix::fs::symlink(&target, &path).unwrap();
            assert!(Socket::claim(&path).unwrap_err().message.contains("not a socket"), "{what}");
            assert!(std::fs::symlink_metadata(&path).unwrap().is_symlink());
            std::fs::remove_file(&path).unwrap();
            let _ = std::os::unix::net::UnixListener::bind(&target);
        }
    }

    #[tokio::test]
    async fn only_the_own_file_is_removed_at_the_end() {
        let folder = Folder::new("own");
        let path = folder.0.join("s");
        let socket = Socket::claim(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        drop(socket);
        assert!(path.exists());
        drop(other);
    }

    #[tokio::test]
    async fn a_folder_of_everybody_and_one_that_is_missing_are_refused() {
        let folder = Folder::new("open");
        std::fs::set_permissions(&folder.0, std::fs::Permissions::from_mode(0o777)).unwrap();
        let refused = Socket::claim(&folder.0.join("s")).unwrap_err();
        assert!(refused.message.contains("other users can write"), "{}", refused.message);
        assert!(Socket::claim(&folder.0.join("no/s")).is_err());
        let long = folder.0.join("x".repeat(200));
        std::fs::set_permissions(&folder.0, std::fs::Permissions::from_mode(0o700)).unwrap();
        std::fs::create_dir(&long).unwrap();
        assert!(Socket::claim(&long.join("s")).unwrap_err().remedy.contains("api.socket"));
    }

    #[test]
    fn only_what_is_handed_down_to_this_process_is_taken() {
        let of = |pid: Option<&str>, count: Option<&str>| {
            let env = |name: &str| if name == "LISTEN_PID" { pid } else { count }.map(str::to_owned);
            handed_down(env, 7)
        };
        assert_eq!(of(Some("7"), Some("1")), Some(1));
        assert_eq!(of(Some("7"), Some("2")), Some(2));
        for (pid, count) in [(None, Some("1")), (Some("8"), Some("1")), (Some("7"), None), (Some("7"), Some("0"))] {
            assert_eq!(of(pid, count), None);
        }
    }

    #[test]
    fn the_same_user_and_root_may_call_and_nobody_else() {
        assert!(may_call(1000, 1000) && may_call(0, 1000) && may_call(0, 0));
        assert!(!may_call(1001, 1000) && !may_call(1000, 0));
        assert!(is_safe_folder(0o700, 1000, 1000) && is_safe_folder(0o755, 0, 1000) && is_safe_folder(0o1777, 0, 1000));
        assert!(!is_safe_folder(0o770, 1000, 1000) && !is_safe_folder(0o700, 1001, 1000));
    }
}
