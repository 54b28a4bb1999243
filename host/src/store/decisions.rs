//! The decision records: an append-only chain. Each record holds the hash of the previous one. The end of the chain
//! (`head`), and its beginning after old records were pruned (`checkpoint`), are signed with the installation's key.
//! The end is also stored outside the database (`outside`).
//!
//! This reveals an edited record, a removed record in the middle, a removed end, and a forged beginning. Lost records
//! are reported until they are acknowledged (`acknowledge`). The chain cannot reveal that the whole state folder was
//! restored to an earlier day. An `anchor` stored elsewhere reveals that.

use jiff::Timestamp;
use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params, params_from_iter};
use serde::{Deserialize, Serialize};

use super::key::{Key, Signed};
use super::{Error, Store, from_json, statement};
use crate::hooks::record::canonical;
use crate::hooks::{Decision, Hook};
use crate::workspace::{WorkspaceId, sha256_hex};

mod acknowledge;
mod anchor;
mod outside;
mod pages;
mod prune;
mod tip;
mod verify;

pub use acknowledge::Acknowledged;
pub use anchor::Anchor;

pub use pages::DecisionPages;
pub use verify::{Damage, Verified};

const HEAD: &str = "decisions-head";
const CHECKPOINT: &str = "decisions-checkpoint";
/// The body of a record as it is displayed, see `clean`.
const SHOWN: &str = "coalesce((select shown.body from shown where shown.number = decisions.number), body)";

/// A record as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDecision {
    /// Its number in the chain.
    pub number: i64,
    /// The decision as canonical JSON. If an earlier version stored the value of a secret in it, the value is removed
    /// here, and the hash is that of the original record.
    pub body: String,
    /// SHA-256 (hex) of the hash of the previous record, a line break, and the body.
    pub hash: String,
}

impl StoredDecision {
    /// Decodes the decision.
    ///
    /// # Errors
    /// When the body is not a decision that this program knows.
    pub fn decision(&self) -> Result<Decision, Error> {
        from_json(&self.body, "read a decision")
    }
}

/// The filter of records.
#[derive(Debug, Clone, Default)]
pub struct DecisionQuery {
    /// Only decisions about this workspace.
    pub workspace: Option<WorkspaceId>,
    /// Only decisions at this hook.
    pub hook: Option<Hook>,
    /// The earliest time.
    pub since: Option<Timestamp>,
    /// The latest time.
    pub until: Option<Timestamp>,
    /// Only decisions that counted, without the records of shadows beside them.
    pub counting: bool,
}

/// The end of the chain: its last record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    host: String,
    number: i64,
    hash: String,
    /// Whether it is also stored outside the database: always, except by an older Wharf.
    #[serde(default)]
    outside: bool,
}

/// The beginning of the chain after old records were pruned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The installation.
    pub host: String,
    /// Number of the last pruned record.
    pub number: i64,
    /// Its hash, which the next record holds.
    pub hash: String,
    /// Number of all pruned records.
    pub count: u64,
    /// Time of the pruning.
    pub time: Timestamp,
}

