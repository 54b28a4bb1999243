//! Fields of a request as people write them, in the words of `docker run`.

use crate::config::Size;
use crate::hooks::Adjustment;
use crate::workspace::{HostPort, Mount, MountKind, Tmpfs, Ulimit};

/// Parses `[address:][host port:]container port[/protocol]`, as `docker run -p` takes it.
///
/// # Errors
/// One line that says what is taken.
pub fn parse_port(text: &str) -> Result<Adjustment, String> {
    let wrong = || format!("'{text}' is not a port such as 8080, 8080:80, 127.0.0.1:8080:80 or 53/udp");
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (rest, container) = match ports.rsplit_once(':') {
        Some((rest, container)) => (Some(rest), container),
        None => (None, ports),
    };
    let container: u16 = container.parse().map_err(|_| wrong())?;
    let (address, port) = match rest {
        None => (crate::workspace::loopback(), None),
        Some(rest) => match rest.rsplit_once(':') {
            Some((address, port)) => (address.trim_matches(['[', ']']).to_owned(), Some(port)),
            None => (crate::workspace::loopback(), Some(rest)),
        },
    };
    let port = match port {
        None | Some("") => None,
        Some(port) => Some(port.parse::<u16>().map_err(|_| wrong())?),
    };
    let edit = Adjustment::Port(format!("{container}/{protocol}"), Some(HostPort { address, port }));
    edit.check().map_err(|_| wrong())?;
    Ok(edit)
}

/// Parses `source:target[:ro]`, as `docker run -v` takes it: an absolute source is a host path, another a volume.
///
/// # Errors
/// One line that says what is taken.
pub fn parse_mount(text: &str) -> Result<Adjustment, String> {
    let wrong =
        || format!("'{text}' is not a mount such as /host/path:/target, /host/path:/target:ro or volume:/target");
    let mut parts = text.split(':');
    let (Some(source), Some(target)) = (parts.next(), parts.next()) else { return Err(wrong()) };
    let read_only = match (parts.next(), parts.next()) {
        (None, _) | (Some("rw"), None) => false,
        (Some("ro"), None) => true,
        _ => return Err(wrong()),
    };
    let kind = if source.starts_with('/') { MountKind::Bind } else { MountKind::Volume };
    let edit = Adjustment::Mount(target.to_owned(), Some(Mount { kind, source: source.to_owned(), read_only }));
    edit.check().map_err(|text| format!("{}: {text}", wrong()))?;
    Ok(edit)
}

/// Parses a memory file system as `docker run --tmpfs` names it: `/tmp` or `/tmp:64MiB`.
///
/// # Errors
/// One line that says what is taken.
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
/// One line that says what is taken.
pub fn parse_ulimit(text: &str) -> Result<Adjustment, String> {
    let wrong = || format!("'{text}' is not a limit: write it as NAME=SOFT or NAME=SOFT:HARD, e.g. nofile=1024:4096");
    let (name, limits) = text.split_once('=').ok_or_else(wrong)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let (soft, hard) = (soft.parse().map_err(|_| wrong())?, hard.parse().map_err(|_| wrong())?);
    Ok(Adjustment::Ulimit(name.to_owned(), Some(Ulimit { soft, hard })))
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
