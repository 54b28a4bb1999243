//! Migrations: an append-only list on `user_version`. Never edit a released migration; add a new one.
//!
//! Each migration runs in the transaction that also raises the version, so a crash in the middle leaves the old version
//! intact.

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
    // The time when an intent of a dead process was first undone; see `lifecycle::reconcile`.
    "alter table journal add column undone text;",
    // Past and planned actions of sweeps; images that Wharf pulled; the time when a sweep last saw an object in use.
    "create table ledger (
         id integer primary key autoincrement, kind text not null, object text not null, name text not null,
         identity text not null, action text not null, reason text not null, policy text not null, bytes integer,
         planned text not null, due text not null, state text not null, ended text, outcome text
     ) strict;
     create index ledger_object on ledger (object, state);
     create table pulled_images (reference text primary key, image_id text not null, pulled text not null) strict;
     create table last_used (object text primary key, time text not null) strict;",
    // Records of `wharf serve`: the history of events, and the state of each container; see `store::states`.
    "create table events (
         number integer primary key autoincrement, time_ns integer not null, workspace text not null,
         part_of text, container text not null, what text not null, exit_code integer, detail text,
         unique (time_ns, container, what)
     ) strict;
     create index events_workspace on events (workspace, time_ns);
     create table states (container text primary key, workspace text not null, body text not null) strict;",
    // The usage of workspaces over time; see `store::metrics`.
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
    // Signs of use, leases, and measurements of disks; see `store::signals`.
    "create table signals (
         workspace text not null, kind text not null, body text not null, primary key (workspace, kind)
     ) strict;",
    // The failure statistics of policies, see `hooks::chain::Standing`; and a mark for records of shadows.
    "create table standings (policy text primary key, body text not null) strict;
     alter table decisions add column shadow_of text;
     create index decisions_shadows on decisions (number) where shadow_of is not null;",
    // The tokens for calling the API over the network; see `store::tokens`.
    "create table tokens (
         name text primary key, id text not null unique, role text not null, labels text not null,
         created text not null, expires text, used text, digest text not null
     ) strict;",
    // Requests with a key of the client, which are carried out once; see `store::requests`.
    "create table requests (
         key text primary key, digest text not null, begun integer not null, pid integer not null,
         process_start integer not null, status integer, body text
     ) strict;",
    // The workspace of a sidecar, so that a workspace and its parts are found without reading whole records.
    "alter table workspaces add column part_of text;
     update workspaces set part_of = json_extract(body, '$.part_of');
     create index workspaces_part_of on workspaces (part_of) where part_of is not null;",
    // Details for finishing or undoing an intent, in addition to its verb; see `store::records`.
    "alter table journal add column detail text;",
    // Displayed copies of records that contain a text now known to be a secret; see `store::clean`.
    "create table shown (number integer primary key, body text not null) strict;
     insert into meta (key, value) select 'values-left', '1'
     where exists (select 1 from workspaces) or exists (select 1 from decisions);",
];

/// Upgrades a store to the newest version.
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

#[cfg(test)]
mod tests {
    use super::super::tests::Dir;
    use super::super::{EventQuery, Store};
    use super::*;
    use crate::hooks::chain::tests::spec;
    use crate::hooks::record::Draft;
    use crate::workspace::{WorkspaceId, sha256_hex};

    /// The first digits of the SHA-256 of each released migration. A new one is added at the end. An existing one never
    /// changes, because stores have already applied it.
    const RELEASED: [&str; 13] = [
        "7025f214b318a600",
        "c8c72db357932f57",
        "9b4359210fd82a6d",
        "f68b4592551b7042",
        "44d71391d2508255",
        "0a4defa3429a013b",
        "5dcbd99cb2bb92c7",
        "3f2481fe671248da",
        "29ef4c12796dd35e",
        "703592a2801f2286",
        "21223eba9eaec32a",
        "9f86ea8d4bcb58ae",
        "568b324e4e5d9510",
    ];

    /// Rows that a store of a version could have, each with the first version that has them.
    const ROWS: [(usize, &str); 13] = [
        (
            1,
            "insert into meta values ('host', '0123456789');
             insert into journal (workspace, verb, begun, pid, process_start)
             values ('w-1', 'create', '2026-01-01T00:00:00Z', 1, 1);
             insert into decisions (id, time, hook, workspace, body, previous, hash)
             values ('d', '2026-01-01T00:00:00Z', 'event', 'w-1', '{}', '', 'h');",
        ),
        (2, "update journal set undone = '2026-01-01T00:00:00Z';"),
        (
            3,
            "insert into ledger (kind, object, name, identity, action, reason, policy, planned, due, state)
             values ('image', 'image:a', 'a', 'i', 'remove', 'r', 'p', '2026-01-01T00:00:00Z', '2026-01-01T00:00:00Z', 'pending');
             insert into pulled_images values ('a', 'sha256:a', '2026-01-01T00:00:00Z');
             insert into last_used values ('image:a', '2026-01-01T00:00:00Z');",
        ),
        (
            4,
            "insert into events (time_ns, workspace, container, what) values (1, 'w-1', 'c', 'started');",
        ),
        (
            5,
            "insert into metric_series (workspace, container) values ('w-1', 'c');
             insert into metrics (series, resolution, time, samples, memory) values (1, 0, 1, 1, 42);",
        ),
        (6, "insert into snapshots values ('s', 'w-1', '{}');"),
        (
            7,
            "insert into signals values ('w-1', 'lease', '{\"kind\": \"lease\", \"value\": \"x\", \"measured_at\": null, \"active_at\": null}');",
        ),
        (8, "insert into standings values ('p.rhai', '{}');"),
        (
            9,
            "insert into tokens (name, id, role, labels, created, digest)
             values ('t', '00000000', 'viewer', '{}', '2026-01-01T00:00:00Z', 'd');",
        ),
        (10, "insert into requests (key, digest, begun, pid, process_start) values ('/v1 k', 'd', 1, 1, 1);"),
        (11, "update workspaces set part_of = json_extract(body, '$.part_of');"),
        (12, "update journal set detail = 'frozen';"),
        (13, "insert into shown values (1, '{}');"),
    ];

