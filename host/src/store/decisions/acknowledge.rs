//! Acknowledgements of a loss: a record of the chain with the person, the time and the reason, and the place where the
//! chain continues.
//!
//! Only lost records can be acknowledged: a cut end, a lost head, a gap. An edited record is reported for as long as it
//! exists. An acknowledgement has its own signature, and identifies each loss by the record before it (number and hash)
//! and the number after it, so that it covers no other loss.

use jiff::Timestamp;
use rusqlite::{Connection, TransactionBehavior, params};
use serde::{Deserialize, Serialize};

use super::verify::Outcome;
use super::{HEAD, Signed, canonical, hash};
use crate::store::key::Key;
use crate::store::{Error, Store, statement};

/// The word in the hook's column of the record.
pub(super) const WORD: &str = "acknowledgement";

/// A place where records are missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Loss {
    /// The last record before it.
    pub(super) after: i64,
    /// The hash of that record.
    pub(super) hash: String,
    /// The first record after it; none when that is the acknowledgement itself.
    pub(super) next: Option<i64>,
}

/// The content of an acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// Its number in the chain.
    pub number: i64,
    /// Time of its writing.
    pub time: Timestamp,
    /// Its author.
    pub by: String,
    /// The reason that the loss is no cause for alarm, or the measures taken.
    pub reason: String,
    /// The reported damages.
    pub damages: Vec<String>,
    #[serde(rename = "places")]
    pub(super) losses: Vec<Loss>,
    /// The installation.
    pub(super) host: String,
}

/// Its form in the chain: the columns of every record, and the signed text.
#[derive(Serialize, Deserialize)]
struct Body {
    id: String,
    time: String,
    hook: String,
    workspace: String,
    signed: Signed,
}

/// Returns the acknowledgements of a chain that this key has signed for this installation.
pub(super) fn all(connection: &Connection, public_key: &str, host: &str) -> Result<Vec<Acknowledged>, Error> {
    let what = "read the acknowledgements";
    let mut query = connection
        .prepare_cached("select number, body from decisions where hook = ?1 order by number")
        .map_err(statement(what))?;
    let rows = query.query_map([WORD], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)));
    let rows: Vec<(i64, String)> =
        rows.and_then(|rows| rows.collect::<rusqlite::Result<_>>()).map_err(statement(what))?;
    let genuine = |(number, body): (i64, String)| {
        let body: Body = serde_json::from_str(&body).ok()?;
        let said: Acknowledged = serde_json::from_str(&body.signed.body).ok()?;
        let own = body.signed.genuine() && body.signed.public_key == public_key && said.host == host;
        (own && said.number == number).then_some(said)
    };
    Ok(rows.into_iter().filter_map(genuine).collect())
}

impl Acknowledged {
    /// Returns whether it covers the step from the record `after` with this hash to the record `next`.
    pub(super) fn covers(&self, after: i64, hash: &str, next: i64) -> bool {
        let behind = |loss: &Loss| loss.next.map_or(self.number == next, |number| number == next);
        self.losses.iter().any(|loss| loss.after == after && loss.hash == hash && behind(loss))
    }

    /// Returns whether a record of this number was lost in a place that it covers.
    pub(super) fn has_lost(&self, number: i64) -> bool {
        self.losses.iter().any(|loss| loss.after < number && number < loss.next.unwrap_or(self.number))
    }
}

impl Store {
    /// Records that a loss of decision records is known. From then on the loss is no longer reported, only its
    /// acknowledgement.
    ///
    /// # Errors
    /// When nothing is lost, or the store cannot be written.
    pub fn acknowledge(&self, reason: &str, by: &str) -> Result<Acknowledged, Error> {
        let what = "acknowledge the loss of decision records";
        let key: &Key = self.key()?;
        let mut connection = self.connection();
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(statement(what))?;
        let Outcome { verified, mut losses, last } = self.walk(&transaction, &key.public(), true)?;
        if losses.is_empty() && !verified.damages.iter().any(|damage| damage.lost) {
            return Err(Error::NothingLost { edited: verified.damages.first().map(ToString::to_string) });
        }
        let tip = self.tip(&transaction, key)?;
        // The chain continues from here, whatever the damage at its end.
        losses.push(Loss { after: last.0, hash: last.1, next: None });
        let lost = verified.damages.iter().filter(|damage| damage.lost).map(ToString::to_string).collect();
        let (id, time) = (uuid::Uuid::now_v7(), Timestamp::now());
        let said = Acknowledged {
            number: tip.number + 1,
            time,
            by: by.to_owned(),
            reason: reason.to_owned(),
            damages: lost,
            losses,
            host: self.host_id().to_owned(),
        };
        let json = |error: serde_json::Error| Error::Statement { what, cause: error.to_string() };
        let signed = key.sign(canonical(&said).map_err(json)?);
        let (id, time) = (id.to_string(), time.to_string());
        let body = Body { id: id.clone(), time: time.clone(), hook: WORD.into(), workspace: String::new(), signed };
        let body = canonical(&body).map_err(json)?;
        let own = hash(&tip.hash, &body);
        transaction
            .execute(
                "insert into decisions (number, id, time, hook, workspace, body, previous, hash) values (?1, ?2, ?3, ?4, '', ?5, ?6, ?7)",
                params![said.number, id, time, WORD, body, tip.hash, own],
            )
            .map_err(statement(what))?;
        self.end_with(transaction, key, HEAD, said.number, own)?;
        Ok(said)
    }
}
