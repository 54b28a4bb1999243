//! Converts values in Docker's notation to fields: mounts, ports, memory file systems.

use crate::hooks::Adjustment;
use crate::workspace::notation::{self, Publish, size};
use crate::workspace::{HostPort, Mount, MountKind, Tmpfs, loopback};

/// A mount: the fields of `--mount`, from either notation.
#[derive(Debug, Default)]
pub(super) struct MountWords {
    pub(super) kind: Option<String>,
    pub(super) source: Option<String>,
    pub(super) target: Option<String>,
    pub(super) read_only: bool,
    pub(super) size: Option<u64>,
    /// Options that have no effect.
    pub(super) ignored: Vec<String>,
}

impl MountWords {
    pub(super) fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "type" => self.kind = Some(value.to_owned()),
            "source" | "src" => self.source = Some(value.to_owned()),
            "target" | "dst" | "destination" => self.target = Some(value.to_owned()),
            "readonly" | "ro" => self.read_only = matches!(value, "true" | "1"),
            "tmpfs-size" => self.size = Some(size(value)?),
            // Only engines on systems other than Linux support it.
            "consistency" => {}
            other => self.ignored.push(other.to_owned()),
        }
        Ok(())
    }

    /// Returns the requested adjustment.
    pub(super) fn adjustment(self) -> Result<Adjustment, String> {
        let target = self.target.filter(|target| !target.is_empty()).ok_or("a mount needs a target")?;
        let target = if target.len() > 1 { target.trim_end_matches('/').to_owned() } else { target };
        let source = self.source.filter(|source| !source.is_empty());
        // As in Docker, a mount is a volume by default.
        let mount = |kind, source| Mount { kind, source, read_only: self.read_only };
        match (self.kind.as_deref().unwrap_or("volume"), source) {
            ("bind", Some(source)) => Ok(Adjustment::Mount(target, Some(mount(MountKind::Bind, source)))),
            ("volume", Some(source)) => Ok(Adjustment::Mount(target, Some(mount(MountKind::Volume, source)))),
            ("tmpfs", _) => Ok(Adjustment::Tmpfs(target, Some(Tmpfs { size: self.size }))),
            ("volume", None) => Err("a volume needs a name as its source".into()),
            ("bind", None) => Err("a bind mount needs a source".into()),
            (other, _) => Err(format!("'{other}' is not a mount type; the types are bind, volume and tmpfs")),
        }
    }
}

/// Splits a text at a separator, except within `${...}` and, for commas, within double quotes (CSV, as docker reads
/// `--mount`). Variables are expanded afterwards, because a folder's name may contain the separator.
///
/// # Errors
/// One line for an unclosed quote.
pub(super) fn split(text: &str, separator: char) -> Result<Vec<String>, String> {
    let (mut parts, mut part) = (Vec::new(), String::new());
    let (mut quoted, mut depth) = (false, 0_usize);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if separator == ',' && depth == 0 => {
                if quoted && chars.next_if_eq(&'"').is_some() {
                    part.push('"');
                } else {
                    quoted = !quoted;
                }
            }
            '$' if chars.peek() == Some(&'{') => {
                depth += 1;
                part.push(c);
            }
            '}' if depth > 0 => {
                depth -= 1;
                part.push(c);
            }
            c if c == separator && !quoted && depth == 0 => parts.push(std::mem::take(&mut part)),
            c => part.push(c),
        }
    }
    if quoted {
        return Err(format!("'{text}': a quote is not closed"));
    }
    parts.push(part);
    Ok(parts)
}

/// Converts a port of `forwardPorts`, which gets a free port of the host.
pub(super) fn forwarded(port: u64) -> Result<Adjustment, String> {
    let container = u16::try_from(port).ok().filter(|port| *port > 0);
    let container = container.ok_or_else(|| format!("{port} is not a port from 1 to 65535"))?;
    Ok(Adjustment::Port(format!("{container}/tcp"), Some(HostPort { address: loopback(), port: None })))
}

/// Maximum number of ports in one range.
const MOST_PORTS: u16 = 256;

