//! Anchors: the signed end of the chain at one time, for a witness elsewhere. Even a state folder that was restored to
//! an earlier day, including its key, must match them.

use std::path::Path;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};
use serde::{Deserialize, Serialize};

use super::verify::{Damage, Outcome, Verified};
use super::{Signed, canonical};
use crate::store::{Error, Store, statement};

/// The signed content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct End {
    host: String,
    number: i64,
    hash: String,
    time: Timestamp,
}

/// The end of the chain at one time. As text it is one line of JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    end: End,
    signed: Signed,
}

impl std::fmt::Display for Anchor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&canonical(&self.signed).unwrap_or_default())
    }
}

impl Anchor {
    /// Reads the lines of a file; `path` is for messages.
    ///
    /// # Errors
    /// [`Error::BadAnchor`] for an invalid line, and for a file without anchors.
    pub fn read_all(path: &Path, text: &str) -> Result<Vec<Self>, Error> {
        let bad = |cause: String| Error::BadAnchor { path: path.to_path_buf(), cause };
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let all = lines.map(|(at, line)| {
            let signed: Signed =
                serde_json::from_str(line).map_err(|_| bad(format!("line {} is not an anchor", at + 1)))?;
            let end =
                serde_json::from_str(&signed.body).map_err(|_| bad(format!("line {} is not an anchor", at + 1)))?;
            Ok(Self { end, signed })
        });
        let all: Vec<Self> = all.collect::<Result<_, Error>>()?;
        if all.is_empty() { Err(bad("it is empty".into())) } else { Ok(all) }
    }

    /// Returns the contradictions between a chain and the anchor.
    pub(super) fn against(
        &self,
        connection: &Connection,
        verified: &Verified,
        host: &str,
    ) -> Result<Option<Damage>, Error> {
        let what = "compare the decision records with an anchor";
        let End { number, time, .. } = &self.end;
        let shown = format!("the anchor of {time:.0}");
        let damage = |what: String| Ok(Some(Damage { number: None, what, lost: false }));
        if !self.signed.genuine() {
            return damage(format!("{shown} was changed: its signature does not match"));
        }
        if self.signed.public_key != verified.public_key {
            let key = self.signed.public_key.get(..16).unwrap_or_default();
            return damage(format!("{shown} was signed with another key ({key}...)"));
        }
        if self.end.host != host {
            return damage(format!("{shown} belongs to another installation, {}", self.end.host));
        }
        let found = |sql: &str| {
            connection.query_row(sql, [number], |row| row.get::<_, String>(0)).optional().map_err(statement(what))
        };
        let pruned = verified.checkpoint.as_ref().filter(|checkpoint| *number <= checkpoint.number);
        if *number == 0 || verified.acknowledged.iter().any(|said| said.has_lost(*number)) {
            return Ok(None);
        }
        if let Some(checkpoint) = pruned {
            return match checkpoint.number == *number && checkpoint.hash != self.end.hash {
                true => damage(format!("record {number} differs from the one in {shown}")),
                false => Ok(None),
            };
        }
        match found("select hash from decisions where number = ?1")? {
            Some(hash) if hash == self.end.hash => Ok(None),
            Some(_) => damage(format!("record {number} differs from the one in {shown}")),
            None => {
                let last: i64 = connection
                    .query_row("select coalesce(max(number), 0) from decisions", [], |row| row.get(0))
                    .map_err(statement(what))?;
                match last {
                    0 => damage(format!("there are no records, but {shown} names record {number}")),
                    last => damage(format!("the chain ends with record {last}, but {shown} names record {number}")),
                }
            }
        }
    }
}

impl Store {
    /// Returns the signed end of the chain, for a witness elsewhere.
    ///
    /// # Errors
    /// [`Error::Damaged`] when the chain is damaged, or when the store cannot be read.
    pub fn anchor(&self) -> Result<Anchor, Error> {
        let what = "sign the end of the decision records";
        let key = self.key()?;
        let mut connection = self.connection();
        let transaction = connection.transaction().map_err(statement(what))?;
        let Outcome { verified, last: (number, hash), .. } = self.walk(&transaction, &key.public(), true)?;
        verified.whole()?;
        let end = End { host: self.host_id().to_owned(), number, hash, time: Timestamp::now() };
        let body = canonical(&end).map_err(|error| Error::Statement { what, cause: error.to_string() })?;
        Ok(Anchor { end, signed: key.sign(body) })
    }
}
