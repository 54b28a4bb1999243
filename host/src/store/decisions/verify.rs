//! Verifying the chain: every record, the signed beginning, the signed end.

use rusqlite::{Connection, OptionalExtension, Transaction};
use serde::{Deserialize, Serialize};

use super::acknowledge::{self, Acknowledged, Loss};
use super::anchor::Anchor;
use super::outside::{self, Outside};
use super::{CHECKPOINT, Checkpoint, HEAD, Head, hash, signed};
use crate::store::{Error, Store, statement};

/// The number of damages that a verification lists before it stops.
const MOST_DAMAGES: usize = 100;

/// The result of a verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Number of records that were read.
    pub records: u64,
    /// The beginning of the chain, if records were pruned.
    pub checkpoint: Option<Checkpoint>,
    /// The key that signed the beginning and the end, in hex.
    pub public_key: String,
    /// The damages, in the order of the chain; empty means that the chain is intact, except for acknowledged losses.
    pub damages: Vec<Damage>,
    /// Losses that were acknowledged.
    pub acknowledged: Vec<Acknowledged>,
}

/// A damage of the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// The record's number; none for the signed beginning and end.
    pub number: Option<i64>,
    /// Its description.
    pub what: String,
    /// Whether something is lost, which can be acknowledged; edits cannot be.
    #[serde(skip)]
    pub(super) lost: bool,
}

/// The result of a walk along the chain, with the places where records are missing, and the last record (number and
/// hash).
pub(super) struct Outcome {
    pub(super) verified: Verified,
    pub(super) losses: Vec<Loss>,
    pub(super) last: (i64, String),
}

impl Store {
    /// Checks all records, the signed beginning, and the signed end. `expected` is the public key (hex) that must have
    /// signed them, by default the installation's own.
    ///
    /// # Errors
    /// When the store or the key cannot be read; damages of the chain are in the result.
    pub fn verify(&self, expected: Option<&str>) -> Result<Verified, Error> {
        self.verify_against(expected, &[], true)
    }

    /// Verifies the chain like [`Store::verify`], and compares it with anchors from elsewhere. A copy of the store is
    /// not compared with the end that is stored `outside` the database.
    ///
    /// # Errors
    /// As [`Store::verify`].
    pub fn verify_against(&self, expected: Option<&str>, anchors: &[Anchor], outside: bool) -> Result<Verified, Error> {
        let what = "verify the decision records";
        let public_key = match expected {
            Some(key) => key.to_ascii_lowercase(),
            None => self.key()?.public(),
        };
        let mut connection = self.connection();
        // One transaction sees one state, regardless of concurrent writes.
        let transaction = connection.transaction().map_err(statement(what))?;
        let Outcome { mut verified, .. } = self.walk(&transaction, &public_key, outside)?;
        for anchor in anchors {
            verified.damages.extend(anchor.against(&transaction, &verified, self.host_id())?);
        }
        Ok(verified)
    }