/// Parses a port to publish, or a range such as `9000-9002:9000-9002`. A single port is published under the same number.
pub(super) fn ports(text: &str) -> Result<Vec<Adjustment>, String> {
    let (numbers, protocol) = match text.rsplit_once('/') {
        Some((numbers, protocol)) => (numbers, format!("/{protocol}")),
        None => (text, String::new()),
    };
    let (before, container) = match numbers.rsplit_once(':') {
        Some((before, container)) => (Some(before), container),
        None => (None, numbers),
    };
    let Some((first, last)) = range(container) else { return Ok(vec![port(text)?]) };
    let count = last.checked_sub(first).filter(|count| *count < MOST_PORTS);
    let count = count.ok_or_else(|| format!("'{text}': a range has 1 to {MOST_PORTS} ports, the lowest first"))?;
    let (address, host) = match before {
        None => (None, None),
        Some(before) => match before.rsplit_once(':') {
            Some((address, host)) => (Some(address), Some(host)),
            None => (None, Some(before)),
        },
    };
    let host = match host.filter(|host| !host.is_empty()) {
        None => None,
        Some(host) => match range(host) {
            Some((low, high)) if high.checked_sub(low) == Some(count) => Some(low),
            _ => return Err(format!("'{text}': both ranges need the same number of ports")),
        },
    };
    let one = |step: u16| {
        let address = address.map_or(String::new(), |address| format!("{address}:"));
        let host = host.map_or(String::new(), |low| format!("{}:", low + step));
        port(&format!("{address}{host}{}{protocol}", first + step))
    };
    (0..=count).map(one).collect()
}

/// Parses `9000-9002`.
fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-')?;
    Some((first.parse().ok().filter(|port| *port > 0)?, last.parse().ok()?))
}

fn port(text: &str) -> Result<Adjustment, String> {
    let Publish { container, key, host } = notation::port(text)?;
    let host = host.unwrap_or_else(|| HostPort { address: loopback(), port: Some(container) });
    if host.port == Some(0) {
        return Err(format!("'{text}': 0 is not a port from 1 to 65535"));
    }
    Ok(Adjustment::Port(key, Some(host)))
}

/// Parses `/tmp` or `/tmp:size=64m,...`. Also returns the options that have no effect.
pub(super) fn tmpfs(text: &str) -> Result<(Adjustment, Vec<String>), String> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let (mut bytes, mut ignored) = (None, Vec::new());
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.strip_prefix("size=") {
            Some(text) => bytes = Some(size(text)?),
            None => ignored.push(option.to_owned()),
        }
    }
    Ok((Adjustment::Tmpfs(target.to_owned(), Some(Tmpfs { size: bytes })), ignored))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_split_outside_of_variables_and_quotes() {
        for (text, separator, parts) in [
            ("a=1,b=${localEnv:X:1,2},c", ',', vec!["a=1", "b=${localEnv:X:1,2}", "c"]),
            ("type=bind,\"source=/a,b\",\"x\"\"y\"", ',', vec!["type=bind", "source=/a,b", "x\"y"]),
            ("${localEnv:HOME:/x}:/y:ro", ':', vec!["${localEnv:HOME:/x}", "/y", "ro"]),
            ("$a}:b", ':', vec!["$a}", "b"]),
        ] {
            assert_eq!(split(text, separator).unwrap(), parts, "{text}");
        }
        assert!(split("\"a,b", ',').is_err());
    }

    #[test]
    fn a_range_of_ports_is_each_of_them() {
        let all = |text: &str| -> Vec<String> {
            let edits = ports(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            edits.iter().map(|edit| format!("{} {}", edit.field(), edit.value()["port"])).collect()
        };
        assert_eq!(all("9000-9001:9000-9001"), ["ports.9000/tcp 9000", "ports.9001/tcp 9001"]);
        assert_eq!(all("8000-8001:80-81/udp"), ["ports.80/udp 8000", "ports.81/udp 8001"]);
        assert_eq!(all("80-81"), ["ports.80/tcp 80", "ports.81/tcp 81"]);
        assert_eq!(all("127.0.0.1:8000-8001:80-81"), ["ports.80/tcp 8000", "ports.81/tcp 8001"]);
        assert_eq!(all("8080:80"), ["ports.80/tcp 8080"]);
        for wrong in ["81-80", "1-65535", "8000-8002:80-81", "8000:80-81", "0-3", "a-b"] {
            assert!(ports(wrong).is_err(), "{wrong}");
        }
    }
}
