//! Domain types: the definition of workspaces and containers. No I/O, no foreign types.
//!
//! The JSON forms of these types are part of Wharf's interface: they appear in `--json` output, in decision records,
//! and in the input of Rhai scripts. Sizes are bytes and durations are milliseconds unless a name says otherwise.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

mod event;
pub mod notation;
mod spec;
pub use event::{ContainerState, Event, Happening};
pub use spec::*;

/// The prefix of every label that Wharf puts on an object of the engine. Policies cannot set such labels.
pub const LABEL_PREFIX: &str = "wharf.";
/// Label with the value `true` on every object that Wharf created.
pub const LABEL_MANAGED: &str = "wharf.managed";
/// Label with the id of the Wharf installation (one per state folder) that created the object.
pub const LABEL_HOST: &str = "wharf.host";
/// Label with the workspace id.
pub const LABEL_WORKSPACE: &str = "wharf.workspace.id";
/// Label with the workspace name.
pub const LABEL_NAME: &str = "wharf.workspace.name";
/// Label with the absolute project path.
pub const LABEL_PROJECT: &str = "wharf.workspace.project";
/// Label with the id of the workspace that a sidecar belongs to.
pub const LABEL_PART_OF: &str = "wharf.workspace.part-of";
/// Label of an image with the id of the installation that created it. Images have separate labels: a container
/// inherits the labels of its image, and a container that another client creates from an image of ours must not look
/// like ours.
pub const LABEL_IMAGE_HOST: &str = "wharf.image.host";
/// Label of an image with the id of the workspace that it was created for.
pub const LABEL_IMAGE_WORKSPACE: &str = "wharf.image.workspace";
/// Label of an image with its kind: `build` or `snapshot`.
pub const LABEL_IMAGE: &str = "wharf.image";
/// Label of an image with the name that it was created under. An image built from one of ours inherits its labels,
/// but has another name.
pub const LABEL_IMAGE_NAME: &str = "wharf.image.name";
/// Label of a volume that is part of a snapshot, and of a snapshot's image, with the snapshot's name.
pub const LABEL_SNAPSHOT: &str = "wharf.image.snapshot";
/// Label with the number of the journal entry under which an object was created. It identifies leftovers of a process
/// that died.
pub const LABEL_ATTEMPT: &str = "wharf.attempt";
/// Label of a volume that a project's file named: `project`. Its contents belong to that project, in every workspace
/// that mounts it.
pub const LABEL_VOLUME_BY: &str = "wharf.volume.by";
/// Label with the digest of the decided spec, see [`ContainerSpec::digest`].
pub const LABEL_SPEC: &str = "wharf.spec";

/// Stable, readable identity of a workspace on one host: `<name>-<16 hex digits>`, e.g. `shop-3f9a1c20b7d4e586`.
/// Workspaces of earlier versions have 6 digits. The digits come from a hash of name and project and only serve to
/// find a workspace. The owner of an id is recorded in the store.
///
/// It is safe as a container name, hostname, label value and file name: 1 to 63 characters of `[a-z0-9-]`, with a
/// letter or digit at both ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "String", into = "String")]
pub struct WorkspaceId(String);

impl WorkspaceId {
    /// Derives the id from the name and the absolute project path, so that the same folder always gives the same id.
    pub fn derive(name: &str, project: &str) -> Self {
        let mut slug = String::new();
        for c in name.chars() {
            let c = c.to_ascii_lowercase();
            if c.is_ascii_alphanumeric() {
                slug.push(c);
            } else if !slug.ends_with('-') && !slug.is_empty() {
                slug.push('-');
            }
            if slug.len() >= 30 {
                break;
            }
        }
        let slug = slug.trim_matches('-');
        let digest = crate::workspace::sha256_hex(format!("{name}\0{project}").as_bytes());
        let tail = digest.get(..16).unwrap_or_default();
        if slug.is_empty() { Self(format!("ws-{tail}")) } else { Self(format!("{slug}-{tail}")) }
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the id of a sidecar of this workspace: `<id>-<name>`.
    ///
    /// # Errors
    /// An error if the name is not 1 to 15 of a-z, 0-9 and '-', with a letter or digit at both ends.
    pub fn sidecar(&self, name: &str) -> Result<Self, String> {
        if name.len() > 15 || name.parse::<Self>().is_err() {
            return Err(format!(
                "'{name}' is not a sidecar name: use 1 to 15 of a-z, 0-9 and '-', without '-' at the ends"
            ));
        }
        format!("{self}-{name}").parse()
    }

    /// Returns the name of the workspace's container.
    pub fn container_name(&self) -> String {
        format!("wharf-{}", self.0)
    }
}

impl fmt::Display for WorkspaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<WorkspaceId> for String {
    fn from(id: WorkspaceId) -> Self {
        id.0
    }
}

impl TryFrom<String> for WorkspaceId {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for WorkspaceId {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        let inner = text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if text.len() <= 63 && inner && edge(text.chars().next()) && edge(text.chars().last()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("'{text}' is not a workspace id: use 1 to 63 of a-z, 0-9 and '-', without '-' at the ends"))
        }
    }
}

/// Returns the lower-case hex SHA-256 of bytes: the digest that Wharf uses everywhere.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(<sha2::Sha256 as sha2::Digest>::digest(bytes))
}

/// All characters except the unreserved ones of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Encodes a text as one component of a URL's path or query (RFC 3986), so that no character has a special meaning.
pub fn url_encoded(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// Decodes Base64; none if the text is not valid Base64.
pub fn base64_bytes(text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text).ok()
}

