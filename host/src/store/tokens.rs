//! Tokens: the permission to call the API over the network.
//!
//! A token is `wharf_`, eight hex digits as its ID, `_`, and 64 random hex digits as its secret. Only the SHA-256 of
//! the secret is stored: 256 random bits need no slow hash, and a reader of the store cannot call the API.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use ring::rand::{SecureRandom, SystemRandom};
use rusqlite::{OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::{Error, Store, from_json, statement, to_json};
use crate::workspace::sha256_hex;

/// The prefix of every token, so that scanners for leaked secrets find tokens.
const PREFIX: &str = "wharf_";
/// The number of digits of the ID and of the secret.
const DIGITS: (usize, usize) = (8, 64);

/// The role of a caller of the API; each role includes the previous ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Makes, changes and removes workspaces, and runs commands in them.
    Operator,
    /// Everything: policies, sweeps, tokens.
    Admin,
}

impl Role {
    /// All roles, from the least to the most powerful.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// Returns the name used in text and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let role = Self::ALL.into_iter().find(|role| role.as_str() == text);
        role.ok_or_else(|| format!("'{text}' is not a role; the roles are viewer, operator and admin"))
    }
}

/// A token as it is stored: everything except its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Token {
    /// Its name, which is unique.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// The labels that a workspace must have to be visible with the token. With no labels, every workspace is visible.
    pub labels: BTreeMap<String, String>,
    /// Time of its creation.
    pub created_at: Timestamp,
    /// Time from which it is refused, if any.
    pub expires_at: Option<Timestamp>,
    /// Time of its last use, to the minute.
    pub last_used_at: Option<Timestamp>,
    /// Its ID, which also distinguishes it from a later token of the same name.
    pub id: String,
}

impl Token {
    /// Returns whether it has expired.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }
}

const COLUMNS: &str = "name, id, role, labels, created, expires, used, digest";

impl Store {
    /// Makes a token and returns its text, which is not stored. Returns `None` when a token of that name exists.
    ///
    /// # Errors
    /// When the store cannot be written, or this machine has no randomness.
    pub fn create_token(
        &self,
        name: &str,
        role: Role,
        labels: &BTreeMap<String, String>,
        expires_at: Option<Timestamp>,
    ) -> Result<Option<(Token, String)>, Error> {
        let what = "save a token";
        let digits = chance::<{ (DIGITS.0 + DIGITS.1) / 2 }>()?;
        let (id, secret) = digits.split_at(DIGITS.0);
        let (labels_json, now) = (to_json(labels, what)?, Timestamp::now());
        let made = self
            .connection()
            .execute(
                "insert or ignore into tokens (name, id, role, labels, created, expires, digest)
                 values (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    name,
                    id,
                    role.as_str(),
                    labels_json,
                    now.to_string(),
                    expires_at.map(|time| time.to_string()),
                    sha256_hex(secret.as_bytes())
                ],
            )
            .map_err(statement(what))?;
        if made == 0 {
            return Ok(None);
        }
        let text = format!("{PREFIX}{id}_{secret}");
        let token =
            self.token_by_id(id)?.ok_or_else(|| Error::Statement { what, cause: "it was removed at once".into() })?;
        Ok(Some((token, text)))
    }

    /// Returns all tokens, by name.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn tokens(&self) -> Result<Vec<Token>, Error> {
        let what = "list tokens";
        let connection = self.connection();
        let mut query = connection
            .prepare_cached(&format!("select {COLUMNS} from tokens order by name"))
            .map_err(statement(what))?;
        let rows = query.query_map([], raw).map_err(statement(what))?;
        rows.map(|row| Ok(row.map_err(statement(what))?.read(what)?.0)).collect()
    }

    /// Removes a token by its name. Returns whether it existed.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn remove_token(&self, name: &str) -> Result<bool, Error> {
        let gone = self.connection().execute("delete from tokens where name = ?1", [name]);
        Ok(gone.map_err(statement("remove a token"))? > 0)
    }

    /// Returns the token of a sent text, even if it has expired.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn token(&self, text: &str) -> Result<Option<Token>, Error> {
        let Some((id, secret)) = parts(text) else { return Ok(None) };
        let digest = sha256_hex(secret.as_bytes());
        let found = self.token_row(id)?;
        Ok(found.filter(|(_, kept)| same(kept.as_bytes(), digest.as_bytes())).map(|(token, _)| token))
    }

    /// Returns a token by its ID.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn token_by_id(&self, id: &str) -> Result<Option<Token>, Error> {
        Ok(self.token_row(id)?.map(|(token, _)| token))
    }

    fn token_row(&self, id: &str) -> Result<Option<(Token, String)>, Error> {
        let what = "read a token";
        let connection = self.connection();
        let mut query = connection
            .prepare_cached(&format!("select {COLUMNS} from tokens where id = ?1"))
            .map_err(statement(what))?;
        let row = query.query_row([id], raw).optional().map_err(statement(what))?;
        row.map(|row| row.read(what)).transpose()
    }

    /// Records the use of a token.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn note_token_use(&self, id: &str, when: Timestamp) -> Result<(), Error> {
        self.connection()
            .execute("update tokens set used = ?2 where id = ?1", params![id, when.to_string()])
            .map_err(statement("record the use of a token"))?;
        Ok(())
    }
}

