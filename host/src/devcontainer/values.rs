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
    /// Parses `type=bind,source=/a,target=/b,readonly`.
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

/// Parses `source:target[:options]`, as in `docker run -v`.
pub(super) fn volume(text: &str) -> Result<Adjustment, String> {
    let (target, Mount { kind, source, read_only }, _) = notation::volume(text)?;
    let kind = if kind == MountKind::Bind { "bind" } else { "volume" };
    let (source, target) = (Some(source), Some(target));
    MountWords { kind: Some(kind.into()), source, target, read_only, ..MountWords::default() }.adjustment()
}

/// Converts a port of `forwardPorts`, which gets a free port of the host.
pub(super) fn forwarded(port: u64) -> Result<Adjustment, String> {
    let container = u16::try_from(port).ok().filter(|port| *port > 0);
    let container = container.ok_or_else(|| format!("{port} is not a port from 1 to 65535"))?;
    Ok(Adjustment::Port(format!("{container}/tcp"), Some(HostPort { address: loopback(), port: None })))
}

/// Parses a port to publish. A single port is published under the same number.
pub(super) fn port(text: &str) -> Result<Adjustment, String> {
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
