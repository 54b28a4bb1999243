//! Verifying the chain: every record, the signed beginning, the signed end.

use rusqlite::{Connection, OptionalExtension, Transaction};
use serde::{Deserialize, Serialize};

use super::{CHECKPOINT, Checkpoint, HEAD, Head, hash, signed};
use crate::store::{Error, Store, statement};

/// Damages that a verification lists before it stops.
const MOST_DAMAGES: usize = 100;

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Records that were read.
    pub records: u64,
    /// The beginning of the chain, when records were pruned.
    pub checkpoint: Option<Checkpoint>,
    /// The key that beginning and end are signed with, in hex.
    pub public_key: String,
    /// What is wrong, in the order of the chain; empty means the chain is whole.
    pub damages: Vec<Damage>,
}

/// Something wrong with the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// The record's number; none for the signed beginning and end.
    pub number: Option<i64>,
    /// What is wrong.
    pub what: String,
}

impl Store {
    /// Goes over all records, the signed beginning, and the signed end. `expected` is the public key (hex) that has to
    /// have signed them, by default the installation's own.
    ///
    /// # Errors
    /// When the store or the key cannot be read; what is wrong with the chain is in the result.
    pub fn verify(&self, expected: Option<&str>) -> Result<Verified, Error> {
        let what = "verify the decision records";
        let public_key = match expected {
            Some(key) => key.to_ascii_lowercase(),
            None => self.key()?.public(),
        };
        let mut connection = self.connection();
        // One transaction sees one state, whatever is written meanwhile.
        let transaction = connection.transaction().map_err(statement(what))?;
        let mut walk = Walk { damages: Vec::new(), host: self.host_id(), public_key: &public_key };
        let checkpoint: Option<Checkpoint> = walk.signed(&transaction, CHECKPOINT, "the checkpoint where it begins")?;
        let head: Option<Head> = walk.signed(&transaction, HEAD, "its signed end")?;
        for host in checkpoint.iter().map(|c| &c.host).chain(head.iter().map(|h| &h.host)).filter(|h| *h != walk.host) {
            walk.damages.push(Damage { number: None, what: format!("it was signed for the installation {host}") });
        }

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
                walk.record(number, &body, &previous, &hash, &columns);
                (last, expected) = (number, hash);
                records += 1;
                if walk.damages.len() >= MOST_DAMAGES {
                    break;
                }
            }
        }
        if walk.damages.len() < MOST_DAMAGES {
            walk.end(&transaction, head.as_ref(), last, &expected)?;
        }
        let damages = walk.damages;
        Ok(Verified { records, checkpoint, public_key, damages })
    }
}

impl Verified {
    /// How many records there are, if nothing is wrong.
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

/// A walk along the chain, and what it found wrong.
pub(super) struct Walk<'a> {
    pub(super) damages: Vec<Damage>,
    pub(super) host: &'a str,
    pub(super) public_key: &'a str,
}

impl Walk<'_> {
    fn damage(&mut self, number: i64, what: String) {
        self.damages.push(Damage { number: Some(number), what });
    }

    /// Reads something signed, and checks who signed it.
    pub(super) fn signed<T: serde::de::DeserializeOwned>(
        &mut self,
        connection: &Connection,
        name: &str,
        shown: &str,
    ) -> Result<Option<T>, Error> {
        let Some(signed) = signed(connection, name)? else { return Ok(None) };
        if !signed.genuine() {
            self.damages
                .push(Damage { number: None, what: format!("{shown} was changed: its signature does not fit") });
        } else if signed.public_key != self.public_key {
            let what =
                format!("{shown} was signed with another key ({}...)", signed.public_key.get(..16).unwrap_or_default());
            self.damages.push(Damage { number: None, what });
        }
        Ok(serde_json::from_str(&signed.body).ok())
    }

    /// The step from one record to the next.
    pub(super) fn gap(&mut self, last: i64, number: i64, previous: &str, expected: &str) {
        match number - last {
            1 if previous == expected => {}
            1 => self.damage(number, "does not follow the one before it".into()),
            2 => self.damage(last + 1, "is gone".into()),
            _ => self.damage(last + 1, format!("and all up to {} are gone", number - 1)),
        }
    }

    /// One record by itself.
    pub(super) fn record(&mut self, number: i64, body: &str, previous: &str, kept: &str, columns: &[(&str, String)]) {
        if hash(previous, body) != kept {
            self.damage(number, "was changed: its hash does not fit".into());
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

    /// The end of the chain.
    fn end(&mut self, transaction: &Transaction<'_>, head: Option<&Head>, last: i64, hash: &str) -> Result<(), Error> {
        let what = "verify the decision records";
        let given: i64 = transaction
            .query_row("select seq from sqlite_sequence where name = 'decisions'", [], |row| row.get(0))
            .optional()
            .map_err(statement(what))?
            .unwrap_or(0);
        let known = head.map_or(0, |head| head.number);
        let newest = known.max(given);
        if newest > last {
            let what =
                if newest == last + 1 { "is gone".to_owned() } else { format!("and all up to {newest} are gone") };
            self.damage(last + 1, what);
        } else if let Some(head) = head {
            if head.number < last {
                self.damage(head.number + 1, "was not written by Wharf: it is behind the signed end".into());
            } else if head.hash != hash {
                self.damage(last, "is not the one that the signed end names".into());
            }
        } else if last > 0 {
            let what =
                "its signed end is gone, or an older Wharf wrote it; the next decision signs it again".to_owned();
            self.damages.push(Damage { number: None, what });
        }
        Ok(())
    }
}