    /// Checks everything within a transaction.
    pub(super) fn walk(
        &self,
        transaction: &Transaction<'_>,
        public_key: &str,
        outside: bool,
    ) -> Result<Outcome, Error> {
        let what = "verify the decision records";
        // The file is read before the database, because it is written after it.
        let outside = outside.then(|| Outside::read(&self.dir));
        let acknowledged = acknowledge::all(transaction, public_key, self.host_id())?;
        let mut walk = Walk::new(self.host_id(), public_key, acknowledged);
        let checkpoint: Option<Checkpoint> = walk.signed(transaction, CHECKPOINT, "the checkpoint at its start")?;
        let head: Option<Head> = walk.signed(transaction, HEAD, "its signed end")?;
        for host in checkpoint.iter().map(|c| &c.host).chain(head.iter().map(|h| &h.host)).filter(|h| *h != walk.host) {
            let what = format!("it was signed for the installation {host}");
            walk.damages.push(Damage { number: None, what, lost: false });
        }
        let outside = walk.outside(outside, head.as_ref());

        let mut last = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.number);
        let mut expected = checkpoint.as_ref().map_or(String::new(), |checkpoint| checkpoint.hash.clone());
        let mut records = 0;
        {
            let mut query = transaction
                .prepare(
                    "select number, body, previous, hash, id, time, hook, workspace, coalesce(shadow_of, '')
                     from decisions order by number",
                )
                .map_err(statement(what))?;
            let mut rows = query.query([]).map_err(statement(what))?;
            while let Some(row) = rows.next().map_err(statement(what))? {
                let get = |index| row.get::<_, String>(index).map_err(statement(what));
                let number = row.get::<_, i64>(0).map_err(statement(what))?;
                let (body, previous, hash) = (get(1)?, get(2)?, get(3)?);
                let columns = [
                    ("id", get(4)?),
                    ("time", get(5)?),
                    ("hook", get(6)?),
                    ("workspace", get(7)?),
                    ("decision", get(8)?),
                ];
                walk.gap(last, number, &previous, &expected);
                if outside.as_ref().is_some_and(|outside| outside.number == number && outside.hash != hash) {
                    let what = format!("differs from the one that {} names", outside::FILE);
                    walk.damages.push(Damage { number: Some(number), what, lost: true });
                }
                walk.record(number, &body, &previous, &hash, &columns);
                (last, expected) = (number, hash);
                records += 1;
                if walk.damages.len() >= MOST_DAMAGES {
                    break;
                }
            }
        }
        if walk.damages.len() < MOST_DAMAGES {
            let decided = last == 0 && self.has_decided(transaction)?;
            walk.end(transaction, (head.as_ref(), outside.as_ref()), (last, &expected), decided)?;
        }
        let Walk { damages, losses, acknowledged, .. } = walk;
        let verified = Verified { records, checkpoint, public_key: public_key.to_owned(), damages, acknowledged };
        Ok(Outcome { verified, losses, last: (last, expected) })
    }
}

