//! Docker's notation, as `docker run` accepts it: ports, mounts, sizes, limits. `Restart` parses the notation of
//! restart policies. This module converts text to parts. The validity of a part is checked where it becomes a field.

use super::{HostPort, Mount, MountKind, Ulimit, loopback};

/// A port to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// The container's port.
    pub container: u16,
    /// The container's port with its protocol, e.g. `80/tcp`.
    pub key: String,
    /// The address on the host; none if only the container's port is named.
    pub host: Option<HostPort>,
}

/// Parses `[[address:][host port]:]container port[/protocol]`.
///
/// # Errors
/// One line with examples.
pub fn port(text: &str) -> Result<Publish, String> {
    let number = |part: &str| part.parse::<u16>().map_err(|_| not_a_port(text));
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (host, container) = match ports.rsplit_once(':') {
        None => (None, number(ports)?),
        Some((rest, container)) => {
            let (address, port) = match rest.rsplit_once(':') {
                Some((address, port)) => (address.trim_matches(['[', ']']).to_owned(), port),
                None => (loopback(), rest),
            };
            let port = if port.is_empty() { None } else { Some(number(port)?) };
            (Some(HostPort { address, port }), number(container)?)
        }
    };
    Ok(Publish { container, key: format!("{container}/{protocol}"), host })
}

/// Returns the error for a text that is not a port.
pub fn not_a_port(text: &str) -> String {
    format!("'{text}' is not a port such as 8080, 8080:80, 127.0.0.1:8080:80 or 53/udp")
}

/// Parses `source:target[:option[,option]]`. Returns the target, the mount and the options. An absolute source is a
/// host path, any other source is a volume.
///
/// # Errors
/// One line with examples.
pub fn volume(text: &str) -> Result<(String, Mount, Vec<&str>), String> {
    let mut parts = text.split(':');
    let (Some(source), Some(target)) = (parts.next(), parts.next()) else {
        return Err(not_a_mount(text));
    };
    let options: Vec<&str> = parts.flat_map(|options| options.split(',')).collect();
    let kind = if source.starts_with('/') { MountKind::Bind } else { MountKind::Volume };
    let mount = Mount { kind, source: source.to_owned(), read_only: options.contains(&"ro") };
    Ok((target.to_owned(), mount, options))
}

/// Returns the error for a text that is not a mount.
pub fn not_a_mount(text: &str) -> String {
    format!("'{text}' is not a mount such as /host/path:/target, /host/path:/target:ro or volume:/target")
}

/// Parses a size as Docker counts it: `512m` and `512mb` are MiB.
///
/// # Errors
/// One line with examples.
pub fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("'{text}' is not a size such as 512m or 4gb");
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(lower.len());
    let (number, unit) = lower.split_at_checked(digits).ok_or_else(wrong)?;
    let factor: u64 = match unit.trim() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let bytes = number * factor as f64;
    // Above this, a float cannot represent single bytes, and no machine has as much.
    if bytes.is_finite() && (0.0..9e15).contains(&bytes) { Ok(bytes as u64) } else { Err(wrong()) }
}

/// Parses `name=soft[:hard]`. Returns the name of the limit and the limit.
///
/// # Errors
/// One line with examples.
pub fn ulimit(text: &str) -> Result<(String, Ulimit), String> {
    let wrong = || format!("'{text}' is not a limit such as nofile=1024 or nofile=1024:4096");
    let (name, limits) = text.split_once('=').ok_or_else(wrong)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let number = |text: &str| text.parse().map_err(|_| wrong());
    Ok((name.to_owned(), Ulimit { soft: number(soft)?, hard: number(hard)? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_with_and_without_a_place_on_the_host() {
        let at = |address: &str, port| Some(HostPort { address: address.to_owned(), port });
        for (text, key, host) in [
            ("80", "80/tcp", None),
            ("53/udp", "53/udp", None),
            (":80", "80/tcp", at("127.0.0.1", None)),
            ("8080:80", "80/tcp", at("127.0.0.1", Some(8080))),
            ("0.0.0.0::80", "80/tcp", at("0.0.0.0", None)),
            ("[::1]:8080:80/udp", "80/udp", at("::1", Some(8080))),
        ] {
            let read = port(text).unwrap();
            assert_eq!((read.key.as_str(), read.host), (key, host), "{text}");
        }
        for bad in ["", "x", "70000", "70000:80", "80:", "80-90"] {
            assert!(port(bad).unwrap_err().contains("8080:80"), "{bad}");
        }
    }

    #[test]
    fn volumes_limits_and_sizes_are_read_as_docker_writes_them() {
        let (target, mount, options) = volume("/a:/b:ro,z").unwrap();
        assert_eq!(
            (target.as_str(), mount.kind, mount.read_only, options),
            ("/b", MountKind::Bind, true, vec!["ro", "z"])
        );
        assert_eq!(volume("data:/b").unwrap().1.kind, MountKind::Volume);
        assert!(volume("/a").is_err());
        assert_eq!(ulimit("nofile=1:2").unwrap(), ("nofile".into(), Ulimit { soft: 1, hard: 2 }));
        assert_eq!(ulimit("core=-1").unwrap().1.hard, -1);
        assert!(ulimit("nofile").is_err() && ulimit("nofile=a").is_err() && ulimit("nofile=1:").is_err());
        assert_eq!((size("512m"), size("1.5 gb"), size("7")), (Ok(512 << 20), Ok(3 << 29), Ok(7)));
        for bad in ["", "m", "1x", "-1", "1e3", "99999999t", "é"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
