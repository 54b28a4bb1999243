//! Requests of programs that are carried out once, however often they are sent. The client identifies them by a key.
//!
//! The outcome is kept for a day, also over a restart. A request whose process died counts as never sent: the journal
//! undoes its beginnings.

use jiff::Timestamp;
use rusqlite::{OptionalExtension, TransactionBehavior, params};

use super::{Error, Owner, Store, statement};

/// The time that an answer is kept.
const KEPT_MS: i64 = 24 * 60 * 60 * 1000;
/// The limit of keys; beyond it the oldest answers are removed first.
const MOST: i64 = 1_000;
/// The limit of a recorded answer, in bytes.
const MOST_BYTES: usize = 256 << 10;

/// The record of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KnownRequest {
    /// There was none; the request is now in progress.
    New,
    /// The key belongs to another request.
    Other,
    /// The request is in progress.
    Running,
    /// The request was answered.
    Answered {
        /// HTTP status.
        status: u16,
        /// JSON.
        body: String,
    },
}

impl Store {
    /// Looks a key up, and takes it if it is free. `digest` identifies the request.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn begin_request(&self, key: &str, digest: &str) -> Result<KnownRequest, Error> {
        let what = "record a request";
        let now = Timestamp::now().as_millisecond();
        let mut connection = self.connection();
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(statement(what))?;
        transaction.execute("delete from requests where begun < ?1", [now - KEPT_MS]).map_err(statement(what))?;
        type Row = (String, i64, i64, Option<u16>, Option<String>);
        let known: Option<Row> = transaction
            .query_row("select digest, pid, process_start, status, body from requests where key = ?1", [key], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
            })
            .optional()
            .map_err(statement(what))?;
        if let Some((theirs, pid, start, status, body)) = known {
            if theirs != digest {
                return Ok(KnownRequest::Other);
            }
            if let (Some(status), Some(body)) = (status, body) {
                return Ok(KnownRequest::Answered { status, body });
            }
            if u32::try_from(pid).is_ok_and(|pid| Owner { pid, start }.alive()) {
                return Ok(KnownRequest::Running);
            }
        }
        let owner = Owner::this_process();
        transaction
            .execute(
                "insert into requests (key, digest, begun, pid, process_start) values (?1, ?2, ?3, ?4, ?5)
                 on conflict (key) do update set begun = ?3, pid = ?4, process_start = ?5, status = null, body = null",
                params![key, digest, now, owner.pid, owner.start],
            )
            .map_err(statement(what))?;
        transaction
            .execute(
                "delete from requests where status is not null and key not in
                 (select key from requests order by begun desc limit ?1)",
                [MOST],
            )
            .map_err(statement(what))?;
        transaction.commit().map_err(statement(what))?;
        Ok(KnownRequest::New)
    }

    /// Records the answer to a request. An answer that is too long is not recorded: the request would be carried out
    /// again.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn answer_request(&self, key: &str, status: u16, body: &str) -> Result<(), Error> {
        if body.len() > MOST_BYTES {
            return self.forget_request(key);
        }
        self.connection()
            .execute("update requests set status = ?2, body = ?3 where key = ?1", params![key, status, body])
            .map_err(statement("record a response"))?;
        Ok(())
    }

    /// Removes the record of a request that may be sent again.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn forget_request(&self, key: &str) -> Result<(), Error> {
        self.connection()
            .execute("delete from requests where key = ?1", [key])
            .map_err(statement("delete a request"))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Dir;
    use super::*;

    #[test]
    fn a_key_is_taken_once_and_its_answer_outlives_the_process() {
        let dir = Dir::new("requests");
        let store = Store::open(&dir.0).unwrap();
        assert_eq!(store.begin_request("k", "a").unwrap(), KnownRequest::New);
        assert_eq!(store.begin_request("k", "a").unwrap(), KnownRequest::Running);
        assert_eq!(store.begin_request("k", "b").unwrap(), KnownRequest::Other);
        store.answer_request("k", 200, "{}").unwrap();
        let again = Store::open(&dir.0).unwrap();
        let answered = KnownRequest::Answered { status: 200, body: "{}".into() };
        assert_eq!(again.begin_request("k", "a").unwrap(), answered);
        assert_eq!(again.begin_request("k", "b").unwrap(), KnownRequest::Other);
        again.forget_request("k").unwrap();
        assert_eq!(again.begin_request("k", "b").unwrap(), KnownRequest::New);
        again.answer_request("k", 200, &"x".repeat(MOST_BYTES + 1)).unwrap();
        assert_eq!(again.begin_request("k", "c").unwrap(), KnownRequest::New, "what is too long is not kept");
    }

    #[test]
    fn a_request_of_a_process_that_died_and_one_of_yesterday_count_as_never_sent() {
        let dir = Dir::new("requests-old");
        let store = Store::open(&dir.0).unwrap();
        for key in ["died", "old"] {
            assert_eq!(store.begin_request(key, "a").unwrap(), KnownRequest::New);
        }
        store.answer_request("old", 200, "{}").unwrap();
        store.connection().execute("update requests set pid = 4000000 where key = 'died'", []).unwrap();
        store.connection().execute("update requests set begun = begun - ?1 where key = 'old'", [KEPT_MS + 1]).unwrap();
        for key in ["died", "old"] {
            assert_eq!(store.begin_request(key, "a").unwrap(), KnownRequest::New, "{key}");
        }
    }

    #[test]
    fn the_oldest_answers_go_when_there_are_too_many() {
        let dir = Dir::new("requests-many");
        let store = Store::open(&dir.0).unwrap();
        assert_eq!(store.begin_request("running", "a").unwrap(), KnownRequest::New);
        store.connection().execute("update requests set begun = begun - 10000", []).unwrap();
        for number in 0..MOST + 5 {
            let key = format!("k{number}");
            store.begin_request(&key, "a").unwrap();
            store.answer_request(&key, 200, "{}").unwrap();
            store
                .connection()
                .execute("update requests set begun = begun - ?1 where key = ?2", params![2000 - number, key])
                .unwrap();
        }
        assert_eq!(store.begin_request("k0", "a").unwrap(), KnownRequest::New);
        assert_eq!(store.begin_request("running", "a").unwrap(), KnownRequest::Running);
        let count: i64 = store.connection().query_row("select count(*) from requests", [], |row| row.get(0)).unwrap();
        assert!(count <= MOST + 2, "{count}");
    }
}
