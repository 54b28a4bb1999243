//! Telling the service manager: `READY=1` and `STOPPING=1` on the socket of `NOTIFY_SOCKET`, see sd_notify(3).

use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Where to tell it; nowhere without a service manager.
pub(super) struct Notify(Option<OsString>);

impl Notify {
    pub(super) fn of_process() -> Self {
        Self(std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()))
    }

    pub(super) fn send(&self, text: &str) -> std::io::Result<()> {
        let Some(path) = &self.0 else { return Ok(()) };
        // A name that begins with @ is one of the abstract namespace.
        let address = match path.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(path)?,
        };
        UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_manager_is_told_by_path_and_by_abstract_name() {
        let name = format!("wharf-notify-{}", std::process::id());
        let path = std::env::temp_dir().join(&name);
        let _ = std::fs::remove_file(&path);
        let by_path = UnixDatagram::bind(&path).unwrap();
        let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        for (address, socket) in [(path.clone().into_os_string(), by_path), (format!("@{name}").into(), by_name)] {
            Notify(Some(address)).send("READY=1").unwrap();
            let mut buffer = [0; 32];
            let count = socket.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..count], b"READY=1");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(Notify(Some(path.into())).send("READY=1").is_err());
        Notify(None).send("READY=1").unwrap();
    }
}
