//! The settings of `wharf serve`, and health checks: `[workspace.health_check]`, `[restart]`, `[idle]`, `[disk]`,
//! `[cleanup]`, `[events]`, `[decisions]`, `[metrics]`, `[api]` and `[client]`.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Size, Span};
use crate::workspace::HealthCheck;

/// `[workspace.health_check]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthCheckConfig {
    /// The command and its arguments; no shell is involved.
    pub command: Vec<String>,
    /// Time between two checks.
    #[serde(default = "interval")]
    pub interval: Span,
    /// Time limit of a check; beyond it the check has failed.
    #[serde(default = "interval")]
    pub timeout: Span,
    /// Time after the start during which failures do not count.
    #[serde(default = "start_period")]
    pub start_period: Span,
    /// Number of failures in a row that make it unhealthy.
    #[serde(default = "retries")]
    pub retries: u32,
}

// Docker's own defaults, see the HEALTHCHECK instruction.
const fn interval() -> Span {
    Span::seconds(30)
}
const fn start_period() -> Span {
    Span::seconds(0)
}
const fn retries() -> u32 {
    3
}

impl HealthCheckConfig {
    /// Creates a check with Docker's default times.
    pub fn new(command: Vec<String>) -> Self {
        let (interval, start_period, retries) = (interval(), start_period(), retries());
        Self { command, interval, timeout: interval, start_period, retries }
    }

    /// Returns the check as a field of a spec.
    pub fn spec(&self) -> HealthCheck {
        let ms = |span: Span| u64::try_from(span.0.as_millis()).unwrap_or(u64::MAX);
        HealthCheck {
            command: self.command.clone(),
            interval_ms: ms(self.interval),
            timeout_ms: ms(self.timeout),
            start_period_ms: ms(self.start_period),
            retries: self.retries,
        }
    }
}

/// `[cleanup]`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CleanupConfig {
    /// Time between two sweeps of the service; 0 turns them off.
    pub interval: Span,
    /// Grace period of removals: a sweep first only marks objects, and they are removed this long afterwards unless
    /// that is undone.
    pub grace: Span,
}

impl Default for CleanupConfig {
    fn default() -> Self {
        Self { interval: Span::seconds(3600), grace: Span::seconds(24 * 3600) }
    }
}

/// `[restart]`: the reaction of the service to failing workspaces.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RestartConfig {
    /// Whether to restart a workspace that its health check reports as unhealthy.
    pub unhealthy: bool,
    /// Whether to restart a workspace that ended by itself with a code other than 0.
    pub failed: bool,
    /// Pause before each restart: the first one, doubled each time up to the longest.
    pub backoff: Backoff,
    /// Number of restarts within a period; beyond it the workspace is left as it is and marked degraded.
    pub budget: Budget,
}

impl Default for RestartConfig {
    fn default() -> Self {
        let backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(300) };
        Self { unhealthy: false, failed: false, backoff, budget: Budget { count: 5, within: Duration::from_secs(600) } }
    }
}

/// `[idle]`: stopping workspaces that are not used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IdleConfig {
    /// Time from the last sign of use until a workspace is stopped; none means never.
    pub after: Option<Span>,
    /// Time between two measurements.
    pub interval: Span,
    /// CPU usage of all its containers from which it counts as used, in percent of one core, between two measurements.
    pub cpu: f64,
    /// Traffic on its networks from which it counts as used, in bytes per second.
    pub network: Size,
    /// Whether `exec` and `shell` start it again.
    pub resume: bool,
}

impl Default for IdleConfig {
    fn default() -> Self {
        Self { after: None, interval: Span::seconds(30), cpu: 5.0, network: Size(1 << 10), resume: true }
    }
}

/// `[disk]`: watching limits that the engine cannot enforce.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DiskConfig {
    /// Time between two measurements; 0 turns them off. A measurement walks through files.
    pub interval: Span,
}

impl Default for DiskConfig {
    fn default() -> Self {
        Self { interval: Span::seconds(300) }
    }
}

/// `[events]`: retention of the history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EventsConfig {
    /// Limit of events.
    pub keep: u32,
    /// Age beyond which events are removed.
    pub age: Span,
}

impl Default for EventsConfig {
    fn default() -> Self {
        Self { keep: 10_000, age: Span::seconds(30 * 86_400) }
    }
}

/// `[decisions]`: retention of decision records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DecisionsConfig {
    /// Limit of records.
    pub keep: u64,
    /// Age beyond which records are pruned.
    pub age: Span,
}

impl Default for DecisionsConfig {
    fn default() -> Self {
        Self { keep: 100_000, age: Span::seconds(365 * 86_400) }
    }
}

/// `[metrics]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsConfig {
    /// Interval at which the service reads the usage of all workspaces.
    pub interval: Span,
    /// Retention of the readings.
    pub retention: Span,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self { interval: Span::seconds(10), retention: Span::seconds(30 * 86_400) }
    }
}

/// `[api]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ApiConfig {
    /// Whether the service has an API.
    pub enabled: bool,
    /// Its Unix socket, an absolute path; none means `wharf.sock` in the state folder.
    #[schema(value_type = Option<String>)]
    pub socket: Option<PathBuf>,
    /// Its address on the network, with TLS only; none means no network access.
    #[schema(value_type = Option<String>)]
    pub listen: Option<SocketAddr>,
    /// The certificate chain, PEM; an absolute path.
    #[schema(value_type = Option<String>)]
    pub tls_cert: Option<PathBuf>,
    /// Its key, PEM; an absolute path to a file that others cannot read.
    #[schema(value_type = Option<String>)]
    pub tls_key: Option<PathBuf>,
    /// Certificates of authorities, PEM: when set, clients also need a certificate of one of them.
    #[schema(value_type = Option<String>)]
    pub client_ca: Option<PathBuf>,
    /// Names by which clients on the network call this host, besides those of loopback and the address of `listen`.
    pub hosts: Vec<String>,
    /// Requests per second that each token may make; twice as many at once.
    pub rate: u32,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            socket: None,
            listen: None,
            tls_cert: None,
            tls_key: None,
            client_ca: None,
            hosts: vec![],
            rate: 50,
        }
    }
}

