//! Project folders and their checks, with the workspace of each.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::Loaded;
use crate::devcontainer::Devcontainer;
use crate::hooks::redact::SecretNames;
use crate::hooks::{FolderOwner, WorkspaceFacts};
use crate::lifecycle::Error;
use crate::store::KnownWorkspace;
use crate::wire::ImageBuild;
use crate::workspace::{ImageChoice, Network, WorkspaceId};

/// The request of a project's `devcontainer.json`.
#[derive(Debug, Clone)]
pub(in crate::lifecycle) struct Asked {
    pub(in crate::lifecycle) says: Devcontainer,
    /// The build of the image, under the name of `image`.
    pub(in crate::lifecycle) build: Option<ImageBuild>,
    /// Path of the file in the project.
    pub(in crate::lifecycle) file: String,
    /// The image that it names or builds, and the line.
    pub(in crate::lifecycle) image: Option<(ImageChoice, usize)>,
    /// Whether the person who made the request named the file.
    pub(in crate::lifecycle) named: bool,
}

/// A checked project folder, and its workspace.
#[derive(Debug, Clone)]
pub struct Project {
    /// Absolute path without links.
    pub path: PathBuf,
    /// The workspace's ID.
    pub id: WorkspaceId,
    /// The workspace's name; a sidecar's is `<workspace>/<sidecar>`.
    pub name: String,
    /// For a sidecar, the workspace that it belongs to.
    pub part_of: Option<Parent>,
    /// The folder of its secret files, if it has or gets any.
    pub secrets: Option<PathBuf>,
    /// The request of its `devcontainer.json`, if it has one.
    pub(in crate::lifecycle) devcontainer: Option<std::sync::Arc<Asked>>,
    /// Whether the request excludes its `devcontainer.json`.
    pub(in crate::lifecycle) no_devcontainer: bool,
    /// Hints about files of the project that are not used.
    pub(in crate::lifecycle) hints: Vec<String>,
}

/// The workspace that a sidecar belongs to.
#[derive(Debug, Clone)]
pub struct Parent {
    /// Its ID.
    pub id: WorkspaceId,
    /// Its network, which its sidecars use too.
    pub network: Network,
}

/// Folders that are never a project, and whether this includes everything inside them. If they are links, their targets
/// are included.
const SYSTEM: [(&str, bool); 21] = [
    ("/", false),
    ("/etc", true),
    ("/proc", true),
    ("/sys", true),
    ("/dev", true),
    ("/boot", true),
    ("/run", true),
    ("/bin", true),
    ("/sbin", true),
    ("/lib", true),
    ("/lib64", true),
    ("/usr", false),
    ("/usr/bin", true),
    ("/usr/sbin", true),
    ("/usr/lib", true),
    ("/usr/lib32", true),
    ("/usr/lib64", true),
    ("/usr/libexec", true),
    ("/var", false),
    ("/home", false),
    ("/root", false),
];

impl Project {
    /// Checks a project folder, and determines the workspace's ID: that of the known workspace of this project and
    /// name, or else a new one.
    ///
    /// # Errors
    /// [`Error::InUse`] when the new ID is another workspace's; [`Error::Project`] when the folder is missing, no
    /// folder, unreadable, a system folder or outside `allow.projects`.
    pub fn resolve(path: &Path, name: Option<&str>, loaded: &Loaded, known: &[KnownWorkspace]) -> Result<Self, Error> {
        let real = Self::check(path, loaded)?;
        let text = real.to_string_lossy();
        let folder = real.file_name().map_or("workspace".into(), |name| name.to_string_lossy());
        let name = name.unwrap_or(&folder).to_owned();
        if name.is_empty() || name.len() > 200 || name.contains(char::is_control) {
            return Err(Error::Request("--name must be one line of 1 to 200 bytes".into()));
        }
        if name.contains('/') {
            let text =
                format!("'{name}' is not a workspace name: names with a '/' are for sidecars; omit the '/' in --name");
            return Err(Error::Request(text));
        }
        let id = id_of(&name, &text, known)?;
        Ok(Self {
            path: real,
            id,
            name,
            part_of: None,
            secrets: None,
            devcontainer: None,
            no_devcontainer: false,
            hints: Vec::new(),
        })
    }

