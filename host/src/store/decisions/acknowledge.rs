//! Acknowledging a loss: a record of the chain that says who took note of it, when and why, and from where the chain goes on.
//!
//! Only what is gone can be acknowledged: a cut end, a lost head, a gap. A record that was edited stays reported for as long
//! as it is there. An acknowledgement is signed by itself, and names each loss by what stands before it (number and hash) and
//! the number behind it, so that it covers no other.

use jiff::Timestamp;
use rusqlite::{Connection, TransactionBehavior, params};
use serde::{Deserialize, Serialize};

use super::verify::Outcome;
use super::{HEAD, Signed, canonical, hash};
use crate::store::key::Key;
use crate::store::{Error, Store, statement};

/// What stands in the place of a hook in the record.
pub(super) const WORD: &str = "acknowledgement";

/// A place where records are missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Loss {
    /// The last record before it.
    pub(super) after: i64,
    /// Its hash.
    pub(super) hash: String,
    /// The first one behind it; none when the acknowledgement itself is that.
    pub(super) next: Option<i64>,
}

/// What an acknowledgement says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// Its number in the chain.
    pub number: i64,
    /// When it was written.
    pub time: Timestamp,
    /// Who wrote it.
    pub by: String,
    /// Why the loss is no cause for alarm, or what was done about it.
    pub reason: String,
    /// What had been reported.
    pub damages: Vec<String>,
    #[serde(rename = "places")]
    pub(super) losses: Vec<Loss>,
    /// The installation.
    pub(super) host: String,
}

/// As it stands in the chain: the columns of every record, and what is signed.
#[derive(Serialize, Deserialize)]
struct Body {
    id: String,
    time: String,
    hook: String,
    workspace: String,
    signed: Signed,
}

/// The acknowledgements of a chain that this key has signed for this installation.
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
    /// Whether it covers the step from the record `after` with this hash to the record `next`.
    pub(super) fn covers(&self, after: i64, hash: &str, next: i64) -> bool {
        let behind = |loss: &Loss| loss.next.map_or(self.number == next, |number| number == next);
        self.losses.iter().any(|loss| loss.after == after && loss.hash == hash && behind(loss))
    }

    /// Whether a record of this number was lost in a place that it covers.
    pub(super) fn has_lost(&self, number: i64) -> bool {
        self.losses.iter().any(|loss| loss.after < number && number < loss.next.unwrap_or(self.number))
    }
}

impl Store {
    /// Writes down that a loss of decision records is known: it is not reported any more, and the record of it is.
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
        // Whatever is wrong with the end, this is where the chain goes on.
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
