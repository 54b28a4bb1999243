//! The grants of a plugin's entry: nothing by default, otherwise exactly the granted resources, read-only, with their
//! digest in the answer.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use wharf::hooks::{Adjustment, Hook, HookRequest, Limits, Policy, Reply, Subject, Verdict};
use wharf::wasm::{Grants, WasmPolicy};

use super::{ENGINE, component, spec};

fn reader(grants: Grants) -> WasmPolicy {
    let bytes = component("test-plugins/reader");
    WasmPolicy::load(&ENGINE, "reader", &bytes, &json!({}), Limits::default()).unwrap().with_grants(grants)
}

fn ask(policy: &WasmPolicy) -> (BTreeMap<String, String>, Reply) {
    let request = HookRequest {
        hook: Hook::PreCreate,
        now_ms: 7,
        facts: Arc::default(),
        spec: spec(),
        subject: Subject::Container,
    };
    let reply = policy.evaluate(&request).unwrap();
    let said = match &reply.verdict {
        Verdict::Adjust(edits) => edits
            .iter()
            .map(|edit| match edit {
                Adjustment::Env(name, value) => (name.clone(), value.clone().unwrap_or_default()),
                other => panic!("{other:?}"),
            })
            .collect(),
        Verdict::Pass => BTreeMap::new(),
        other => panic!("{other:?}"),
    };
    (said, reply)
}

struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("wharf-capabilities-{name}-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("data")).unwrap();
        std::fs::write(dir.join("data/a.txt"), "allowed").unwrap();
        std::fs::write(dir.join("secret.txt"), "secret").unwrap();
        Self(dir)
    }

    fn grants(&self, env: &[String]) -> Grants {
        Grants::new([("/data".to_owned(), self.0.join("data"))].into(), env)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_plugin_has_no_files_and_no_environment_unless_its_entry_grants_them() {
    let (said, reply) = ask(&reader(Grants::default()));
    assert_eq!(said, BTreeMap::new());
    assert_eq!(reply.granted, None);
}

#[test]
fn a_granted_folder_can_be_read_and_neither_written_nor_left() {
    let folder = Folder::new("read");
    std::os::unix::fs::symlink("../secret.txt", folder.0.join("data/link")).unwrap();
    let (said, reply) = ask(&reader(folder.grants(&["HOME".into(), "NO_SUCH_VARIABLE".into()])));
    assert_eq!(said["FILE_data"], "allowed");
    assert!(!said["WRITE_data"].contains("written"), "{said:?}");
    assert!(!folder.0.join("data/new").exists());
    for path in ["OUT_data", "LINK_data"] {
        assert!(!said[path].contains("secret"), "{path}: {said:?}");
    }
    let seen: Vec<_> = said.keys().filter(|name| name.starts_with("SEEN_")).collect();
    assert_eq!(seen, if std::env::var_os("HOME").is_some() { vec!["SEEN_HOME"] } else { vec![] });
    assert_eq!(reply.granted.as_ref().map(String::len), Some(64));
}

#[test]
fn the_digest_of_what_was_granted_changes_with_it() {
    let folder = Folder::new("digest");
    let policy = reader(folder.grants(&[]));
    let (_, first) = ask(&policy);
    let (_, again) = ask(&policy);
    assert_eq!(first.granted, again.granted);
    std::fs::write(folder.0.join("data/a.txt"), "changed").unwrap();
    let (said, second) = ask(&policy);
    assert_eq!(said["FILE_data"], "changed");
    assert_ne!(second.granted, first.granted);
}

#[test]
fn what_cannot_be_given_is_a_failure_and_no_pass() {
    let gone = Grants::new([("/data".to_owned(), Path::new("/no/such/folder").to_path_buf())].into(), &[]);
    let request = HookRequest {
        hook: Hook::PreCreate,
        now_ms: 7,
        facts: Arc::default(),
        spec: spec(),
        subject: Subject::Container,
    };
    let error = reader(gone).evaluate(&request).unwrap_err();
    assert_eq!(error.code, "capability");
    assert!(error.message.contains("/no/such/folder") && !error.message.contains('\n'), "{error}");
}
