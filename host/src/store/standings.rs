//! The standings of policies (their failure statistics), for all processes of this installation; and the changes that
//! shadows would have made.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{OptionalExtension, params};

use super::{Error, Store, from_json, statement, to_json};
use crate::hooks::chain::{Standing, Standings};
use crate::hooks::{Decision, Hook};

impl Store {
    /// Returns the standing of each policy.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn standings(&self) -> Result<BTreeMap<String, Standing>, Error> {
        let what = "read the standings of policies";
        let connection = self.connection();
        let mut query = connection.prepare_cached("select policy, body from standings").map_err(statement(what))?;
        let rows = query
            .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))
            .map_err(statement(what))?;
        rows.map(|row| {
            let (policy, body) = row.map_err(statement(what))?;
            Ok((policy, from_json(&body, what)?))
        })
        .collect()
    }

    /// Changes a standing atomically, so that no concurrent write of another process is lost.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn update_standing(&self, policy: &str, change: &mut dyn FnMut(&mut Standing)) -> Result<(), Error> {
        let what = "save the standing of a policy";
        let mut connection = self.connection();
        let transaction =
            connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(statement(what))?;
        let body: Option<String> = transaction
            .query_row("select body from standings where policy = ?1", [policy], |row| row.get(0))
            .optional()
            .map_err(statement(what))?;
        let before: Standing = body.map(|body| from_json(&body, what)).transpose()?.unwrap_or_default();
        let mut after = before.clone();
        change(&mut after);
        if after != before {
            transaction
                .execute(
                    "insert into standings (policy, body) values (?1, ?2) on conflict (policy) do update set body = ?2",
                    params![policy, to_json(&after, what)?],
                )
                .map_err(statement(what))?;
        }
        transaction.commit().map_err(statement(what))
    }

    /// Removes the standing of a policy: closes its breakers, and undoes the roll-back of a canary. Returns whether
    /// there was one.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn forget_standing(&self, policy: &str) -> Result<bool, Error> {
        let what = "delete the standing of a policy";
        let changed = self.connection().execute("delete from standings where policy = ?1", [policy]);
        Ok(changed.map_err(statement(what))? > 0)
    }

    /// Returns the newest decisions at a hook, about any workspace, newest first, without those of shadows.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn decisions_at(&self, hook: Hook, most: u32) -> Result<Vec<Decision>, Error> {
        let what = "read decisions";
        let connection = self.connection();
        let mut query = connection
            .prepare_cached(
                "select body from decisions where hook = ?1 and shadow_of is null order by number desc limit ?2",
            )
            .map_err(statement(what))?;
        let rows =
            query.query_map(params![hook.as_str(), most], |row| row.get::<_, String>(0)).map_err(statement(what))?;
        rows.map(|text| from_json(&text.map_err(statement(what))?, what)).collect()
    }

    /// Calls `each` for the records of shadows since a time, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn each_shadow(&self, since: Timestamp, mut each: impl FnMut(Decision)) -> Result<(), Error> {
        let what = "read the records of shadows";
        let connection = self.connection();
        let mut query = connection
            .prepare_cached("select body from decisions where shadow_of is not null order by number")
            .map_err(statement(what))?;
        let mut rows = query.query([]).map_err(statement(what))?;
        while let Some(row) = rows.next().map_err(statement(what))? {
            let body: String = row.get(0).map_err(statement(what))?;
            let decision: Decision = from_json(&body, what)?;
            if decision.time >= since {
                each(decision);
            }
        }
        Ok(())
    }
}

impl Standings for Store {
    fn read(&self) -> Result<BTreeMap<String, Standing>, String> {
        self.standings().map_err(|error| error.to_string())
    }

    fn update(&self, policy: &str, change: &mut dyn FnMut(&mut Standing)) -> Result<(), String> {
        self.update_standing(policy, change).map_err(|error| error.to_string())
    }
}
