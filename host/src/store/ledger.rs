//! The ledger of cleanup: the removals and stops that sweeps did or plan, and the entries that people undid.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{TransactionBehavior, params};
use serde::{Deserialize, Serialize};

use super::{Error, Store, statement};

/// The time that ended entries are kept.
const KEPT_HOURS: i64 = 24 * 90;

/// The state of an entry of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LedgerState {
    /// It will be done when its grace period is over and the policies still want it.
    Pending,
    /// It was done.
    Done,
    /// A person undid it: sweeps leave this object alone as long as it exists.
    Undone,
    /// The policies no longer want it, or the object was gone before.
    Cancelled,
}

impl LedgerState {
    /// Returns the name in the store and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Done => "done",
            Self::Undone => "undone",
            Self::Cancelled => "cancelled",
        }
    }

    fn parse(text: &str) -> Self {
        match text {
            "pending" => Self::Pending,
            "done" => Self::Done,
            "undone" => Self::Undone,
            _ => Self::Cancelled,
        }
    }
}

/// The action of a sweep on an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum LedgerAction {
    Stop,
    Remove,
}

impl LedgerAction {
    /// Returns the name in the store and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Remove => "remove",
        }
    }

    /// A removal needs its whole word: a damaged one must not remove anything.
    fn parse(text: &str) -> Self {
        if text == "remove" { Self::Remove } else { Self::Stop }
    }
}

/// One action of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LedgerEntry {
    /// Its number; 0 before it is written.
    pub id: i64,
    /// `workspace`, `image`, `volume` or `network`.
    pub kind: String,
    /// The candidate's id: a workspace's, or e.g. `volume:pgdata`.
    pub object: String,
    /// Its name for people.
    pub name: String,
    /// Distinguishes this object from a later one of the same name: the id of its container or image, or a time.
    pub identity: String,
    /// Stopping or removing.
    pub action: LedgerAction,
    /// The reason, in the policy's words.
    pub reason: String,
    /// The policy that wanted it.
    pub policy: String,
    /// Bytes that it frees, when measured.
    pub bytes: Option<u64>,
    /// Time of the sweep that first wanted it.
    pub planned: Timestamp,
    /// End of its grace period.
    pub due: Timestamp,
    /// Its state.
    pub state: LedgerState,
    /// Time when it was done, undone or cancelled.
    pub ended: Option<Timestamp>,
    /// Details of the outcome, if there are any.
    pub outcome: Option<String>,
}

/// An image that Wharf pulled because the engine did not have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PulledImage {
    /// The pulled reference.
    pub reference: String,
    /// The image that the reference meant then.
    pub image_id: String,
    /// Time of the pull.
    pub pulled: Timestamp,
}