    /// Makes a store as a Wharf of that version left it.
    fn left_by(version: usize, dir: &Dir) {
        std::fs::create_dir_all(&dir.0).unwrap();
        let connection = Connection::open(dir.0.join("wharf.db")).unwrap();
        for migration in &MIGRATIONS[..version] {
            connection.execute_batch(migration).unwrap();
        }
        connection.pragma_update(None, "user_version", i64::try_from(version).unwrap()).unwrap();
        // Fields that later versions treat as optional are left out.
        let id = WorkspaceId::derive("w", "/w");
        let body = serde_json::json!({
            "id": id, "name": "w", "project": "/w", "created_at": "2026-01-01T00:00:00Z", "container_id": "c",
            "draft": Draft::new(spec()), "trail": [], "notes": ["kept"], "part_of": "parent-1",
        });
        let row = rusqlite::params![id.as_str(), body.to_string()];
        connection.execute("insert into workspaces (id, name, project, body) values (?1, 'w', '/w', ?2)", row).unwrap();
        for (_, rows) in ROWS.iter().filter(|(since, _)| *since <= version) {
            connection.execute_batch(rows).unwrap();
        }
    }

    #[test]
    fn what_was_released_is_not_changed() {
        let now: Vec<String> =
            MIGRATIONS.iter().map(|migration| sha256_hex(migration.as_bytes())[..16].to_owned()).collect();
        assert_eq!(now, RELEASED, "add a migration, and its hash here; never edit one");
    }

    #[test]
    fn a_store_of_every_earlier_version_is_brought_to_this_one_with_all_that_it_has() {
        for version in 1..=MIGRATIONS.len() {
            let dir = Dir::new(&format!("version-{version}"));
            left_by(version, &dir);
            drop(Store::open(&dir.0).unwrap());
            let store = Store::open(&dir.0).unwrap();
            let now: u32 = store.connection().query_row("pragma user_version", [], |row| row.get(0)).unwrap();
            assert_eq!((now as usize, store.host_id()), (MIGRATIONS.len(), "0123456789"), "{version}");
            let all = store.workspaces().unwrap();
            assert_eq!((all.len(), all[0].notes.as_slice()), (1, &["kept".to_owned()][..]), "{version}");
            let count = |table: &str| -> i64 {
                let query = format!("select count(*) from {table}");
                store.connection().query_row(&query, [], |row| row.get(0)).unwrap()
            };
            assert_eq!((count("decisions"), count("journal")), (1, 1), "{version}");
            let has = |since: usize| i64::from(version >= since);
            for (since, table) in [
                (3, "pulled_images"),
                (3, "last_used"),
                (5, "metric_series"),
                (5, "metrics"),
                (6, "snapshots"),
                (8, "standings"),
                (10, "requests"),
                (13, "shown"),
            ] {
                assert_eq!(count(table), has(since), "{version} {table}");
            }
            // Reads of this version.
            let id: WorkspaceId = "w-1".parse().unwrap();
            assert_eq!(store.sidecars(&"parent-1".parse().unwrap()).unwrap().len(), 1, "{version}");
            assert_eq!(store.open_entries().unwrap().len(), 1, "{version}");
            assert_eq!(store.ledger(None, 10).unwrap().len() as i64, has(3), "{version}");
            assert_eq!(store.events(&EventQuery::default(), 10).unwrap().len() as i64, has(4), "{version}");
            assert_eq!(store.signals(&id).unwrap().len() as i64, has(7), "{version}");
            assert_eq!(store.standings().unwrap().len() as i64, has(8), "{version}");
            assert_eq!(store.tokens().unwrap().len() as i64, has(9), "{version}");
            // Rows of an earlier version may contain a text that is now known to be a secret.
            assert_eq!(store.may_hold_values().unwrap(), version < 13, "{version}");
            // The store remains writable.
            assert!(
                store.create_token("new", super::super::Role::Viewer, &Default::default(), None).unwrap().is_some()
            );
        }
    }
}
