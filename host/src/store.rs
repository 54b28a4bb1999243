//! The intended state: workspaces, the journal of intents, and the decision records, in SQLite.
//!
//! One file in the state folder, in WAL mode, so that several processes (CLI calls, a service) can use it
//! concurrently. Writers wait for each other up to `BUSY`. A lock file serializes the verbs of a workspace, see
//! [`Store::try_lock`].
//!
//! May touch: the state folder. No rusqlite type leaves this module.

use std::fs::File;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};

use crate::workspace::WorkspaceId;

mod backup;
mod clean;
mod decisions;
mod journal;
mod key;
mod ledger;
mod metrics;
mod migrations;
mod records;
mod requests;
mod service;
mod signals;
mod snapshots;
mod standings;
mod states;
mod tokens;
mod workspaces;

pub use backup::Backup;
pub use clean::Cleaner;
pub use decisions::{Acknowledged, Anchor, Checkpoint, Damage, DecisionPages, DecisionQuery, StoredDecision, Verified};
pub use ledger::{LedgerAction, LedgerEntry, LedgerState, PulledImage};
pub use metrics::MetricRow;
pub use records::{JournalEntry, Owner, Verb, Workspace};
pub use requests::KnownRequest;
pub use service::{ChainStatus, LoopStatus, ServiceStatus};
pub use signals::{Signal, SignalKind};
pub use snapshots::Snapshot;
pub use states::{EventQuery, Noted};
pub use tokens::{Role, Token, secret_text};
pub use workspaces::KnownWorkspace;

/// Maximum time that a writer waits for another process.
const BUSY: Duration = Duration::from_secs(30);

/// The reason why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file or folder is unusable.
    #[error("cannot use the state in '{path}': {cause}")]
    Unusable {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        cause: String,
    },
    /// A statement failed.
    #[error("the store failed to {what}: {cause}")]
    Statement {
        /// The attempted operation.
        what: &'static str,
        /// The cause.
        cause: String,
    },
    /// A newer Wharf wrote the store.
    #[error("the store has version {found}, but this Wharf supports up to {known}")]
    Newer {
        /// The version in the file.
        found: i64,
        /// The newest version that this program knows.
        known: i64,
    },
    /// The chain of decision records is incomplete or damaged.
    #[error("the decision records are damaged: {what}")]
    #[allow(missing_docs)]
    Damaged { what: String },
    /// There is no loss to acknowledge.
    #[error("no decision records are lost{}", edited.as_ref().map_or(String::new(), |what| format!(", but {what}")))]
    #[allow(missing_docs)]
    NothingLost { edited: Option<String> },
    /// A file of anchors is invalid.
    #[error("cannot use the anchor '{}': {cause}", path.display())]
    #[allow(missing_docs)]
    BadAnchor { path: PathBuf, cause: String },
    /// A copy cannot be written.
    #[error("cannot make the copy '{path}': {cause}")]
    #[allow(missing_docs)]
    NoBackup { path: PathBuf, cause: String },
    /// Other users can change files that influence decisions.
    #[error("{0}")]
    Untrusted(#[from] crate::trust::Untrusted),
    /// Another process works on the workspace.
    #[error("another wharf process is working on {0}")]
    Locked(String),
}

impl Error {
    /// Returns the remedy.
    pub fn remedy(&self) -> String {
        match self {
            Self::Unusable { .. } => "make the folder writable, or name another with --state-dir".into(),
            Self::Statement { .. } => {
                "check that the disk is not full; replace a damaged file with a copy of 'wharf backup', see \
                 docs/service.md"
                    .into()
            }
            Self::Newer { .. } => "use the newer Wharf, or another --state-dir".into(),
            Self::Damaged { .. } => "see 'wharf audit verify', and keep a copy of the state folder as evidence".into(),
            Self::NothingLost { edited: None } => "there is nothing to acknowledge".into(),
            Self::NothingLost { .. } => {
                "edited records stay reported: keep a copy of the state folder as evidence, and find out who can \
                 write to it"
                    .into()
            }
            Self::BadAnchor { .. } => "name a file that was written by 'wharf audit anchor'".into(),
            Self::NoBackup { .. } => "name a file that does not exist, in a writable folder".into(),
            Self::Untrusted(untrusted) => untrusted.remedy.clone(),
            Self::Locked(_) => "wait until it has finished, then try again".into(),
        }
    }
}

/// The files of a state folder that influence decisions: records and tokens, the key, secrets, and compiled code.
const DECIDING: [&str; 8] =
    ["wharf.db", "wharf.db-wal", "wharf.db-shm", "installation.key", "engine.json", "locks", "secrets", "compiled"];

/// Checks that no other user can change a state folder or its files that influence decisions.
///
/// # Errors
/// The first file that others can change, with the remedy.
pub fn check(dir: &Path) -> Result<(), Error> {
    match crate::trust::check_in(dir, &DECIDING) {
        Err(crate::trust::Error::Untrusted(untrusted)) => Err(untrusted.into()),
        // An unusable file reports its error when it is used.
        _ => Ok(()),
    }
}

fn statement(what: &'static str) -> impl Fn(rusqlite::Error) -> Error {
    move |error| Error::Statement { what, cause: error.to_string() }
}

/// The open store.
pub struct Store {
    dir: PathBuf,
    host_id: String,
    connection: Mutex<Connection>,
    /// Workspace records that were read, see `workspaces`.
    read: Mutex<workspaces::Read>,
    key: OnceLock<key::Key>,
}

