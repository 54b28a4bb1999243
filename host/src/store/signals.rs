//! Signals of activity that the service measures, and leases that people take.

use jiff::Timestamp;
use rusqlite::params;
use serde::{Deserialize, Serialize};

use super::{Error, Store, from_json, statement, to_json};
use crate::workspace::WorkspaceId;

/// One sign of a workspace's use, or of its idleness.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Signal {
    /// Its kind.
    pub kind: SignalKind,
    /// Its value for people; none as long as there is no value yet.
    pub value: Option<String>,
    /// Time of the measurement.
    pub measured_at: Option<Timestamp>,
    /// Time when it last showed use. Of a lease: its end.
    pub active_at: Option<Timestamp>,
}

/// Kind of a [`Signal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SignalKind {
    /// Its start.
    Start,
    /// The last command that was run with `exec` or `shell`.
    Exec,
    /// Commands that run in it now, besides its own and its health check.
    Sessions,
    /// CPU time of all its containers.
    Cpu,
    /// Bytes over its networks.
    Network,
    /// The newest write in the project folder.
    Project,
    /// A lease: it must run until a time.
    Lease,
    /// Bytes of its writable layer. It says nothing about use.
    Disk,
}

impl SignalKind {
    /// Returns the name used in text and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Exec => "exec",
            Self::Sessions => "sessions",
            Self::Cpu => "cpu",
            Self::Network => "network",
            Self::Project => "project",
            Self::Lease => "lease",
            Self::Disk => "disk",
        }
    }
}

impl Store {
    /// Stores a workspace's signals; each replaces the last one of its kind.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn put_signals(&self, id: &WorkspaceId, signals: &[Signal]) -> Result<(), Error> {
        let what = "save signals";
        let mut connection = self.connection();
        let transaction = connection.transaction().map_err(statement(what))?;
        for signal in signals {
            transaction
                .execute(
                    "insert into signals (workspace, kind, body) values (?1, ?2, ?3)
                     on conflict (workspace, kind) do update set body = ?3",
                    params![id.as_str(), signal.kind.as_str(), to_json(signal, what)?],
                )
                .map_err(statement(what))?;
        }
        transaction.commit().map_err(statement(what))
    }

    /// Returns a workspace's signals as they were last stored.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn signals(&self, id: &WorkspaceId) -> Result<Vec<Signal>, Error> {
        let what = "read signals";
        let connection = self.connection();
        let mut query =
            connection.prepare_cached("select body from signals where workspace = ?1").map_err(statement(what))?;
        let rows = query.query_map([id.as_str()], |row| row.get::<_, String>(0)).map_err(statement(what))?;
        rows.map(|text| from_json(&text.map_err(statement(what))?, what)).collect()
    }

    /// Removes one signal of a workspace. Returns whether it existed.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn remove_signal(&self, id: &WorkspaceId, kind: SignalKind) -> Result<bool, Error> {
        let gone = self
            .connection()
            .execute("delete from signals where workspace = ?1 and kind = ?2", [id.as_str(), kind.as_str()])
            .map_err(statement("delete a signal"))?;
        Ok(gone > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Dir;
    use super::*;

    #[test]
    fn of_each_kind_the_last_signal_is_kept_and_goes_with_its_workspace() {
        let dir = Dir::new("signals");
        let store = Store::open(&dir.0).unwrap();
        let id = WorkspaceId::derive("a", "/a");
        let signal = |kind, value: &str| {
            let now = Some(Timestamp::now());
            Signal { kind, value: Some(value.into()), measured_at: now, active_at: None }
        };
        let (old, cpu, lease) =
            (signal(SignalKind::Cpu, "1"), signal(SignalKind::Cpu, "2"), signal(SignalKind::Lease, "x"));
        store.put_signals(&id, &[old, lease.clone()]).unwrap();
        store.put_signals(&id, std::slice::from_ref(&cpu)).unwrap();
        assert_eq!(store.signals(&id).unwrap(), [cpu, lease]);
        assert!(store.remove_signal(&id, SignalKind::Lease).unwrap());
        assert!(!store.remove_signal(&id, SignalKind::Lease).unwrap());
        store.remove_workspace(&id).unwrap();
        assert_eq!(store.signals(&id).unwrap(), []);
    }
}
