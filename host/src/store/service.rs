//! Who serves this installation: `wharf serve` is there once per state folder.

use jiff::Timestamp;
use rusqlite::OptionalExtension;
use serde::{Deserialize, Serialize};

use super::{Error, Owner, Store, WorkspaceLock, from_json, statement, to_json};

/// How the service is doing, as it last wrote it down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Process id.
    pub pid: u32,
    /// Start of the process, see [`Owner`].
    pub process_start: i64,
    /// Version of the program.
    pub version: String,
    /// When it began to serve.
    pub since: Timestamp,
    /// Why the engine cannot be reached now, if it cannot.
    pub engine_away: Option<String>,
    /// Its loops.
    pub loops: Vec<LoopStatus>,
    /// The chain that it decides with.
    #[serde(default)]
    pub chain: ChainStatus,
}

/// The chain of the service, and how its last reload went.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ChainStatus {
    /// Policy -> version (digests of its bytes and settings) that decides.
    pub policies: std::collections::BTreeMap<String, String>,
    /// When that chain was loaded.
    pub since: Option<Timestamp>,
    /// Reloads that were tried since the service began.
    pub attempts: u64,
    /// Why the last one was refused, so that the chain before it still decides.
    pub refused: Option<String>,
    /// When that was.
    pub refused_at: Option<Timestamp>,
}

/// How one loop of the service is doing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoopStatus {
    /// Its name.
    pub name: String,
    /// Failures since the service began.
    pub errors: u64,
    /// The last failure.
    pub last_error: Option<String>,
    /// When that was.
    pub last_error_at: Option<Timestamp>,
}

impl ServiceStatus {
    /// Whether the process that wrote it still lives.
    pub fn alive(&self) -> bool {
        Owner { pid: self.pid, start: self.process_start }.alive()
    }
}

impl Store {
    /// Takes the place of the service of this installation; none when another process has it.
    ///
    /// # Errors
    /// When the lock's file cannot be used.
    pub fn try_lock_service(&self) -> Result<Option<WorkspaceLock>, Error> {
        // No workspace's id has an underscore.
        self.try_lock_file("_service", true)
    }

    /// Writes down how the service is doing; none when it ends.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn put_service(&self, status: Option<&ServiceStatus>) -> Result<(), Error> {
        let what = "keep the state of the service";
        let connection = self.connection();
        match status {
            Some(status) => connection.execute(
                "insert into meta (key, value) values ('service', ?1) on conflict (key) do update set value = ?1",
                [to_json(status, what)?],
            ),
            None => connection.execute("delete from meta where key = 'service'", []),
        }
        .map_err(statement(what))?;
        Ok(())
    }

    /// The service that runs now, if one does.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn service(&self) -> Result<Option<ServiceStatus>, Error> {
        let what = "read the state of the service";
        let text: Option<String> = self
            .connection()
            .query_row("select value from meta where key = 'service'", [], |row| row.get(0))
            .optional()
            .map_err(statement(what))?;
        let status: Option<ServiceStatus> = text.map(|text| from_json(&text, what)).transpose()?;
        // One that was killed could not take its line away.
        Ok(status.filter(ServiceStatus::alive))
    }

    /// Writes something, to see whether that works: on a full disk reading does, too.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn probe(&self) -> Result<(), Error> {
        self.connection()
            .execute(
                "insert into meta (key, value) values ('probe', ?1) on conflict (key) do update set value = ?1",
                [Timestamp::now().to_string()],
            )
            .map_err(statement("write"))?;
        Ok(())
    }
}
