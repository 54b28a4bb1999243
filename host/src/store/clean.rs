//! Rows of earlier versions with the value of a secret. Those versions stored values in places from which this version
//! removes them.
//!
//! Rows that are only displayed are changed. A record is never changed, because its hash is a part of the chain. It
//! gets a clean copy beside it, which is then read by everything except the verification of the chain. Pruning removes
//! both.

use rusqlite::{Connection, TransactionBehavior, params};

use super::{Error, Store, statement};

const LEFT: &str = "values-left";

/// Texts that are only displayed: table, column, and whether it is JSON.
const TEXTS: [(&str, &str, bool); 6] = [
    ("snapshots", "body", true),
    ("standings", "body", true),
    ("requests", "body", true),
    ("events", "detail", false),
    ("ledger", "reason", false),
    ("ledger", "outcome", false),
];

/// The functions that clean texts; each returns `None` if there is nothing to remove.
pub struct Cleaner<'a> {
    /// For the body of a record.
    pub record: &'a dyn Fn(&str) -> Option<String>,
    /// For other JSON.
    pub json: &'a dyn Fn(&str) -> Option<String>,
    /// For a text.
    pub text: &'a dyn Fn(&str) -> Option<String>,
}

impl Store {
    /// Returns whether a version that stored values in more places wrote the store, and it was not cleaned since.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn may_hold_values(&self) -> Result<bool, Error> {
        self.connection()
            .prepare_cached("select 1 from meta where key = ?1")
            .and_then(|mut query| query.exists([LEFT]))
            .map_err(statement("read the pending redactions"))
    }

    /// Cleans everything except workspaces, whose fields are more than texts, and records that this is done.
    ///
    /// # Errors
    /// When the store cannot be written; then nothing is changed.
    pub fn clean(&self, cleaner: &Cleaner<'_>) -> Result<(), Error> {
        let what = "redact secrets in earlier rows";
        let mut connection = self.connection();
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(statement(what))?;
        for (table, column, is_json) in TEXTS {
            let clean = if is_json { cleaner.json } else { cleaner.text };
            let query = format!("select rowid, {column} from {table} where {column} is not null");
            for (row, text) in changed(&transaction, &query, clean)? {
                let update = format!("update {table} set {column} = ?2 where rowid = ?1");
                transaction.execute(&update, params![row, text]).map_err(statement(what))?;
            }
        }
        for (number, body) in changed(&transaction, "select number, body from decisions", cleaner.record)? {
            transaction
                .execute("insert or replace into shown (number, body) values (?1, ?2)", params![number, body])
                .map_err(statement(what))?;
        }
        transaction.execute("delete from meta where key = ?1", [LEFT]).map_err(statement(what))?;
        transaction.commit().map_err(statement(what))
    }
}

/// Returns the rows that a cleaner changes, with their new texts.
fn changed(
    connection: &Connection,
    query: &str,
    clean: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<(i64, String)>, Error> {
    let what = "search for secrets in earlier rows";
    let mut query = connection.prepare(query).map_err(statement(what))?;
    let mut rows = query.query([]).map_err(statement(what))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(statement(what))? {
        let text: String = row.get(1).map_err(statement(what))?;
        if let Some(clean) = clean(&text) {
            found.push((row.get(0).map_err(statement(what))?, clean));
        }
    }
    Ok(found)
}
