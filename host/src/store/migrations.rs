//! Migrations: an append-only list on `user_version`. Never edit one that was released; add one.
//!
//! Each runs in the transaction that also raises the version, so a crash in the middle leaves the old version whole.

use rusqlite::Connection;

use super::{Error, statement};

const MIGRATIONS: &[&str] = &[
    "create table meta (key text primary key, value text not null) strict;
     create table workspaces (
         id text primary key, name text not null, project text not null, body text not null
     ) strict;
     create table journal (
         id integer primary key autoincrement, workspace text not null, verb text not null, begun text not null,
         pid integer not null, process_start integer not null, ended text, result text
     ) strict;
     create index journal_open on journal (id) where ended is null;
     create table decisions (
         number integer primary key autoincrement, id text not null unique, time text not null, hook text not null,
         workspace text not null, body text not null, previous text not null, hash text not null
     ) strict;
     create index decisions_workspace on decisions (workspace, number);",
    // When an intent of a dead process was undone for the first time; see `lifecycle::reconcile`.
    "alter table journal add column undone text;",
    // What sweeps did and are about to do; images that Wharf pulled; when a sweep last saw an object in use.
    "create table ledger (
         id integer primary key autoincrement, kind text not null, object text not null, name text not null,
         identity text not null, action text not null, reason text not null, policy text not null, bytes integer,
         planned text not null, due text not null, state text not null, ended text, outcome text
     ) strict;
     create index ledger_object on ledger (object, state);
     create table pulled_images (reference text primary key, image_id text not null, pulled text not null) strict;
     create table last_used (object text primary key, time text not null) strict;",
    // What `wharf serve` keeps: the history of events, and the state of each container; see `store::states`.
    "create table events (
         number integer primary key autoincrement, time_ns integer not null, workspace text not null,
         part_of text, container text not null, what text not null, exit_code integer, detail text,
         unique (time_ns, container, what)
     ) strict;
     create index events_workspace on events (workspace, time_ns);
     create table states (container text primary key, workspace text not null, body text not null) strict;",
    // What workspaces used over time; see `store::metrics`.
    "create table metric_series (
         id integer primary key autoincrement, workspace text not null, container text not null unique
     ) strict;
     create index metric_series_workspace on metric_series (workspace);
     create table metrics (
         series integer not null, resolution integer not null, time integer not null, samples integer not null,
         cpu real, memory integer, memory_limit integer, rx integer, tx integer, read integer, written integer,
         pids integer, primary key (series, resolution, time)
     ) strict, without rowid;",
    "create table snapshots (name text primary key, workspace text not null, body text not null) strict;",
    // Signs of use, leases, and what is measured of disks; see `store::signals`.
    "create table signals (
         workspace text not null, kind text not null, body text not null, primary key (workspace, kind)
     ) strict;",
    // How policies have been doing, see `hooks::chain::Standing`; and which records are those of shadows.
    "create table standings (policy text primary key, body text not null) strict;
     alter table decisions add column shadow_of text;
     create index decisions_shadows on decisions (number) where shadow_of is not null;",
    // Requests that programs gave a key, so that they are carried out once; see `store::requests`.
    "create table requests (
         key text primary key, digest text not null, begun integer not null, pid integer not null,
         process_start integer not null, status integer, body text
     ) strict;",
    // Who may call the API over the network; see `store::tokens`.
    "create table tokens (
         name text primary key, id text not null unique, role text not null, labels text not null,
         created text not null, expires text, used text, digest text not null
     ) strict;",
];

/// Brings a store to the newest version.
pub(super) fn run(connection: &mut Connection) -> Result<(), Error> {
    let what = "migrate the store";
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let version = |connection: &Connection| {
        connection.query_row("pragma user_version", [], |row| row.get::<_, i64>(0)).map_err(statement(what))
    };
    if version(connection)? == known {
        return Ok(());
    }
    // Immediate: two processes that start at once must not both migrate.
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(statement(what))?;
    let found = version(&transaction)?;
    if found > known {
        return Err(Error::Newer { found, known });
    }
    for migration in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        transaction.execute_batch(migration).map_err(statement(what))?;
    }
    transaction.pragma_update(None, "user_version", known).map_err(statement(what))?;
    transaction.commit().map_err(statement(what))
}