impl Store {
    /// Appends decisions, all or none. Each record holds the hash of the previous one.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn append(&self, decisions: &[Decision]) -> Result<(), Error> {
        let what = "record a decision";
        if decisions.is_empty() {
            return Ok(());
        }
        let key = self.key()?;
        let mut connection = self.connection();
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(statement(what))?;
        let tip = self.tip(&transaction, key)?;
        let (mut number, mut previous) = (tip.number, tip.hash);
        for decision in decisions {
            let body = canonical(decision).map_err(|error| Error::Statement { what, cause: error.to_string() })?;
            let hash = hash(&previous, &body);
            number += 1;
            transaction
                .prepare_cached(
                    "insert into decisions (number, id, time, hook, workspace, body, previous, hash, shadow_of)
                     values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                )
                .and_then(|mut insert| {
                    insert.execute(params![
                        number,
                        decision.id.to_string(),
                        decision.time.to_string(),
                        decision.hook.as_str(),
                        decision.workspace,
                        body,
                        previous,
                        hash,
                        decision.shadow_of.map(|id| id.to_string())
                    ])
                })
                .map_err(statement(what))?;
            previous = hash;
        }
        self.end_with(transaction, key, HEAD, number, previous)
    }

    /// Returns the newest decisions about a workspace, newest first. Records of shadows are left out, because they
    /// decided nothing.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn decisions(&self, workspace: &WorkspaceId, most: u32) -> Result<Vec<Decision>, Error> {
        let query = DecisionQuery { workspace: Some(workspace.clone()), counting: true, ..DecisionQuery::default() };
        self.decisions_before(&query, i64::MAX, most)?.iter().map(StoredDecision::decision).collect()
    }

    /// Returns records after a number, in the order of the chain.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn decisions_after(&self, query: &DecisionQuery, number: i64, most: u32) -> Result<Vec<StoredDecision>, Error> {
        self.page(query, "number > ?", "asc", number, most)
    }

    /// Returns records before a number, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn decisions_before(
        &self,
        query: &DecisionQuery,
        number: i64,
        most: u32,
    ) -> Result<Vec<StoredDecision>, Error> {
        self.page(query, "number < ?", "desc", number, most)
    }

    fn page(
        &self,
        query: &DecisionQuery,
        bound: &str,
        order: &str,
        number: i64,
        most: u32,
    ) -> Result<Vec<StoredDecision>, Error> {
        let what = "read decisions";
        let (mut sql, mut values) = (
            format!("select number, {SHOWN}, hash from decisions where hook <> '{}' and {bound}", acknowledge::WORD),
            vec![Sql::Integer(number)],
        );
        let mut add = |part: &str, value: String| {
            sql.push_str(part);
            values.push(Sql::Text(value));
        };
        if let Some(workspace) = &query.workspace {
            add(" and workspace = ?", workspace.to_string());
        }
        if let Some(hook) = query.hook {
            add(" and hook = ?", hook.as_str().to_owned());
        }
        // IDs sort by time, and have an index.
        if let Some(since) = query.since {
            add(" and id >= ?", id_at(since, 0));
        }
        if let Some(until) = query.until {
            add(" and id < ?", id_at(until, 1));
        }
        if query.counting {
            sql.push_str(" and shadow_of is null");
        }
        sql.push_str(&format!(" order by number {order} limit {most}"));
        let connection = self.connection();
        let mut statement_ = connection.prepare_cached(&sql).map_err(statement(what))?;
        let rows = statement_
            .query_map(params_from_iter(values), |row| {
                Ok(StoredDecision { number: row.get(0)?, body: row.get(1)?, hash: row.get(2)? })
            })
            .map_err(statement(what))?;
        rows.collect::<rusqlite::Result<_>>().map_err(statement(what))
    }

    /// Returns the number of the newest record; 0 without any.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn newest_decision(&self) -> Result<i64, Error> {
        self.connection()
            .query_row("select coalesce(max(number), 0) from decisions", [], |row| row.get(0))
            .map_err(statement("read decisions"))
    }

    /// Returns a record by its number or ID.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn decision(&self, number_or_id: &str) -> Result<Option<StoredDecision>, Error> {
        let number = number_or_id.trim_start_matches('#').parse::<i64>().unwrap_or(-1);
        self.connection()
            .query_row(
                &format!("select number, {SHOWN}, hash from decisions where (number = ?1 or id = ?2) and hook <> ?3"),
                params![number, number_or_id, acknowledge::WORD],
                |row| Ok(StoredDecision { number: row.get(0)?, body: row.get(1)?, hash: row.get(2)? }),
            )
            .optional()
            .map_err(statement("read a decision"))
    }

    /// Returns the subset of these decisions that is still recorded.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn recorded(&self, ids: &[uuid::Uuid]) -> Result<Vec<uuid::Uuid>, Error> {
        let what = "look up decisions";
        let connection = self.connection();
        let mut query = connection.prepare_cached("select 1 from decisions where id = ?1").map_err(statement(what))?;
        let mut found = Vec::new();
        for id in ids {
            if query.exists([id.to_string()]).map_err(statement(what))? {
                found.push(*id);
            }
        }
        Ok(found)
    }

    /// Returns the beginning of the chain, if records were pruned. [`Store::verify`] checks its signature.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn checkpoint(&self) -> Result<Option<Checkpoint>, Error> {
        let connection = self.connection();
        signed(&connection, CHECKPOINT)?.map(|signed| from_json(&signed.body, "read the checkpoint")).transpose()
    }

    /// Returns the installation's key, which is read on first use.
    fn key(&self) -> Result<&Key, Error> {
        if let Some(key) = self.key.get() {
            return Ok(key);
        }
        let key = Key::load(&self.dir)?;
        Ok(self.key.get_or_init(|| key))
    }
}

fn hash(previous: &str, body: &str) -> String {
    sha256_hex(format!("{previous}\n{body}").as_bytes())
}

/// Returns the smallest ID (a UUID v7) that can be created this many milliseconds after a time.
fn id_at(time: Timestamp, later_ms: i64) -> String {
    let ms = u64::try_from(time.as_millisecond().saturating_add(later_ms)).unwrap_or(0);
    format!("{:08x}-{:04x}", ms >> 16, ms & 0xffff)
}

fn signed(connection: &Connection, name: &str) -> Result<Option<Signed>, Error> {
    let what = "read the signed parts";
    let text: Option<String> = connection
        .prepare_cached("select value from meta where key = ?1")
        .and_then(|mut query| query.query_row([name], |row| row.get(0)).optional())
        .map_err(statement(what))?;
    text.map(|text| from_json(&text, what)).transpose()
}

fn put_signed<T: Serialize>(transaction: &Transaction<'_>, name: &str, key: &Key, value: &T) -> Result<(), Error> {
    let what = "sign the decision records";
    let json = |error: serde_json::Error| Error::Statement { what, cause: error.to_string() };
    let signed = key.sign(canonical(value).map_err(json)?);
    transaction
        .prepare_cached("insert into meta (key, value) values (?1, ?2) on conflict (key) do update set value = ?2")
        .and_then(|mut put| put.execute([name, &canonical(&signed).map_err(|_| rusqlite::Error::InvalidQuery)?]))
        .map_err(statement(what))?;
    Ok(())
}

#[cfg(test)]
mod tests;