impl ApiConfig {
    /// Checks the rules that types cannot express. Returns the key and its defect.
    pub(super) fn check(&self) -> Result<(), (String, String)> {
        let fail = |key: &str, text: String| Err((format!("api.{key}"), text));
        let files = [
            ("socket", &self.socket),
            ("tls_cert", &self.tls_cert),
            ("tls_key", &self.tls_key),
            ("client_ca", &self.client_ca),
        ];
        for (key, path) in files {
            if let Some(path) = path.as_ref().filter(|path| !path.is_absolute()) {
                return fail(key, format!("{} is not an absolute path", path.display()));
            }
        }
        if self.listen.is_some() && (self.tls_cert.is_none() || self.tls_key.is_none()) {
            let text = "the API needs TLS on the network: also set api.tls_cert and api.tls_key";
            return fail("listen", text.into());
        }
        if self.listen.is_none() {
            for (key, path) in &files[1..] {
                if path.is_some() {
                    return fail(key, "has no effect without api.listen: set api.listen, or remove this key".into());
                }
            }
        }
        let named = |name: &&String| {
            let part = |c: char| c.is_ascii_alphanumeric() || ['-', '.', '_'].contains(&c);
            !name.is_empty() && name.chars().all(part)
        };
        if let Some(name) = self.hosts.iter().find(|name| !named(name)) {
            return fail("hosts", format!("'{name}' is not a host name: omit scheme, port and '*'"));
        }
        if self.rate == 0 {
            return fail("rate", "must be at least 1".into());
        }
        Ok(())
    }
}

/// `[reload]`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReloadConfig {
    /// Folders of golden cases, or single files, that a chain must pass before the service decides with it. Relative
    /// paths start at the configuration's folder.
    #[schema(value_type = Vec<String>)]
    pub cases: Vec<PathBuf>,
}

/// `[client]`: the service that carries out commands, instead of their own process.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClientConfig {
    /// `unix:///path` or `https://host:port`; none means that commands run in their own process.
    pub server: Option<String>,
    /// The file with the token for it.
    #[schema(value_type = Option<String>)]
    pub token_file: Option<PathBuf>,
    /// A PEM file with the certificate authorities to trust, instead of those of the system.
    #[schema(value_type = Option<String>)]
    pub ca_file: Option<PathBuf>,
    /// A PEM file with a client certificate, for services that require one.
    #[schema(value_type = Option<String>)]
    pub cert_file: Option<PathBuf>,
    /// The PEM file with its key.
    #[schema(value_type = Option<String>)]
    pub key_file: Option<PathBuf>,
}

/// Growing pauses. Written `"1s..5m"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The first pause.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
}

impl Backoff {
    /// Returns the pause after this many times.
    pub fn after(self, times: u32) -> Duration {
        let factor = 1u32.checked_shl(times).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.longest)
    }
}

impl FromStr for Backoff {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is not a range of delays such as 1s..5m");
        let (first, longest) = text.split_once("..").ok_or_else(wrong)?;
        let span = |text: &str| text.parse::<Span>().map(|span| span.0).map_err(|_| wrong());
        let (first, longest) = (span(first)?, span(longest)?);
        if first.is_zero() || longest < first { Err(wrong()) } else { Ok(Self { first, longest }) }
    }
}

impl fmt::Display for Backoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", Span(self.first), Span(self.longest))
    }
}

/// A number of times within a period. Written `"5 in 10m"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// The number.
    pub count: u32,
    /// The period.
    pub within: Duration,
}

impl FromStr for Budget {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is not a budget such as '5 in 10m'");
        let (count, within) = text.split_once(" in ").ok_or_else(wrong)?;
        let count: u32 = count.trim().parse().map_err(|_| wrong())?;
        let within = within.parse::<Span>().map_err(|_| wrong())?.0;
        if count == 0 || within.is_zero() { Err(wrong()) } else { Ok(Self { count, within }) }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.count, Span(self.within))
    }
}

macro_rules! as_text {
    ($($name:ident $words:literal)*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = String::deserialize(from).map_err(|_| serde::de::Error::custom($words))?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }
    )*};
}
as_text!(Backoff "takes a range of delays such as \"1s..5m\"" Budget "takes a budget such as \"5 in 10m\"");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let backoff: Backoff = "1s..10s".parse().unwrap();
        let waits: Vec<_> = [0, 1, 2, 3, 4, 40, u32::MAX].map(|times| backoff.after(times).as_secs()).into();
        assert_eq!(waits, [1, 2, 4, 8, 10, 10, 10]);
        assert_eq!(backoff.to_string(), "1s..10s");
    }

    #[test]
    fn nonsense_says_what_is_taken() {
        for bad in ["", "1s", "5m..1s", "0s..1s", "1..2"] {
            assert!(bad.parse::<Backoff>().unwrap_err().contains("1s..5m"), "{bad}");
        }
        for bad in ["", "5", "0 in 10m", "5 in 0s", "x in 10m", "5 in often"] {
            assert!(bad.parse::<Budget>().unwrap_err().contains("5 in 10m"), "{bad}");
        }
        assert_eq!("3 in 1h".parse::<Budget>().unwrap().to_string(), "3 in 1h");
    }
}
