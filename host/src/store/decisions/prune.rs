//! Pruning: old records are removed, and a signed checkpoint proves where the chain continues.

use jiff::Timestamp;
use rusqlite::TransactionBehavior;
use rusqlite::types::Value as Sql;

use super::verify::Walk;
use super::{CHECKPOINT, Checkpoint, acknowledge, id_at, put_signed};
use crate::store::{Error, Store, statement};

/// Records that are pruned in one transaction; other writers wait for it.
const CHUNK: i64 = 2_000;

impl Store {
    /// Removes records beyond the configured age or number, and signs the new beginning of the chain. Returns their
    /// number.
    ///
    /// # Errors
    /// When the store cannot be written, or when a record to be removed is damaged. Then the whole chunk with the
    /// damage stays, so that pruning never hides damage. Chunks before it are already removed.
    pub fn prune_decisions(&self, before: Timestamp, keep: u64) -> Result<u64, Error> {
        let mut gone = 0;
        loop {
            let count = self.prune_chunk(before, keep)?;
            gone += count;
            if count == 0 {
                return Ok(gone);
            }
        }
    }

    fn prune_chunk(&self, before: Timestamp, keep: u64) -> Result<u64, Error> {
        let what = "prune decision records";
        let key = self.key()?;
        let mut connection = self.connection();
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(statement(what))?;
        let one = |sql: &str, value: Sql| {
            transaction.query_row(sql, [value], |row| row.get::<_, Option<i64>>(0)).map_err(statement(what))
        };
        let Some(newest) = one("select max(number) from decisions where ?1", Sql::Integer(1))? else { return Ok(0) };
        let first = one("select min(number) from decisions where ?1", Sql::Integer(1))?.unwrap_or(newest);
        let young = one("select min(number) from decisions where id >= ?1", Sql::Text(id_at(before, 0)))?;
        let old = young.map_or(newest, |young| young - 1);
        let over = newest.saturating_sub(i64::try_from(keep).unwrap_or(i64::MAX));
        let cut = old.max(over).min(first + CHUNK - 1);
        if cut < first {
            return Ok(0);
        }
        let public_key = key.public();
        let acknowledged = acknowledge::all(&transaction, &public_key, self.host_id())?;
        let mut walk = Walk::new(self.host_id(), &public_key, acknowledged);
        let checkpoint: Option<Checkpoint> = walk.signed(&transaction, CHECKPOINT, "the checkpoint at its start")?;
        let (mut last, mut count) = checkpoint.as_ref().map_or((0, 0), |old| (old.number, old.count));
        let mut expected = checkpoint.map_or(String::new(), |old| old.hash);
        let mut gone = 0;
        {
            let mut query = transaction
                .prepare("select number, body, previous, hash from decisions where number <= ?1 order by number")
                .map_err(statement(what))?;
            let mut rows = query.query([cut]).map_err(statement(what))?;
            while let Some(row) = rows.next().map_err(statement(what))? {
                let get = |index| row.get::<_, String>(index).map_err(statement(what));
                let number = row.get::<_, i64>(0).map_err(statement(what))?;
                let (body, previous, hash) = (get(1)?, get(2)?, get(3)?);
                walk.gap(last, number, &previous, &expected);
                walk.record(number, &body, &previous, &hash, &[]);
                (last, expected) = (number, hash);
                gone += 1;
            }
        }
        if let Some(damage) = walk.damages.first() {
            return Err(Error::Damaged { what: format!("{damage}; pruning stopped") });
        }
        count += gone;
        for forget in ["delete from decisions where number <= ?1", "delete from shown where number <= ?1"] {
            transaction.execute(forget, [cut]).map_err(statement(what))?;
        }
        let host = self.host_id().to_owned();
        let checkpoint = Checkpoint { host, number: last, hash: expected, count, time: Timestamp::now() };
        put_signed(&transaction, CHECKPOINT, key, &checkpoint)?;
        transaction.commit().map_err(statement(what))?;
        Ok(gone)
    }
}
