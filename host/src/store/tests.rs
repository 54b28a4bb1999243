//! The store, on a real file.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::hooks::chain::tests::spec;
use crate::hooks::record::Draft;

pub(super) struct Dir(pub(super) PathBuf);

impl Dir {
    pub(super) fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("wharf-store-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        Self(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn workspace(name: &str, part_of: Option<WorkspaceId>) -> Workspace {
    Workspace {
        id: WorkspaceId::derive(name, "/a"),
        name: name.into(),
        project: "/a".into(),
        created_at: jiff::Timestamp::now(),
        container_id: "c".into(),
        draft: Draft::new(spec()),
        trail: vec![],
        decisions: vec![],
        notes: vec!["n".into()],
        devcontainer: None,
        no_devcontainer: false,
        places: Default::default(),
        image_config: None,
        degraded: None,
        last_activity: None,
        stopped: None,
        start_unfinished: false,
        part_of,
        image_digest: None,
    }
}

#[test]
fn what_is_written_is_read_back_by_another_process_too() {
    let dir = Dir::new("roundtrip");
    let store = Store::open(&dir.0).unwrap();
    let workspace = workspace("a", None);
    let id = workspace.id.clone();
    store.put_workspace(&workspace).unwrap();
    let again = Store::open(&dir.0).unwrap();
    assert_eq!(again.host_id(), store.host_id());
    assert_eq!(again.workspace(&id).unwrap(), Some(workspace.clone()));
    assert_eq!(again.workspaces().unwrap(), [workspace.into()]);
    again.remove_workspace(&id).unwrap();
    assert_eq!(store.workspace(&id).unwrap(), None);
}

#[test]
fn records_that_were_read_are_kept_until_somebody_changes_them() {
    let dir = Dir::new("kept");
    let (store, other) = (Store::open(&dir.0).unwrap(), Store::open(&dir.0).unwrap());
    let (a, b) = (workspace("a", None), workspace("b", None));
    store.put_workspace(&a).unwrap();
    store.put_workspace(&b).unwrap();
    let before = store.workspaces().unwrap();
    assert!(other.update_workspace(&b.id, |stored| stored.notes = vec!["other".into()]).unwrap());
    let after = store.workspaces().unwrap();
    assert!(std::sync::Arc::ptr_eq(&before[0], &after[0]), "the same record is not read twice");
    assert_eq!(after[1].notes, ["other"]);
    other.remove_workspace(&a.id).unwrap();
    assert_eq!(store.workspaces().unwrap().len(), 1);
    other.put_workspace(&a).unwrap();
    assert_eq!(store.workspaces().unwrap(), after);
}

#[test]
fn a_workspace_is_found_with_its_sidecars_and_its_container_without_its_record() {
    let dir = Dir::new("found");
    let store = Store::open(&dir.0).unwrap();
    let a = workspace("a", None);
    let part = workspace("a/db", Some(a.id.clone()));
    for workspace in [&a, &part, &workspace("b", None)] {
        store.put_workspace(workspace).unwrap();
    }
    let known = |workspace: &Workspace| KnownWorkspace {
        id: workspace.id.clone(),
        name: workspace.name.clone(),
        project: workspace.project.clone(),
        part_of: workspace.part_of.clone(),
    };
    assert_eq!(store.known_workspaces().unwrap().len(), 3);
    assert!(store.known_workspaces().unwrap().contains(&known(&a)));
    assert_eq!(store.sidecars(&a.id).unwrap(), [known(&part)]);
    assert_eq!(store.sidecars(&part.id).unwrap(), []);
    store.update_workspace(&a.id, |stored| stored.container_id = "new".into()).unwrap();
    assert_eq!(store.container_id(&a.id).unwrap().as_deref(), Some("new"));
    store.remove_workspace(&a.id).unwrap();
    assert_eq!(store.container_id(&a.id).unwrap(), None);
}

#[test]
fn the_folder_and_the_file_are_closed_to_other_users() {
    let dir = Dir::new("mode");
    let _store = Store::open(&dir.0).unwrap();
    for (path, mode) in [(dir.0.clone(), 0o700), (dir.0.join("wharf.db"), 0o600), (dir.0.join("wharf.db-wal"), 0o600)] {
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode, "{}", path.display());
    }
}

