//! Values as Docker's users write them: mounts, ports, sizes, limits.

use crate::hooks::Adjustment;
use crate::workspace::{HostPort, Mount, MountKind, Restart, Tmpfs, Ulimit, loopback};

/// A mount: the fields of `--mount`, read from either form.
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
    /// Reads `type=bind,source=/a,target=/b,readonly`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut words = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or((part, "true"));
            words.set(key, value)?;
        }
        Ok(words)
    }

    pub(super) fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "type" => self.kind = Some(value.to_owned()),
            "source" | "src" => self.source = Some(value.to_owned()),
            "target" | "dst" | "destination" => self.target = Some(value.to_owned()),
            "readonly" | "ro" => self.read_only = matches!(value, "true" | "1"),
            "tmpfs-size" => self.size = Some(size(value)?),
            // Only engines on other systems than Linux know it.
            "consistency" => {}
            other => self.ignored.push(other.to_owned()),
        }
        Ok(())
    }

    /// The adjustment that it asks for.
    pub(super) fn adjustment(self) -> Result<Adjustment, String> {
        let target = self.target.filter(|target| !target.is_empty()).ok_or("a mount needs a target")?;
        let target = if target.len() > 1 { target.trim_end_matches('/').to_owned() } else { target };
        let source = self.source.filter(|source| !source.is_empty());
        // As Docker has it, a mount is a volume unless it says otherwise.
        let mount = |kind, source| Mount { kind, source, read_only: self.read_only };
        match (self.kind.as_deref().unwrap_or("volume"), source) {
            ("bind", Some(source)) => Ok(Adjustment::Mount(target, Some(mount(MountKind::Bind, source)))),
            ("volume", Some(source)) => Ok(Adjustment::Mount(target, Some(mount(MountKind::Volume, source)))),
            ("tmpfs", _) => Ok(Adjustment::Tmpfs(target, Some(Tmpfs { size: self.size }))),
            ("volume", None) => Err("a volume needs a name as its source".into()),
            ("bind", None) => Err("a bind mount needs a source".into()),
            (other, _) => Err(format!("'{other}' is no kind of mount; there are bind, volume and tmpfs")),
        }
    }
}

/// `source:target[:options]`, as `docker run -v` takes it.
pub(super) fn volume(text: &str) -> Result<Adjustment, String> {
    let mut parts = text.split(':');
    let (Some(source), Some(target)) = (parts.next(), parts.next()) else {
        return Err(format!("'{text}' is not a mount such as /host/path:/target or volume:/target:ro"));
    };
    let read_only = parts.flat_map(|options| options.split(',')).any(|option| option == "ro");
    let kind = if source.starts_with('/') { "bind" } else { "volume" };
    let (source, target) = (Some(source.to_owned()), Some(target.to_owned()));
    MountWords { kind: Some(kind.into()), source, target, read_only, ..MountWords::default() }.adjustment()
}

/// A port of `forwardPorts` gets a free port of the host.
pub(super) fn forwarded(port: u64) -> Result<Adjustment, String> {
    published(port, None, None, "tcp")
}

/// `[[address:]host:]container[/protocol]`; a port alone is published under the same number.
pub(super) fn port(text: &str) -> Result<Adjustment, String> {
    let wrong = || format!("'{text}' is not a port such as 8080, 8080:80 or 127.0.0.1:8080:80");
    let number = |text: &str| text.parse::<u64>().map_err(|_| wrong());
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    match ports.rsplit_once(':') {
        None => published(number(ports)?, Some(number(ports)?), None, protocol),
        Some((rest, container)) => {
            let (address, host) = match rest.rsplit_once(':') {
                Some((address, host)) => (Some(address.trim_matches(['[', ']']).to_owned()), host),
                None => (None, rest),
            };
            let host = if host.is_empty() { None } else { Some(number(host)?) };
            published(number(container)?, host, address, protocol)
        }
    }
}

fn published(container: u64, host: Option<u64>, address: Option<String>, protocol: &str) -> Result<Adjustment, String> {
    let port = |port: u64| {
        let valid = u16::try_from(port).ok().filter(|port| *port > 0);
        valid.ok_or_else(|| format!("{port} is no port; there are 1 to 65535"))
    };
    let host = HostPort { address: address.unwrap_or_else(loopback), port: host.map(port).transpose()? };
    Ok(Adjustment::Port(format!("{}/{protocol}", port(container)?), Some(host)))
}

/// Bytes, as Docker reads them: `512m` and `512mb` are MiB.
pub(super) fn size(text: &str) -> Result<u64, String> {
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
    // Beyond this a float counts no single bytes; no machine has as much.
    if bytes.is_finite() && (0.0..9e15).contains(&bytes) { Ok(bytes as u64) } else { Err(wrong()) }
}

/// `nofile=1024:4096`
pub(super) fn ulimit(text: &str) -> Result<Adjustment, String> {
    let wrong = || format!("'{text}' is not a limit such as nofile=1024:4096");
    let (name, limits) = text.split_once('=').ok_or_else(wrong)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let (soft, hard) = (soft.parse().map_err(|_| wrong())?, hard.parse().map_err(|_| wrong())?);
    Ok(Adjustment::Ulimit(name.to_owned(), Some(Ulimit { soft, hard })))
}

/// `/tmp` or `/tmp:size=64m,...`; returns the options that have no effect, too.
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

/// `no`, `always`, `unless-stopped`, `on-failure` or `on-failure:3`
pub(super) fn restart(text: &str) -> Result<Adjustment, String> {
    let wrong =
        || format!("'{text}' is no restart policy; there are no, on-failure[:times], always and unless-stopped");
    let restart = match text.split_once(':').unwrap_or((text, "")) {
        ("no", "") => Restart::No,
        ("always", "") => Restart::Always,
        ("unless-stopped", "") => Restart::UnlessStopped,
        ("on-failure", "") => Restart::OnFailure(0),
        ("on-failure", times) => Restart::OnFailure(times.parse().map_err(|_| wrong())?),
        _ => return Err(wrong()),
    };
    Ok(Adjustment::Restart(restart))
}