/// Returns 256 random bits in hex, which cannot be guessed.
///
/// # Errors
/// When this machine has no randomness.
pub fn secret_text() -> Result<String, Error> {
    chance::<{ DIGITS.1 / 2 }>()
}

fn chance<const BYTES: usize>() -> Result<String, Error> {
    let mut bytes = [0; BYTES];
    let none = |_| Error::Statement { what: "generate a secret", cause: "the system has no random numbers".into() };
    SystemRandom::new().fill(&mut bytes).map_err(none)?;
    Ok(hex::encode(bytes))
}

/// A row as SQLite returns it.
struct Raw([String; 5], [Option<String>; 2], String);

fn raw(row: &Row<'_>) -> rusqlite::Result<Raw> {
    let needed = [row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?];
    Ok(Raw(needed, [row.get(5)?, row.get(6)?], row.get(7)?))
}

impl Raw {
    /// Returns the token and the digest of its secret.
    fn read(self, what: &'static str) -> Result<(Token, String), Error> {
        let Self([name, id, role, labels, created], [expires, used], digest) = self;
        let damaged = |cause: String| Error::Statement { what, cause: format!("a damaged record: {cause}") };
        let time = |text: &str| text.parse::<Timestamp>().map_err(|error| damaged(error.to_string()));
        let optional = |text: Option<String>| text.as_deref().map(time).transpose();
        let token = Token {
            name,
            role: role.parse().map_err(damaged)?,
            labels: from_json(&labels, what)?,
            created_at: time(&created)?,
            expires_at: optional(expires)?,
            last_used_at: optional(used)?,
            id,
        };
        Ok((token, digest))
    }
}

/// Splits a token into its ID and its secret.
fn parts(text: &str) -> Option<(&str, &str)> {
    let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
    let digits = |text: &str, count| text.len() == count && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    (digits(id, DIGITS.0) && digits(secret, DIGITS.1)).then_some((id, secret))
}

/// Compares in constant time: the duration does not depend on the position of the first difference.
fn same(a: &[u8], b: &[u8]) -> bool {
    let different = a.iter().zip(b).fold(0, |all, (a, b)| std::hint::black_box(all | (a ^ b)));
    a.len() == b.len() && different == 0
}

#[cfg(test)]
mod tests {
    use super::super::tests::Dir;
    use super::*;

    #[test]
    fn a_token_is_known_by_its_whole_text_and_its_secret_is_not_kept() {
        let dir = Dir::new("tokens");
        let store = Store::open(&dir.0).unwrap();
        let labels = BTreeMap::from([("team".to_owned(), "pay".to_owned())]);
        let (token, text) = store.create_token("ci", Role::Operator, &labels, None).unwrap().unwrap();
        assert_eq!((token.role, &token.labels, token.last_used_at), (Role::Operator, &labels, None));
        assert_eq!(store.create_token("ci", Role::Admin, &labels, None).unwrap(), None);
        assert_eq!(store.token(&text).unwrap().as_ref(), Some(&token));
        assert_eq!(store.tokens().unwrap(), std::slice::from_ref(&token));
        let (_, other) = store.create_token("b", Role::Admin, &BTreeMap::new(), None).unwrap().unwrap();
        // The secret of one token under the ID of another, and texts that are nearly a token.
        let mixed = format!("{}{}", &text[..15], &other[15..]);
        let last = if text.ends_with('0') { "1" } else { "0" };
        for wrong in [mixed.as_str(), &text[..78], &format!("{}{last}", &text[..78]), &format!("{text}0"), "wharf_", ""]
        {
            assert_eq!(store.token(wrong).unwrap(), None, "{wrong}");
        }
        let secret = text.rsplit('_').next().unwrap();
        store.connection().execute_batch("pragma wal_checkpoint(truncate)").unwrap();
        let file = std::fs::read(dir.0.join("wharf.db")).unwrap();
        assert!(!file.windows(64).any(|window| window == secret.as_bytes()));
        assert!(file.windows(8).any(|window| window == token.id.as_bytes()), "the file was looked at");
        store.note_token_use(&token.id, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(store.token(&text).unwrap().unwrap().last_used_at, Some(Timestamp::UNIX_EPOCH));
        assert!(store.remove_token("ci").unwrap() && !store.remove_token("ci").unwrap());
        assert_eq!(store.token(&text).unwrap(), None);
    }

    #[test]
    fn a_time_that_has_come_is_over() {
        let dir = Dir::new("token-times");
        let store = Store::open(&dir.0).unwrap();
        let end = Timestamp::now();
        let (token, _) = store.create_token("a", Role::Viewer, &BTreeMap::new(), Some(end)).unwrap().unwrap();
        assert!(token.is_expired(end) && !token.is_expired(Timestamp::UNIX_EPOCH));
    }
}
