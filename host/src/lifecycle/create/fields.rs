//! Fields of a request as people write them, in the notation of `docker run`.

use crate::config::Size;
use crate::hooks::Adjustment;
use crate::workspace::notation::{self, Publish};
use crate::workspace::{HostPort, Tmpfs, loopback};

/// Parses `[address:][host port:]container port[/protocol]`, the notation of `docker run -p`.
///
/// # Errors
/// One line that describes the accepted form.
pub fn parse_port(text: &str) -> Result<Adjustment, String> {
    let Publish { key, host, .. } = notation::port(text)?;
    let edit = Adjustment::Port(key, Some(host.unwrap_or_else(|| HostPort { address: loopback(), port: None })));
    edit.check().map_err(|_| notation::not_a_port(text))?;
    Ok(edit)
}

/// Parses `source:target[:ro]`, the notation of `docker run -v`: an absolute source is a host path, any other a volume.
///
/// # Errors
/// One line that describes the accepted form.
pub fn parse_mount(text: &str) -> Result<Adjustment, String> {
    let (target, mount, options) = notation::volume(text)?;
    let known = matches!(options.as_slice(), [] | ["ro" | "rw"]);
    let edit = Adjustment::Mount(target, Some(mount));
    let wrong = notation::not_a_mount(text);
    edit.check().map_err(|cause| format!("{wrong}: {cause}"))?;
    if known { Ok(edit) } else { Err(wrong) }
}

/// Parses a memory file system in the notation of `docker run --tmpfs`: `/tmp` or `/tmp:64MiB`.
///
/// # Errors
/// One line that describes the accepted form.
pub fn parse_tmpfs(text: &str) -> Result<Adjustment, String> {
    let (target, size) = match text.split_once(':') {
        Some((target, size)) => (target, Some(size.parse::<Size>().map_err(|error| format!("'{text}': {error}"))?)),
        None => (text, None),
    };
    Ok(Adjustment::Tmpfs(target.to_owned(), Some(Tmpfs { size: size.map(|size| size.0) })))
}

/// Parses a process limit: `nofile=1024` or `nofile=1024:4096`.
///
/// # Errors
/// One line that describes the accepted form.
pub fn parse_ulimit(text: &str) -> Result<Adjustment, String> {
    notation::ulimit(text).map(|(name, limit)| Adjustment::Ulimit(name, Some(limit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_mounts_are_read_as_docker_users_write_them() {
        let port = |text: &str| match parse_port(text).unwrap() {
            Adjustment::Port(key, Some(host)) => (key, host.address, host.port),
            other => panic!("{other:?}"),
        };
        assert_eq!(port("80"), ("80/tcp".into(), "127.0.0.1".into(), None));
        assert_eq!(port("8080:80"), ("80/tcp".into(), "127.0.0.1".into(), Some(8080)));
        assert_eq!(port("0.0.0.0:8080:80/udp"), ("80/udp".into(), "0.0.0.0".into(), Some(8080)));
        assert_eq!(port("[::1]:8080:80"), ("80/tcp".into(), "::1".into(), Some(8080)));
        for bad in ["", "x", "0", "70000", "1:2:3:4", "80/sctp", "host:1:2"] {
            assert!(parse_port(bad).unwrap_err().contains("8080:80"), "{bad}");
        }
        assert!(parse_mount("/a:/b:ro").is_ok() && parse_mount("data:/b").is_ok());
        for bad in ["", "/a", "/a:b", "/a:/b:rx", "/a:/", ":/b"] {
            assert!(parse_mount(bad).is_err(), "{bad}");
        }
    }
}
