//! The targets of host paths, as a fact of a decision: resolved during the decision and stored in its record, so that
//! a replay needs no host.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::paths::{self, Resolved};

/// A path that no workspace may see, neither directly nor inside a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guarded {
    /// Its location.
    pub path: PathBuf,
    /// The reason, as the end of a sentence that starts with a path: `holds the state of Wharf`.
    pub because: String,
    /// Whether it is the engine's socket, which `allow.docker_socket` can permit.
    pub engine: bool,
}

/// The target of a mount's source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Found {
    /// The resolved path of an ordinary file or folder.
    Ok(String),
    /// The reason why it cannot be mounted, regardless of the configuration.
    Err(String),
    /// The resolved path of the engine's socket, or of a folder that contains it.
    Engine(String),
}

/// A resolved source of a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    /// The path without symbolic links.
    pub(super) path: PathBuf,
    /// Whether it is, or contains, the engine's socket.
    pub(super) engine: bool,
}

/// The part of the host that a caller may learn about. All other paths give the same answer, whether they exist or
/// not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sight {
    /// The folder of the project, without symbolic links.
    pub project: PathBuf,
    /// Literal paths: those that the workspace already has, and those of the configuration.
    pub paths: BTreeSet<String>,
}

/// The answer for hidden paths, as the end of a sentence that starts with a path.
const HIDDEN: &str = "is not allowed, or does not exist";

impl Sight {
    /// Reduces the result of a path lookup to the part that the caller may see.
    fn through<T>(&self, path: &Path, found: Result<T, String>, real: impl Fn(&T) -> &Path) -> Result<T, String> {
        match found {
            found if self.paths.contains(&path.display().to_string()) => found,
            Ok(found) if real(&found).starts_with(&self.project) => Ok(found),
            _ => Err(HIDDEN.to_owned()),
        }
    }
}

/// The targets of host paths during a decision, as stored in its record.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FoundPaths(BTreeMap<String, Found>);

impl FoundPaths {
    /// Returns whether no path was looked up.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Resolves host paths.
#[derive(Debug, Clone, Default)]
pub struct HostPaths {
    known: BTreeMap<String, Found>,
    /// Whether unknown paths are looked up; otherwise they are used unchanged.
    live: bool,
    /// The limit of the caller's view, if there is one.
    sight: Option<Arc<Sight>>,
}

impl HostPaths {
    /// Resolves paths on demand and remembers the results.
    pub fn of_host() -> Self {
        Self { live: true, ..Self::default() }
    }

    /// Resolves paths like [`HostPaths::of_host`], but reveals to the caller only paths in sight.
    pub fn of_host_in(sight: Option<Arc<Sight>>) -> Self {
        Self { sight, ..Self::of_host() }
    }

    /// Uses the results of a record, without any lookup.
    pub fn of_record(found: FoundPaths) -> Self {
        Self { known: found.0, ..Self::default() }
    }

    /// Returns the results, for a record.
    pub fn found(self) -> FoundPaths {
        FoundPaths(self.known)
    }

    /// Resolves a folder that sources are compared with.
    pub(super) fn real(&mut self, path: &Path) -> Result<PathBuf, String> {
        let key = path.display().to_string();
        match self.known.get(&key) {
            Some(Found::Ok(real) | Found::Engine(real)) => return Ok(real.into()),
            Some(Found::Err(reason)) => return Err(reason.clone()),
            None if !self.live => return Ok(path.to_path_buf()),
            None => {}
        }
        let mut real = paths::resolve(path).map(|found| found.path).map_err(|error| error.to_string());
        if let Some(sight) = &self.sight {
            real = sight.through(path, real, PathBuf::as_path);
        }
        let found = match &real {
            Ok(real) => Found::Ok(real.display().to_string()),
            Err(reason) => Found::Err(reason.clone()),
        };
        self.known.insert(key, found);
        real
    }