/// Held while a verb works on a workspace. It is released when dropped, and by the kernel when the process ends.
#[derive(Debug)]
pub struct WorkspaceLock(#[allow(dead_code)] File);

impl Store {
    /// Opens the store in a folder, creating both if needed. The folder is closed to other users: records contain the
    /// requests of projects and users.
    ///
    /// # Errors
    /// An error if the folder or file is unusable, or a newer Wharf wrote it.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let unusable = |path: &Path, cause: String| Error::Unusable { path: path.to_path_buf(), cause };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir.join("locks"))
            .map_err(|error| unusable(dir, error.to_string()))?;
        let file = dir.join("wharf.db");
        // Created before SQLite opens it, so that neither it nor the files beside it are ever accessible to others.
        // An existing file is not opened: closing it would release this process's locks on it (POSIX), and with them
        // SQLite's protection from other programs that read the store.
        match File::options().create_new(true).write(true).mode(0o600).open(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(unusable(&file, error.to_string()));
            }
            _ => {}
        }
        let mut connection = Connection::open(&file).map_err(|error| unusable(&file, error.to_string()))?;
        let set_up = |connection: &Connection| -> rusqlite::Result<()> {
            connection.busy_timeout(BUSY)?;
            connection.pragma_update(None, "journal_mode", "wal")?;
            connection.pragma_update(None, "synchronous", "normal")?;
            // The last process to close a store would move the whole log into it, with three syncs at the end of each
            // command. Instead, the move happens after this many pages (1 MiB), which the next process reads in 1 ms
            // on opening.
            connection.pragma_update(None, "wal_autocheckpoint", 256)?;
            connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            connection.pragma_update(None, "foreign_keys", true)
        };
        // If two processes switch a new file's journal to WAL at once, SQLite lets one of them fail without waiting.
        let begin = std::time::Instant::now();
        loop {
            match set_up(&connection) {
                Ok(()) => break,
                Err(error) if is_busy(&error) && begin.elapsed() < BUSY => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(error) => return Err(unusable(&file, error.to_string())),
            }
        }
        migrations::run(&mut connection)?;
        let host_id = host_id(&connection)?;
        Ok(Self {
            dir: dir.to_path_buf(),
            host_id,
            connection: Mutex::new(connection),
            read: Mutex::default(),
            key: OnceLock::new(),
        })
    }

    /// Returns the id of this installation. Every object that it creates has the id in the label `wharf.host`.
    pub fn host_id(&self) -> &str {
        &self.host_id
    }

    /// Returns the state folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the sizes of its files in bytes, by part.
    pub fn sizes(&self) -> Vec<(&'static str, u64)> {
        let of = |name| std::fs::metadata(self.dir.join(name)).map_or(0, |file| file.len());
        vec![("database", of("wharf.db")), ("log", of("wharf.db-wal"))]
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the lock of a workspace; none if another process has it.
    ///
    /// # Errors
    /// An error if the lock's file is unusable.
    pub fn try_lock(&self, id: &WorkspaceId) -> Result<Option<WorkspaceLock>, Error> {
        self.try_lock_file(id.as_str(), true)
    }

    fn try_lock_file(&self, name: &str, alone: bool) -> Result<Option<WorkspaceLock>, Error> {
        let path = self.dir.join("locks").join(format!("{name}.lock"));
        let unusable = |error: std::io::Error| Error::Unusable { path: path.clone(), cause: error.to_string() };
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(unusable)?;
        match if alone { file.try_lock() } else { file.try_lock_shared() } {
            Ok(()) => Ok(Some(WorkspaceLock(file))),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(error)) => Err(unusable(error)),
        }
    }

    /// Takes the lock of this installation's networks; none if another process has it. The lock is shared to connect
    /// containers to a network, and exclusive to remove a network.
    ///
    /// # Errors
    /// An error if the lock's file is unusable.
    pub fn try_lock_networks(&self, alone: bool) -> Result<Option<WorkspaceLock>, Error> {
        // No workspace's id contains an underscore.
        self.try_lock_file("_networks", alone)
    }

    /// Takes the lock of sweeps; none if another process sweeps.
    ///
    /// # Errors
    /// An error if the lock's file is unusable.
    pub fn try_lock_sweeps(&self) -> Result<Option<WorkspaceLock>, Error> {
        self.try_lock_file("_sweeps", true)
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
    matches!(error.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked))
}

fn host_id(connection: &Connection) -> Result<String, Error> {
    let fresh = uuid::Uuid::now_v7().simple().to_string();
    let what = "read the host id";
    let read = || connection.query_row("select value from meta where key = 'host'", [], |row| row.get(0));
    // Read first, so that a reader waits for no writer.
    if let Some(known) = read().optional().map_err(statement(what))? {
        return Ok(known);
    }
    connection
        .execute("insert or ignore into meta (key, value) values ('host', ?1)", [&fresh])
        .map_err(statement(what))?;
    read().map_err(statement(what))
}

fn to_json<T: serde::Serialize>(value: &T, what: &'static str) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::Statement { what, cause: error.to_string() })
}

fn from_json<T: serde::de::DeserializeOwned>(text: &str, what: &'static str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|error| Error::Statement { what, cause: format!("a damaged record: {error}") })
}

#[cfg(test)]
mod tests;