    /// Checks a project folder, and returns its path without links.
    ///
    /// # Errors
    /// [`Error::Project`], see [`Project::resolve`].
    pub(in crate::lifecycle) fn check(path: &Path, loaded: &Loaded) -> Result<PathBuf, Error> {
        let fail = |cause: String, remedy| Error::Project { path: path.to_path_buf(), cause, remedy };
        let absolute = std::path::absolute(path)
            .map_err(|error| fail(error.to_string(), "name an existing folder that you can read"))?;
        let real = crate::paths::resolve(&absolute)
            .map_err(|error| fail(error.to_string(), "name an existing folder that you can read"))?
            .path;
        std::fs::read_dir(&real)
            .map_err(|error| fail(error.to_string(), "name a folder (not a file) that you can read"))?;
        if real.to_str().is_none_or(|text| text.contains(['\n', '\0'])) {
            return Err(fail("its path is not plain UTF-8 text".into(), "rename the folder"));
        }
        let roots = &loaded.config.allow.projects;
        if roots.is_empty() {
            let home = std::env::var_os("HOME").map(PathBuf::from).and_then(|home| home.canonicalize().ok());
            let inside = |(dir, deep): &(&str, bool)| real == Path::new(dir) || (*deep && real.starts_with(dir));
            // A service accepts projects of other users too.
            let is_home = home.as_ref() == Some(&real) || real.parent() == Some(Path::new("/home"));
            if SYSTEM.iter().any(inside) || is_home {
                return Err(fail(
                    "it is a system folder or a whole home folder".into(),
                    "use a project's own folder, or let an admin set allow.projects",
                ));
            }
        } else if !roots.iter().filter_map(|root| root.canonicalize().ok()).any(|root| real.starts_with(root)) {
            let roots: Vec<_> = roots.iter().map(|root| root.display().to_string()).collect();
            return Err(fail(
                format!(
                    "it is outside the allowed roots ({}, from {})",
                    roots.join(", "),
                    loaded.origin("allow.projects")
                ),
                "move the project there, or let an admin add its folder to allow.projects",
            ));
        }
        Ok(real)
    }

    /// Returns the workspace as policies see it.
    pub(in crate::lifecycle) fn facts(&self, asked: &BTreeMap<String, String>, loaded: &Loaded) -> WorkspaceFacts {
        let mut labels = loaded.config.workspace.labels.clone();
        labels.extend(asked.clone());
        SecretNames(loaded.config.secrets.env.clone()).redact_env(&mut labels);
        WorkspaceFacts {
            id: self.id.to_string(),
            name: self.name.clone(),
            project: self.path.display().to_string(),
            labels,
            owner: folder_owner(&self.path),
        }
    }
}

/// Returns the owner of a project folder; none if it is gone.
pub(in crate::lifecycle) fn folder_owner(path: &Path) -> Option<FolderOwner> {
    std::fs::symlink_metadata(path).ok().map(|meta| FolderOwner { uid: meta.uid(), gid: meta.gid() })
}

/// Returns the ID of a project's workspace. IDs are short hashes, so a known ID counts only for its own project and
/// name.
fn id_of(name: &str, project: &str, known: &[KnownWorkspace]) -> Result<WorkspaceId, Error> {
    let is = |known: &&KnownWorkspace| known.part_of.is_none() && known.name == name && known.project == project;
    if let Some(found) = known.iter().find(is) {
        return Ok(found.id.clone());
    }
    let id = WorkspaceId::derive(name, project);
    match known.iter().find(|known| known.id == id) {
        None => Ok(id),
        Some(other) => Err(Error::InUse {
            text: format!("the id {id} belongs to the workspace '{}' of {}", other.name, other.project),
            remedy: "choose another name with --name".into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_that_of_its_own_project_and_name_and_of_no_other() {
        let known = |id: &str, name: &str, project: &str| KnownWorkspace {
            id: id.parse().unwrap(),
            name: name.into(),
            project: project.into(),
            part_of: None,
        };
        let fresh = id_of("shop", "/srv/shop", &[]).unwrap();
        assert!(fresh.as_str().starts_with("shop-") && fresh.as_str().len() == 21, "{fresh}");
        // This workspace was made by an earlier version.
        let old = [known("shop-2eb26c", "shop", "/srv/shop")];
        assert_eq!(id_of("shop", "/srv/shop", &old).unwrap().as_str(), "shop-2eb26c");
        for (name, project) in [("shop_", "/srv/shop"), ("shop", "/srv/shop_")] {
            assert_ne!(id_of(name, project, &old).unwrap().as_str(), "shop-2eb26c");
        }
        let taken = [known(fresh.as_str(), "shop", "/srv/other")];
        let error = id_of("shop", "/srv/shop", &taken).unwrap_err();
        assert!(error.to_string().contains("/srv/other") && error.remedy().contains("--name"), "{error}");
    }

    #[test]
    fn a_system_folder_a_file_and_a_path_outside_the_roots_are_no_projects() {
        let mut loaded = crate::config::load(&Default::default()).unwrap();
        for bad in ["/", "/etc", "/etc/ssl", "/proc/self", "/no/such/folder", "/etc/passwd"] {
            let error = Project::resolve(Path::new(bad), None, &loaded, &[]).unwrap_err();
            assert_eq!(error.code(), "project-unusable", "{bad}");
        }
        let dir = std::env::temp_dir();
        loaded.config.allow.projects = vec![PathBuf::from("/srv")];
        let error = Project::resolve(&dir, None, &loaded, &[]).unwrap_err();
        assert!(error.to_string().contains("outside the allowed roots"), "{error}");
        loaded.config.allow.projects = vec![dir.clone()];
        assert!(Project::resolve(&dir, None, &loaded, &[]).is_ok());
    }
}