#[test]
fn an_open_intent_tells_whether_its_process_lives() {
    let dir = Dir::new("journal");
    let store = Store::open(&dir.0).unwrap();
    let id = WorkspaceId::derive("w", "/w");
    let entry = store.begin(&id, Verb::Create).unwrap();
    let open = store.open_entries().unwrap();
    assert_eq!(open.len(), 1);
    assert!(open[0].owner.alive());
    // Another start time means another process with the same number.
    assert!(!Owner { start: open[0].owner.start + 1, ..open[0].owner }.alive());
    store.done(entry, "done").unwrap();
    assert!(store.open_entries().unwrap().is_empty());
}

#[test]
fn a_killed_process_that_nobody_waited_for_is_dead() {
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let start = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().parse().unwrap();
    let owner = Owner { pid: child.id(), start };
    assert!(owner.alive());
    child.kill().unwrap();
    let begin = std::time::Instant::now();
    while owner.alive() {
        assert!(begin.elapsed() < std::time::Duration::from_secs(10), "a zombie counts as alive");
        std::thread::yield_now();
    }
    child.wait().unwrap();
}

#[test]
fn one_process_at_a_time_works_on_a_workspace() {
    let dir = Dir::new("lock");
    let store = Store::open(&dir.0).unwrap();
    let id = WorkspaceId::derive("w", "/w");
    let held = store.try_lock(&id).unwrap().unwrap();
    assert!(store.try_lock(&id).unwrap().is_none());
    drop(held);
    assert!(store.try_lock(&id).unwrap().is_some());
}

#[test]
fn a_store_of_a_newer_wharf_is_left_alone() {
    let dir = Dir::new("newer");
    let store = Store::open(&dir.0).unwrap();
    store.connection().pragma_update(None, "user_version", 99).unwrap();
    drop(store);
    let error = Store::open(&dir.0).err().unwrap();
    assert!(matches!(error, Error::Newer { found: 99, .. }), "{error}");
}

#[test]
fn only_what_has_a_time_to_live_is_told_with_it() {
    let dir = Dir::new("ttl");
    let store = Store::open(&dir.0).unwrap();
    for (name, limit) in [("none", None), ("short", Some(1_500)), ("endless", Some(u64::MAX))] {
        let mut spec = spec();
        spec.time_to_live_ms = limit;
        let workspace = Workspace {
            id: WorkspaceId::derive(name, "/a"),
            name: name.into(),
            project: "/a".into(),
            part_of: None,
            created_at: jiff::Timestamp::now(),
            container_id: name.into(),
            draft: Draft::new(spec),
            trail: vec![],
            decisions: vec![],
            notes: vec![],
            degraded: None,
            devcontainer: None,
            no_devcontainer: false,
            places: Default::default(),
            image_config: None,
            last_activity: None,
            stopped: None,
            start_unfinished: false,
            image_digest: None,
        };
        store.put_workspace(&workspace).unwrap();
    }
    let all: std::collections::BTreeMap<_, _> = store.times_to_live().unwrap().into_iter().collect();
    assert_eq!(all.into_iter().collect::<Vec<_>>(), [("endless".into(), u64::MAX), ("short".into(), 1_500)]);
}

#[test]
fn many_that_open_a_new_store_at_once_get_the_same_one() {
    for round in 0..20 {
        let dir = Dir::new(&format!("race-{round}"));
        let ids = std::thread::scope(|scope| {
            let open = || Store::open(&dir.0).map(|store| store.host_id().to_owned());
            let all: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
            all.into_iter().map(|one| one.join().unwrap().unwrap()).collect::<std::collections::BTreeSet<_>>()
        });
        assert_eq!(ids.len(), 1);
    }
}