impl Store {
    /// Writes a new entry. Returns its number.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn ledger_add(&self, entry: &LedgerEntry) -> Result<i64, Error> {
        let connection = self.connection();
        connection
            .execute(
                "insert into ledger
                     (kind, object, name, identity, action, reason, policy, bytes, planned, due, state, ended, outcome)
                 values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
                params![
                    entry.kind,
                    entry.object,
                    entry.name,
                    entry.identity,
                    entry.action.as_str(),
                    entry.reason,
                    entry.policy,
                    entry.bytes.and_then(|bytes| i64::try_from(bytes).ok()),
                    entry.planned.to_string(),
                    entry.due.to_string(),
                    entry.state.as_str(),
                    entry.ended.map(|time| time.to_string()),
                    entry.outcome,
                ],
            )
            .map_err(statement("write the ledger"))?;
        Ok(connection.last_insert_rowid())
    }

    /// Changes the state of an entry, unless it differs from the state that the caller expects: a person and a sweep
    /// may act on the same entry. Returns whether the state was changed.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn ledger_turn(
        &self,
        id: i64,
        (from, to): (LedgerState, LedgerState),
        outcome: Option<&str>,
    ) -> Result<bool, Error> {
        let ended = (to != LedgerState::Pending).then(|| Timestamp::now().to_string());
        let turned = self
            .connection()
            .execute(
                "update ledger set state = ?3, ended = ?4, outcome = ?5 where id = ?1 and state = ?2",
                params![id, from.as_str(), to.as_str(), ended, outcome],
            )
            .map_err(statement("write the ledger"))?;
        Ok(turned > 0)
    }

    /// Returns entries, newest first: all of them, or those in a state.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn ledger(&self, state: Option<LedgerState>, most: u32) -> Result<Vec<LedgerEntry>, Error> {
        let what = "read the ledger";
        let connection = self.connection();
        let mut query = connection
            .prepare_cached(
                "select id, kind, object, name, identity, action, reason, policy, bytes, planned, due, state, ended, outcome
                 from ledger where ?1 is null or state = ?1 order by id desc limit ?2",
            )
            .map_err(statement(what))?;
        let state = state.map(LedgerState::as_str);
        let rows = query
            .query_map(params![state, most], |row| {
                let time = |text: String| text.parse().unwrap_or(Timestamp::UNIX_EPOCH);
                Ok(LedgerEntry {
                    id: row.get(0)?,
                    kind: row.get(1)?,
                    object: row.get(2)?,
                    name: row.get(3)?,
                    identity: row.get(4)?,
                    action: LedgerAction::parse(&row.get::<_, String>(5)?),
                    reason: row.get(6)?,
                    policy: row.get(7)?,
                    bytes: row.get::<_, Option<i64>>(8)?.and_then(|bytes| u64::try_from(bytes).ok()),
                    planned: time(row.get(9)?),
                    due: time(row.get(10)?),
                    state: LedgerState::parse(&row.get::<_, String>(11)?),
                    ended: row.get::<_, Option<String>>(12)?.and_then(|text| text.parse().ok()),
                    outcome: row.get(13)?,
                })
            })
            .map_err(statement(what))?;
        rows.collect::<rusqlite::Result<_>>().map_err(statement(what))
    }

    /// Removes entries that ended long ago. Entries that people undid stay.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn ledger_forget(&self) -> Result<(), Error> {
        let before = Timestamp::now() - jiff::SignedDuration::from_hours(KEPT_HOURS);
        self.connection()
            .execute("delete from ledger where state in ('done', 'cancelled') and ended < ?1", [before.to_string()])
            .map_err(statement("delete old entries of the ledger"))?;
        Ok(())
    }

    /// Records an image that Wharf pulled.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn put_pulled_image(&self, reference: &str, image_id: &str) -> Result<(), Error> {
        self.connection()
            .execute(
                "insert into pulled_images (reference, image_id, pulled) values (?1, ?2, ?3)
                 on conflict (reference) do update set image_id = ?2, pulled = ?3",
                params![reference, image_id, Timestamp::now().to_string()],
            )
            .map_err(statement("record a pulled image"))?;
        Ok(())
    }

    /// Removes the record of an image that Wharf pulled.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn forget_pulled_image(&self, reference: &str) -> Result<(), Error> {
        self.connection()
            .execute("delete from pulled_images where reference = ?1", [reference])
            .map_err(statement("delete a pulled image"))?;
        Ok(())
    }

    /// Returns the images that Wharf pulled, sorted.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn pulled_images(&self) -> Result<Vec<PulledImage>, Error> {
        let what = "read the pulled images";
        let connection = self.connection();
        let mut query = connection
            .prepare_cached("select reference, image_id, pulled from pulled_images order by reference")
            .map_err(statement(what))?;
        let rows = query
            .query_map([], |row| {
                let pulled = row.get::<_, String>(2)?.parse().unwrap_or(Timestamp::UNIX_EPOCH);
                Ok(PulledImage { reference: row.get(0)?, image_id: row.get(1)?, pulled })
            })
            .map_err(statement(what))?;
        rows.collect::<rusqlite::Result<_>>().map_err(statement(what))
    }

    /// Records which objects are in use now, and returns for each object the time when it was last seen in use, or
    /// first seen at all. Objects that are not named are removed from the record.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn last_used(
        &self,
        objects: &BTreeMap<String, bool>,
        write: bool,
    ) -> Result<BTreeMap<String, Timestamp>, Error> {
        let what = "record used objects";
        let mut connection = self.connection();
        // A transaction that starts with a read would not wait for another writer.
        let behavior = if write { TransactionBehavior::Immediate } else { TransactionBehavior::Deferred };
        let transaction = connection.transaction_with_behavior(behavior).map_err(statement(what))?;
        let now = Timestamp::now();
        let mut known: BTreeMap<String, Timestamp> = {
            let mut query = transaction.prepare("select object, time from last_used").map_err(statement(what))?;
            let rows = query.query_map([], |row| {
                let time = row.get::<_, String>(1)?.parse().unwrap_or(now);
                Ok((row.get::<_, String>(0)?, time))
            });
            rows.and_then(Iterator::collect).map_err(statement(what))?
        };
        known.retain(|object, _| objects.contains_key(object));
        for (object, used) in objects {
            let time = known.entry(object.clone()).or_insert(now);
            if *used {
                *time = now;
            }
        }
        if write {
            transaction.execute("delete from last_used", []).map_err(statement(what))?;
            for (object, time) in &known {
                transaction
                    .execute("insert into last_used (object, time) values (?1, ?2)", params![object, time.to_string()])
                    .map_err(statement(what))?;
            }
            transaction.commit().map_err(statement(what))?;
        }
        Ok(known)
    }
}