impl Verified {
    /// Returns the number of records, if there is no damage.
    ///
    /// # Errors
    /// [`Error::Damaged`] with the first damage.
    pub fn whole(&self) -> Result<u64, Error> {
        match self.damages.first() {
            None => Ok(self.records),
            Some(damage) => Err(Error::Damaged { what: damage.to_string() }),
        }
    }
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.number {
            Some(number) => write!(f, "record {number} {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

/// A walk along the chain, and the damages that it found.
pub(super) struct Walk<'a> {
    pub(super) damages: Vec<Damage>,
    host: &'a str,
    public_key: &'a str,
    acknowledged: Vec<Acknowledged>,
    losses: Vec<Loss>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(host: &'a str, public_key: &'a str, acknowledged: Vec<Acknowledged>) -> Self {
        Self { damages: Vec::new(), host, public_key, acknowledged, losses: Vec::new() }
    }

    fn damage(&mut self, number: i64, what: String) {
        self.damages.push(Damage { number: Some(number), what, lost: false });
    }

    fn lost(&mut self, number: Option<i64>, what: String) {
        self.damages.push(Damage { number, what, lost: true });
    }

    /// Checks the end that is stored outside the database.
    fn outside(&mut self, outside: Option<Outside>, head: Option<&Head>) -> Option<Head> {
        let file = outside::FILE;
        match outside? {
            Outside::Missing => {
                if head.is_some_and(|head| head.outside) {
                    self.lost(None, format!("its end outside the database, {file}, is missing"));
                }
                None
            }
            Outside::Unusable(why) => {
                self.lost(None, format!("its end outside the database, {file}, {why}"));
                None
            }
            Outside::Signed(signed, outside) => {
                if signed.public_key != self.public_key || outside.host != self.host {
                    self.lost(
                        None,
                        format!("its end outside the database, {file}, was signed by another installation"),
                    );
                    return None;
                }
                Some(outside)
            }
        }
    }

    /// Reads a signed text, and checks its signer.
    pub(super) fn signed<T: serde::de::DeserializeOwned>(
        &mut self,
        connection: &Connection,
        name: &str,
        shown: &str,
    ) -> Result<Option<T>, Error> {
        let Some(signed) = signed(connection, name)? else { return Ok(None) };
        if !signed.genuine() {
            let what = format!("{shown} was changed: its signature does not match");
            self.damages.push(Damage { number: None, what, lost: name == HEAD });
        } else if signed.public_key != self.public_key {
            let what =
                format!("{shown} was signed with another key ({}...)", signed.public_key.get(..16).unwrap_or_default());
            self.damages.push(Damage { number: None, what, lost: name == HEAD });
        }
        Ok(serde_json::from_str(&signed.body).ok())
    }

    /// Checks the step from one record to the next.
    pub(super) fn gap(&mut self, last: i64, number: i64, previous: &str, expected: &str) {
        if number == last + 1 && previous == expected {
            return;
        }
        if self.acknowledged.iter().any(|said| said.covers(last, expected, number)) {
            return;
        }
        self.losses.push(Loss { after: last, hash: expected.to_owned(), next: Some(number) });
        match number - last {
            1 => self.lost(Some(number), "does not follow the previous one".into()),
            2 => self.lost(Some(last + 1), "is missing".into()),
            _ => self.lost(Some(last + 1), format!("and all up to {} are missing", number - 1)),
        }
    }

    /// Checks one record by itself.
    pub(super) fn record(&mut self, number: i64, body: &str, previous: &str, kept: &str, columns: &[(&str, String)]) {
        if hash(previous, body) != kept {
            self.damage(number, "was changed: its hash does not match".into());
            return;
        }
        if columns.is_empty() {
            return;
        }
        #[derive(Deserialize)]
        struct Shown {
            id: String,
            time: String,
            hook: String,
            workspace: String,
            #[serde(default)]
            shadow_of: String,
        }
        match serde_json::from_str::<Shown>(body) {
            Ok(shown) => {
                let says = [shown.id, shown.time, shown.hook, shown.workspace, shown.shadow_of];
                for ((name, column), _) in columns.iter().zip(says).filter(|((_, column), says)| column != says) {
                    self.damage(number, format!("was changed: it is listed under the {name} '{column}'"));
                }
            }
            Err(error) => self.damage(number, format!("cannot be read: {error}")),
        }
    }

    /// Checks the end of the chain. `decided` says that there are no records, although workspaces name some.
    fn end(
        &mut self,
        transaction: &Transaction<'_>,
        (head, outside): (Option<&Head>, Option<&Head>),
        (last, hash): (i64, &str),
        decided: bool,
    ) -> Result<(), Error> {
        let what = "verify the decision records";
        let given: i64 = transaction
            .query_row("select seq from sqlite_sequence where name = 'decisions'", [], |row| row.get(0))
            .optional()
            .map_err(statement(what))?
            .unwrap_or(0);
        let known = head.into_iter().chain(outside).map(|head| head.number).max().unwrap_or(0);
        let newest = known.max(given);
        if newest > last {
            let what = if newest == last + 1 {
                "is missing".to_owned()
            } else {
                format!("and all up to {newest} are missing")
            };
            self.lost(Some(last + 1), what);
            return Ok(());
        }
        match head {
            Some(head) if head.number < last => {
                self.damage(head.number + 1, "was not written by Wharf: it is after the signed end".into());
            }
            Some(head) if head.hash != hash => {
                self.lost(Some(last), "differs from the one that the signed end names".into());
            }
            None if last > 0 => self.lost(None, "its signed end is missing".into()),
            None if decided => self.lost(None, "all records are missing, but workspaces name some".into()),
            _ => {}
        }
        Ok(())
    }
}
