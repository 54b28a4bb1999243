//! The point where the chain continues, and the signature of its end.

use rusqlite::{Connection, OptionalExtension, Transaction};

use super::outside::{self, Outside};
use super::{HEAD, Head, Signed, canonical, put_signed, signed};
use crate::store::key::Key;
use crate::store::{Error, Store, statement};

/// The text in place of a lost hash of the previous record: the gap remains visible.
const LOST: &str = "lost";

/// The predecessor of the next record.
pub(super) struct Tip {
    pub(super) number: i64,
    pub(super) hash: String,
}

impl Store {
    /// Returns the predecessor of the next record: the later of the two signed ends. If records after it were removed,
    /// the gap remains visible. On a new chain, and for an end by an older Wharf, the missing end outside the database
    /// is written.
    pub(super) fn tip(&self, connection: &Connection, key: &Key) -> Result<Tip, Error> {
        let what = "find the end of the decision records";
        let own = |signed: &Signed| signed.genuine() && signed.public_key == key.public();
        let kept = signed(connection, HEAD)?;
        let head: Option<Head> =
            kept.as_ref().filter(|kept| own(kept)).and_then(|kept| serde_json::from_str(&kept.body).ok());
        let outside = Outside::read(&self.dir);
        let missing = matches!(outside, Outside::Missing);
        let outside = outside.head(key, self.host_id());
        let newest: i64 = connection
            .query_row(
                "select max(coalesce((select max(number) from decisions), 0),
                            coalesce((select seq from sqlite_sequence where name = 'decisions'), 0))",
                [],
                |row| row.get(0),
            )
            .map_err(statement(what))?;
        let known = head.iter().chain(&outside).map(|head| head.number).max().unwrap_or(0);
        let number = newest.max(known);
        let lost = || Tip { number, hash: LOST.to_owned() };
        Ok(match (head, outside) {
            (Some(head), Some(outside)) => {
                let named: Option<String> = connection
                    .prepare_cached("select hash from decisions where number = ?1")
                    .and_then(|mut query| query.query_row([outside.number], |row| row.get(0)).optional())
                    .map_err(statement(what))?;
                if named.is_some_and(|hash| hash != outside.hash) {
                    return Ok(lost());
                }
                let hash = if outside.number > head.number { outside.hash } else { head.hash };
                Tip { number, hash }
            }
            // An older Wharf stored it in the database only.
            (Some(head), None) if missing && !head.outside => {
                let tip = Tip { number, hash: head.hash.clone() };
                self.keep_outside(key, &head)?;
                tip
            }
            (None, None) if missing && kept.is_none() && number == 0 && !self.has_decided(connection)? => {
                let head = Head { host: self.host_id().to_owned(), number: 0, hash: String::new(), outside: true };
                self.keep_outside(key, &head)?;
                Tip { number, hash: String::new() }
            }
            (None, Some(outside)) if outside.number == 0 && number == 0 && kept.is_none() => {
                Tip { number, hash: String::new() }
            }
            _ => lost(),
        })
    }

    /// Returns whether workspaces name decisions, which proves that there were some.
    pub(super) fn has_decided(&self, connection: &Connection) -> Result<bool, Error> {
        let what = "search for decisions";
        connection
            .query_row(
                "select exists (select 1 from workspaces where coalesce(json_array_length(body, '$.decisions'), 0) > 0)",
                [],
                |row| row.get(0),
            )
            .map_err(statement(what))
    }

    /// Ends a transaction that has written to the chain: signs the end in the database, and then outside of it.
    pub(super) fn end_with(
        &self,
        transaction: Transaction<'_>,
        key: &Key,
        name: &str,
        number: i64,
        hash: String,
    ) -> Result<(), Error> {
        let head = Head { host: self.host_id().to_owned(), number, hash, outside: true };
        put_signed(&transaction, name, key, &head)?;
        transaction.commit().map_err(statement("record a decision"))?;
        // The decision is recorded. An outdated file is harmless, and the next record updates it.
        if let Err(error) = self.keep_outside(key, &head) {
            tracing::warn!("the end of the decision records is stored only in the database: {error}");
        }
        Ok(())
    }

    fn keep_outside(&self, key: &Key, head: &Head) -> Result<(), Error> {
        let what = "sign the decision records";
        let body = canonical(head).map_err(|error| Error::Statement { what, cause: error.to_string() })?;
        outside::write(&self.dir, key, self.host_id(), &key.sign(body), head)
    }
}