/// Encodes bytes as Base64 (RFC 4648, with padding), the form of binary data in JSON.
pub fn base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// State of a workspace's container as reported by the engine, or `missing` if there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum State {
    Created,
    Running,
    Paused,
    Restarting,
    Removing,
    Exited,
    Dead,
    /// Wharf's store has the workspace, but the engine has no container for it.
    Missing,
}

impl State {
    /// All states.
    pub const ALL: [Self; 8] = [
        Self::Created,
        Self::Running,
        Self::Paused,
        Self::Restarting,
        Self::Removing,
        Self::Exited,
        Self::Dead,
        Self::Missing,
    ];

    /// Returns the name used in text and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Removing => "removing",
            Self::Exited => "exited",
            Self::Dead => "dead",
            Self::Missing => "missing",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A state that `wharf wait` waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Awaited {
    /// All its containers run.
    Running,
    /// All its containers run and are healthy; a running container without a health check counts as healthy.
    Healthy,
    /// Its container has ended.
    Exited,
    /// It no longer has a container.
    Removed,
}

impl Awaited {
    /// Returns the name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Healthy => "healthy",
            Self::Exited => "exited",
            Self::Removed => "removed",
        }
    }
}

impl FromStr for State {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "created" => Self::Created,
            "running" => Self::Running,
            "paused" => Self::Paused,
            "restarting" => Self::Restarting,
            "removing" => Self::Removing,
            "exited" => Self::Exited,
            "dead" => Self::Dead,
            other => return Err(format!("the engine reports an unknown container state: '{other}'")),
        })
    }
}

/// A container of Wharf, as reported by the engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Container {
    /// The engine's full id.
    pub id: String,
    /// Its name without the leading slash.
    pub name: String,
    /// Reference of the image that it was created from.
    pub image: String,
    /// Content id of that image (`sha256:...`).
    pub image_id: String,
    /// State.
    pub state: State,
    /// The creation time, RFC 3339, UTC.
    pub created_at: Option<jiff::Timestamp>,
    /// Its last start, if any. Only `inspect` reports it; a list does not.
    pub started_at: Option<jiff::Timestamp>,
    /// Its last end, if it has ended since its last start.
    pub finished_at: Option<jiff::Timestamp>,
    /// Exit code of the last run: none while it runs or if it never ran, 0 is a real 0.
    pub exit_code: Option<i64>,
    /// Whether the engine killed it for lack of memory.
    pub oom_killed: bool,
    /// Result of the engine's health check; none if no check is defined.
    pub health: Option<String>,
    /// The last run of its health check; only `inspect` reports it.
    pub last_check: Option<HealthReport>,
    /// All labels.
    pub labels: BTreeMap<String, String>,
    /// The currently published ports, including free ports chosen by the engine.
    pub ports: Vec<Port>,
    /// The engine's report of the decided fields; none from a list.
    pub actual: Option<ContainerSpec>,
}

/// The last run of a health check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HealthReport {
    /// The time at which it ended.
    pub at: Option<jiff::Timestamp>,
    /// Its exit code; 0 means healthy.
    pub exit_code: i64,
    /// Its output, truncated by the engine to 4 KiB.
    pub output: String,
    /// Number of consecutive failures.
    pub failures: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_folder_always_gives_the_same_readable_id() {
        let a = WorkspaceId::derive("My Shop!", "/srv/shop");
        assert_eq!(a, WorkspaceId::derive("My Shop!", "/srv/shop"));
        assert!(a.as_str().starts_with("my-shop-"), "{a}");
        assert_ne!(a, WorkspaceId::derive("My Shop!", "/srv/other"));
        assert_ne!(a, WorkspaceId::derive("shop", "/srv/shop"));
    }

    #[test]
    fn nothing_in_a_part_of_an_address_has_a_meaning() {
        assert_eq!(url_encoded("a/../b?c=d&é"), "a%2F..%2Fb%3Fc%3Dd%26%C3%A9");
    }

    #[test]
    fn base64_has_its_padding() {
        for (text, wanted) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(text.as_bytes()), wanted);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0xfd, 0]), "//79AA==");
        for bytes in (0..70u8).map(|length| (0..length).map(|byte| byte.wrapping_mul(37)).collect::<Vec<_>>()) {
            assert_eq!(base64_bytes(&base64(&bytes)), Some(bytes));
        }
        for wrong in ["A", "A===", "====", "AA=A", "A A=", "é==="] {
            assert_eq!(base64_bytes(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn names_without_a_usable_letter_still_give_a_valid_id() {
        for name in ["", "---", "日本", "..", &"x".repeat(300)] {
            let id = WorkspaceId::derive(name, "/p");
            assert!(id.as_str().parse::<WorkspaceId>().is_ok(), "{name:?} gave {id}");
        }
    }

    #[test]
    fn the_id_of_a_sidecar_is_its_workspaces_with_its_name_behind_it() {
        let longest = WorkspaceId::derive(&"x".repeat(300), "/p");
        assert_eq!(longest.sidecar("fifteen-letters").unwrap().as_str(), format!("{longest}-fifteen-letters"));
        for bad in ["", "-a", "a-", "A", "a/b", "sixteen-letters-"] {
            assert!(longest.sidecar(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_that_could_leave_a_folder_or_match_others_are_refused() {
        for bad in ["", "-a", "a-", "A", "a/b", "a_b", "a.b", "../a", &"a".repeat(64)] {
            assert!(bad.parse::<WorkspaceId>().is_err(), "{bad:?}");
        }
    }
}