    /// Resolves the source of a mount, unless it must never be mounted.
    pub(super) fn source(&mut self, path: &Path, guarded: &[Guarded]) -> Result<Source, String> {
        let key = path.display().to_string();
        if !self.live {
            return match self.known.get(&key) {
                Some(Found::Ok(real)) => Ok(Source { path: real.into(), engine: false }),
                Some(Found::Engine(real)) => Ok(Source { path: real.into(), engine: true }),
                Some(Found::Err(reason)) => Err(reason.clone()),
                None => Ok(Source { path: path.to_path_buf(), engine: false }),
            };
        }
        let mut found = look(path, guarded);
        if let Some(sight) = &self.sight {
            found = sight.through(path, found, |source| &source.path);
        }
        let kept = match &found {
            Ok(source) if source.engine => Found::Engine(source.path.display().to_string()),
            Ok(source) => Found::Ok(source.path.display().to_string()),
            Err(reason) => Found::Err(reason.clone()),
        };
        self.known.insert(key, kept);
        found
    }
}

fn look(path: &Path, guarded: &[Guarded]) -> Result<Source, String> {
    let found = paths::resolve(path).map_err(|error| match error {
        paths::Error::Io(error) if error.kind() == std::io::ErrorKind::NotFound => {
            "does not exist; make it first, e.g. with 'mkdir -p'".to_owned()
        }
        paths::Error::Io(error) => format!("cannot be read: {error}"),
        other => format!("cannot be mounted: {other}"),
    })?;
    let mut engine = false;
    for one in guarded.iter().filter(|one| touches(&found, &one.path)) {
        if !one.engine {
            return Err(one.because.clone());
        }
        engine = true;
    }
    if !found.is_plain && !engine {
        let kind = if found.is_socket { "a socket" } else { "a pipe or a device" };
        return Err(format!("is {kind}; a workspace can mount only files and folders"));
    }
    Ok(Source { path: found.path, engine })
}

/// Returns whether a source is, contains or lies within a guarded path, under any name: a folder mounted in a second
/// place is the same folder.
fn touches(source: &Resolved, guarded: &Path) -> bool {
    match paths::resolve(guarded) {
        Ok(guarded) => guarded.is_within(source) || source.is_within(&guarded),
        // A socket that does not exist yet belongs to a folder that exists.
        Err(_) => {
            let (Some(folder), Some(name)) = (guarded.parent(), guarded.file_name()) else { return false };
            paths::resolve(folder).is_ok_and(|folder| source.path == folder.path.join(name) || folder.is_within(source))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_an_earlier_version_are_read_and_what_is_not_known_stands_as_it_is() {
        let old: FoundPaths = serde_json::from_str(r#"{"/a":{"Ok":"/b"},"/c":{"Err":"No such file"}}"#).unwrap();
        let mut old = HostPaths::of_record(old);
        assert_eq!(old.real(Path::new("/a")), Ok("/b".into()));
        assert_eq!(old.source(Path::new("/a"), &[]), Ok(Source { path: "/b".into(), engine: false }));
        assert_eq!(old.source(Path::new("/c"), &[]), Err("No such file".into()));
        assert_eq!(old.real(Path::new("/x")), Ok("/x".into()));
    }

    #[test]
    fn a_path_that_is_not_in_sight_has_one_answer_whether_it_is_there_or_not() {
        let dir = std::env::temp_dir().canonicalize().unwrap().join(format!("wharf-sight-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("project/inner")).unwrap();
        std::fs::create_dir_all(dir.join("there")).unwrap();
        std::os::unix::fs::symlink("../there", dir.join("project/way")).unwrap();
        std::os::unix::fs::symlink("../none", dir.join("project/road")).unwrap();
        let paths = [dir.join("had").display().to_string()].into();
        let sight = Some(Arc::new(Sight { project: dir.join("project"), paths }));
        let mut host = HostPaths::of_host_in(sight);
        for path in ["there", "none", "project/way", "project/road", "project/none", "."] {
            let path = dir.join(path);
            assert_eq!(host.source(&path, &[]), Err(HIDDEN.to_owned()), "{}", path.display());
            assert_eq!(host.real(&path), Err(HIDDEN.to_owned()), "{}", path.display());
        }
        assert!(host.source(&dir.join("project/inner"), &[]).is_ok());
        assert!(host.source(&dir.join("had"), &[]).unwrap_err().contains("does not exist"));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn what_is_guarded_is_found_above_and_below_a_source_and_before_it_is_there() {
        let dir = std::env::temp_dir().canonicalize().unwrap().join(format!("wharf-guarded-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("project/state/secrets")).unwrap();
        std::os::unix::fs::symlink(dir.join("project/state"), dir.join("linked")).unwrap();
        std::fs::write(dir.join("file"), "x").unwrap();
        std::fs::hard_link(dir.join("file"), dir.join("project/again")).unwrap();
        let guarded = |path: &str| [Guarded { path: dir.join(path), because: "holds it".into(), engine: false }];
        let looked = |source: &str, at: &str| look(&dir.join(source), &guarded(at));
        for source in ["project", "project/state", "project/state/secrets", ""] {
            assert_eq!(looked(source, "linked"), Err("holds it".into()), "{source}");
        }
        assert_eq!(looked("project/again", "file"), Err("holds it".into()));
        assert_eq!(looked("project", "project/run.sock"), Err("holds it".into()));
        assert!(looked("project/again", "linked").is_ok() && looked("project/state", "project/run.sock").is_ok());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
