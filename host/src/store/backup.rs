//! A copy of the store, made while others write.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use rusqlite::{Connection, OpenFlags};

use super::{Error, Store, statement};

/// The result of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backup {
    /// Size of the file.
    pub bytes: u64,
    /// Number of decision records in it.
    pub decisions: u64,
}

/// A file that is removed on drop.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        // It may already have its final name.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Store {
    /// Writes a copy of the store's state at one moment, which only this user can read. The copy gets its name only
    /// when it is complete: after its pages and the chain of its decision records were verified.
    ///
    /// # Errors
    /// When the file exists or cannot be written, when the store cannot be read, or when it is damaged; then there is
    /// no file.
    pub fn back_up(&self, to: &Path) -> Result<Backup, Error> {
        let what = "copy the store";
        let unusable = |path: &Path, error: &std::io::Error| Error::NoBackup {
            path: path.to_path_buf(),
            cause: match error.kind() {
                ErrorKind::AlreadyExists => "it already exists".to_owned(),
                _ => error.to_string(),
            },
        };
        let name = to.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if std::fs::symlink_metadata(to).is_ok() || name.is_empty() {
            return Err(unusable(to, &ErrorKind::AlreadyExists.into()));
        }
        let partial = Partial(to.with_file_name(format!(".{name}.{}", std::process::id())));
        // SQLite accepts an empty file. Creating it here ensures that it is never open to other users.
        let made = File::options().write(true).create_new(true).mode(0o600).open(&partial.0);
        made.map_err(|error| unusable(&partial.0, &error))?;
        let text = partial.0.to_str().ok_or_else(|| unusable(to, &std::io::Error::other("its name is not UTF-8")))?;
        // A separate connection, so that no other query waits for it.
        let source = Connection::open_with_flags(self.dir.join("wharf.db"), OpenFlags::SQLITE_OPEN_READ_ONLY);
        let source = source.map_err(statement(what))?;
        source.busy_timeout(super::BUSY).map_err(statement(what))?;
        source.execute("vacuum into ?1", [text]).map_err(statement(what))?;
        let decisions = self.verify_copy(&partial.0)?;
        let file = File::open(&partial.0).map_err(|error| unusable(&partial.0, &error))?;
        file.sync_all().map_err(|error| unusable(&partial.0, &error))?;
        let bytes = file.metadata().map_err(|error| unusable(&partial.0, &error))?.len();
        // A hard link, unlike a rename, replaces nothing.
        std::fs::hard_link(&partial.0, to).map_err(|error| unusable(to, &error))?;
        let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| unusable(folder, &error))?;
        Ok(Backup { bytes, decisions })
    }

    /// Reads the whole copy. Returns the number of its decision records.
    fn verify_copy(&self, copy: &Path) -> Result<u64, Error> {
        let what = "verify the copy of the store";
        let connection = Connection::open_with_flags(copy, OpenFlags::SQLITE_OPEN_READ_ONLY);
        let connection = connection.map_err(statement(what))?;
        let found: String =
            connection.query_row("pragma integrity_check(1)", [], |row| row.get(0)).map_err(statement(what))?;
        if found != "ok" {
            return Err(Error::Statement { what, cause: found });
        }
        // The copy does not contain the key.
        let (dir, host_id) = (self.dir.clone(), self.host_id.clone());
        let copy =
            Self { dir, host_id, connection: Mutex::new(connection), read: Mutex::default(), key: OnceLock::new() };
        copy.verify_against(None, &[], false)?.whole()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::tests::Dir;
    use super::*;
    use crate::workspace::WorkspaceId;

    #[test]
    fn a_copy_has_what_was_there_and_another_store_opens_it() {
        let dir = Dir::new("backup");
        let store = Store::open(&dir.0).unwrap();
        let id = WorkspaceId::derive("a", "/a");
        store.begin(&id, super::super::Verb::Create).unwrap();
        let file = dir.0.join("copy.db");
        let copy = store.back_up(&file).unwrap();
        assert_eq!(copy.decisions, 0);
        let about = std::fs::metadata(&file).unwrap();
        assert_eq!((about.permissions().mode() & 0o777, about.len()), (0o600, copy.bytes));
        store.begin(&id, super::super::Verb::Remove).unwrap();
        let other = Dir::new("backup-other");
        std::fs::create_dir_all(&other.0).unwrap();
        std::fs::copy(&file, other.0.join("wharf.db")).unwrap();
        let restored = Store::open(&other.0).unwrap();
        assert_eq!((restored.host_id(), restored.open_entries().unwrap().len()), (store.host_id(), 1));
        assert!(
            std::fs::read_dir(&dir.0)
                .unwrap()
                .all(|entry| { !entry.unwrap().file_name().to_string_lossy().starts_with('.') })
        );
    }

    #[test]
    fn nothing_is_replaced_and_nothing_broken_is_left() {
        let dir = Dir::new("backup-refused");
        let store = Store::open(&dir.0).unwrap();
        let file = dir.0.join("copy.db");
        std::fs::write(&file, "mine").unwrap();
        let refused = store.back_up(&file).unwrap_err();
        assert!(refused.to_string().contains("it already exists") && !refused.remedy().is_empty(), "{refused}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
        std::os::unix::fs::symlink(dir.0.join("nowhere"), dir.0.join("link.db")).unwrap();
        assert!(store.back_up(&dir.0.join("link.db")).is_err());
        assert!(store.back_up(&dir.0.join("no/copy.db")).is_err());
        // A damaged chain must not be copied as if it were intact.
        store
            .connection()
            .execute_batch(
                "insert into decisions (id, time, hook, workspace, body, previous, hash) values ('x', 't', 'h', 'w', '{}', '', 'y')",
            )
            .unwrap();
        assert!(store.back_up(&dir.0.join("damaged.db")).is_err());
        let mut left: Vec<_> =
            std::fs::read_dir(&dir.0).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        left.retain(|name| name.contains("damaged") || name.starts_with('.'));
        assert_eq!(left, Vec::<String>::new());
    }
}
