//! Notifications to the service manager on the socket of `NOTIFY_SOCKET`: ready, reloading, stopping, and alive; see
//! sd_notify(3).

use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use super::{Stop, slept};

/// The address of the manager; none without a service manager.
pub(super) struct Notify(Option<OsString>);

impl Notify {
    pub(super) fn of_process() -> Self {
        Self(std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()))
    }

    pub(super) fn send(&self, text: &str) -> std::io::Result<()> {
        let Some(path) = &self.0 else { return Ok(()) };
        // A name that begins with @ belongs to the abstract namespace.
        let address = match path.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(path)?,
        };
        UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address).map(drop)
    }
}

impl Notify {
    /// Reports that a reload begins; `READY=1` reports its end.
    pub(super) fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let micros = now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1_000);
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// Sends a notification on which nothing depends.
    pub(super) fn tell(&self, text: &str) {
        if let Err(error) = self.send(text) {
            tracing::warn!("cannot send '{}' to the service manager: {error}", text.lines().next().unwrap_or_default());
        }
    }

    /// Reports that the service is alive, twice as often as the manager requires, until a stop is requested. It does
    /// nothing if the manager requires no signs of life.
    ///
    /// The reports come from the thread of all loops: a thread that hangs sends none.
    pub(super) async fn watchdog(&self, mut stop: Stop) {
        let Some(every) = watchdog_time(|name| std::env::var(name).ok(), std::process::id()) else { return };
        while slept(every / 2, &mut stop).await {
            self.tell("WATCHDOG=1");
        }
    }
}

/// Returns the manager's time limit for a sign of life, if it has one.
fn watchdog_time(env: impl Fn(&str) -> Option<String>, own: u32) -> Option<Duration> {
    let micros: u64 = env("WATCHDOG_USEC")?.parse().ok().filter(|micros| *micros > 0)?;
    // Without a process ID it applies to every process.
    let ours = env("WATCHDOG_PID").is_none_or(|pid| pid.parse() == Ok(own));
    ours.then(|| Duration::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_of_life_is_for_the_process_that_is_asked() {
        let of = |time: Option<&str>, pid: Option<&str>| {
            let env = |name: &str| if name == "WATCHDOG_PID" { pid } else { time }.map(str::to_owned);
            watchdog_time(env, 7)
        };
        assert_eq!(of(Some("2000000"), None), Some(Duration::from_secs(2)));
        assert_eq!(of(Some("2000000"), Some("7")), Some(Duration::from_secs(2)));
        for (time, pid) in [(None, None), (Some("0"), None), (Some("x"), None), (Some("2000000"), Some("8"))] {
            assert_eq!(of(time, pid), None);
        }
    }

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
