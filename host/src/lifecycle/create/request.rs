//! What somebody asks for, and the spec that it begins as, before any policy decides.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::config::Loaded;
use crate::hooks::record::{Draft, Owner};
use crate::hooks::redact::{REDACTED, SecretNames};
use crate::hooks::{Adjustment, WorkspaceFacts};
use crate::lifecycle::Error;
use crate::lifecycle::ResolvedRequest;
use crate::lifecycle::create::devcontainer::Asked;
use crate::lifecycle::secrets::files::SECRETS_TARGET;
use crate::lifecycle::secrets::withheld::Withheld;
use crate::store::KnownWorkspace;
use crate::workspace::{
    ContainerSpec, ImageChoice, Mount, MountKind, Network, PullPolicy, Resources, Restart, Security, WorkspaceId,
};

/// A project folder that was checked, and the workspace that it gets.
#[derive(Debug, Clone)]
pub struct Project {
    /// Absolute path without links.
    pub path: PathBuf,
    /// The workspace's id.
    pub id: WorkspaceId,
    /// The workspace's name; a sidecar's is `<workspace>/<sidecar>`.
    pub name: String,
    /// For a sidecar, the workspace that it belongs to.
    pub part_of: Option<Parent>,
    /// The folder of its secret files, if it has or gets any.
    pub secrets: Option<PathBuf>,
    /// What its `devcontainer.json` asks for, if it has one.
    pub(in crate::lifecycle) devcontainer: Option<std::sync::Arc<Asked>>,
}

/// The workspace that a sidecar belongs to.
#[derive(Debug, Clone)]
pub struct Parent {
    /// Its id.
    pub id: WorkspaceId,
    /// What it is connected to; its sidecars are too.
    pub network: Network,
}

/// Folders that are never a project, and whether what is in them isn't either. Where they are links, what these lead to is
/// among them.
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
    /// Checks a project folder, and finds the workspace's id: that of the known workspace of this project and name, or else a
    /// new one.
    ///
    /// # Errors
    /// [`Error::InUse`] when the new id is another workspace's; [`Error::Project`] when it is missing, no folder, unreadable, a system folder or outside `allow.projects`.
    pub fn resolve(path: &Path, name: Option<&str>, loaded: &Loaded, known: &[KnownWorkspace]) -> Result<Self, Error> {
        let real = Self::check(path, loaded)?;
        let text = real.to_string_lossy();
        let folder = real.file_name().map_or("workspace".into(), |name| name.to_string_lossy());
        let name = name.unwrap_or(&folder).to_owned();
        if name.is_empty() || name.len() > 200 || name.contains(char::is_control) {
            return Err(Error::Request("--name takes one line of 1 to 200 bytes".into()));
        }
        if name.contains('/') {
            let text = format!(
                "'{name}' is no workspace's name: the names with a '/' are those of sidecars; --name takes one line without it"
            );
            return Err(Error::Request(text));
        }
        let id = id_of(&name, &text, known)?;
        Ok(Self { path: real, id, name, part_of: None, secrets: None, devcontainer: None })
    }

    /// Checks a project folder, and gives its path without links.
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
            // A service takes projects of others, too.
            let is_home = home.as_ref() == Some(&real) || real.parent() == Some(Path::new("/home"));
            if SYSTEM.iter().any(inside) || is_home {
                return Err(fail(
                    "it is a system folder or a whole home".into(),
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

    /// The workspace as policies see it.
    pub(in crate::lifecycle) fn facts(&self, request: &ResolvedRequest, loaded: &Loaded) -> WorkspaceFacts {
        let mut labels = loaded.config.workspace.labels.clone();
        labels.extend(request.labels.clone());
        SecretNames(loaded.config.secrets.env.clone()).redact_env(&mut labels);
        WorkspaceFacts {
            id: self.id.to_string(),
            name: self.name.clone(),
            project: self.path.display().to_string(),
            labels,
        }
    }
}

/// The id of a project's workspace. Ids are short hashes, so one that is known counts only for its own project and name.
fn id_of(name: &str, project: &str, known: &[KnownWorkspace]) -> Result<WorkspaceId, Error> {
    let is = |known: &&KnownWorkspace| known.part_of.is_none() && known.name == name && known.project == project;
    if let Some(found) = known.iter().find(is) {
        return Ok(found.id.clone());
    }
    let id = WorkspaceId::derive(name, project);
    match known.iter().find(|known| known.id == id) {
        None => Ok(id),
        Some(other) => Err(Error::InUse {
            text: format!("the id {id} is that of the workspace '{}' of {}", other.name, other.project),
            remedy: "give this one another name with --name".into(),
        }),
    }
}

/// The spec before any policy: defaults, `devcontainer.json`, configuration, request, each field with its owner.
///
/// # Errors
/// [`Error::Request`] for a value of the request that makes no sense in itself.
pub(in crate::lifecycle) fn draft(
    request: &ResolvedRequest,
    project: &Project,
    loaded: &Loaded,
    secrets: &SecretNames,
    engine_cpus: u32,
) -> Result<(Draft, Withheld), Error> {
    for (name, value) in &request.secrets {
        crate::lifecycle::secrets::files::check(name, value)?;
    }
    let config = &loaded.config.workspace;
    let mut draft = Draft::new(base(project, loaded, engine_cpus));
    let mut withheld = Withheld::default();
    let (withheld_env, withheld_labels) = (&mut withheld.env, &mut withheld.labels);
    let mut env = |name: &String, value: &String| {
        let shown = if secrets.contains(name) {
            withheld_env.insert(name.clone(), value.clone());
            REDACTED.to_owned()
        } else {
            value.clone()
        };
        Adjustment::Env(name.clone(), Some(shown))
    };
    let mut label = |(name, value): (&String, &String)| {
        let shown = if secrets.contains(name) {
            withheld_labels.insert(name.clone(), value.clone());
            REDACTED.to_owned()
        } else {
            value.clone()
        };
        Adjustment::Label(name.clone(), Some(shown))
    };

    match &project.devcontainer {
        // The file means the image's user where it names none, as the reference tool does.
        Some(asked) => asked.apply(&mut draft, &mut env),
        // A sidecar runs its image as it is.
        None if project.part_of.is_none() => crate::lifecycle::create::owner::propose(&mut draft, &project.path),
        None => {}
    }

    // What the configuration says, where it says more than the default.
    let mut configured: Vec<(&str, Adjustment)> = vec![
        ("workspace.command", Adjustment::Command(config.command.clone())),
        ("workspace.user", Adjustment::User(config.user.clone())),
        ("workspace.working_dir", Adjustment::WorkingDir(config.working_dir.clone())),
        ("workspace.memory", Adjustment::Memory(config.memory.0)),
        ("workspace.cpus", Adjustment::Cpus(config.cpus)),
        ("workspace.pids", Adjustment::Pids(config.pids)),
        ("workspace.capabilities", Adjustment::Capabilities(config.capabilities.clone())),
    ];
    if project.part_of.is_some() {
        // What the configuration says of a project's container is not meant for the database beside it.
        configured.retain(|(key, _)| !["workspace.command", "workspace.user", "workspace.working_dir"].contains(key));
    } else if let Some(check) = &config.health_check {
        configured.push(("workspace.health_check.command", Adjustment::HealthCheck(Some(check.spec()))));
    }
    if let (None, Some(reference)) = (&project.part_of, &config.image) {
        let reason = "the configuration names it".to_owned();
        let choice = ImageChoice { reference: reference.clone(), pull: PullPolicy::Missing, reason };
        configured.push(("workspace.image", Adjustment::Image(choice)));
    }
    let mut configured: Vec<_> = configured.into_iter().map(|(key, edit)| (key.to_owned(), edit)).collect();
    if project.part_of.is_none() {
        configured.extend(config.env.iter().map(|(name, value)| (format!("workspace.env.{name}"), env(name, value))));
    }
    configured.extend(config.labels.iter().map(|pair| (format!("workspace.labels.{}", pair.0), label(pair))));
    for (key, adjustment) in configured {
        let origin = loaded.origin(&key);
        if origin != crate::config::Origin::Default {
            adjustment.check().map_err(|text| Error::Request(format!("{origin}: {text}")))?;
            draft.set(&adjustment, Owner::host("config", Some(origin.to_string())), None);
        }
    }

    // What the request says.
    let mut asked: Vec<(Adjustment, String)> = Vec::new();
    if let Some(reference) = &request.image {
        let reason = if request.build.is_some() { "the request builds it" } else { "the request names it" }.to_owned();
        let choice = ImageChoice { reference: reference.clone(), pull: request.pull.unwrap_or_default(), reason };
        let words = if request.build.is_some() { "--build" } else { "--image" };
        asked.push((Adjustment::Image(choice), words.into()));
    }
    if !request.command.is_empty() {
        asked.push((Adjustment::Command(request.command.clone()), "the command".into()));
    }
    asked.extend(request.env.iter().map(|(name, value)| (env(name, value), "--env".to_owned())));
    asked.extend(request.labels.iter().map(|pair| (label(pair), "--label".to_owned())));
    if let Some(folder) = &project.secrets {
        let mount = Mount { kind: MountKind::Bind, source: folder.display().to_string(), read_only: true };
        asked.push((Adjustment::Mount(SECRETS_TARGET.to_owned(), Some(mount)), "--secret".into()));
    }
    asked.extend(request.fields.iter().cloned());
    refuse_twice(&asked)?;
    for (adjustment, words) in asked {
        adjustment.check().map_err(|text| Error::Request(format!("{words}: {text}")))?;
        draft.set(&adjustment, Owner::host("request", Some(words)), None);
    }
    withheld.files = crate::lifecycle::secrets::files::texts(request.secrets.values(), project.secrets.as_deref());
    withheld.policies = loaded.policy_secrets();
    withheld.refuse_names(&draft.spec)?;
    withheld.hide(&mut draft, secrets);
    Ok((draft, withheld))
}

/// One request cannot give two things for one place in the container: the engine would take one of them without a word.
fn refuse_twice(asked: &[(Adjustment, String)]) -> Result<(), Error> {
    let mut before: BTreeMap<String, &(Adjustment, String)> = BTreeMap::new();
    for one in asked {
        let (what, place) = match &one.0 {
            Adjustment::Port(port, _) => (format!("the port {port}"), format!("port {port}")),
            Adjustment::Mount(target, _) | Adjustment::Tmpfs(target, _) => (target.clone(), format!("path {target}")),
            _ => continue,
        };
        match before.insert(place, one) {
            Some(other) if other.0 != one.0 => {
                return Err(Error::Request(format!("{what} is given twice, by {} and {}", other.1, one.1)));
            }
            _ => {}
        }
    }
    Ok(())
}

fn base(project: &Project, loaded: &Loaded, engine_cpus: u32) -> ContainerSpec {
    let config = &loaded.config.workspace;
    let limits = &loaded.config.limits;
    let is_default = |key: &str| loaded.origin(key) == crate::config::Origin::Default;
    // Defaults adapt to ceilings, and to the machine (the engine refuses more cores than there are); what the
    // configuration says stands, and is refused where it is too much.
    let mut cpus = config.cpus;
    if is_default("workspace.cpus") {
        let machine = if engine_cpus == 0 { cpus } else { f64::from(engine_cpus) };
        cpus = cpus.min(machine).min(limits.cpus);
    }
    let memory = if is_default("workspace.memory") { config.memory.min(limits.memory) } else { config.memory };
    let pids = if is_default("workspace.pids") { config.pids.min(limits.pids) } else { config.pids };
    let path = project.path.display().to_string();
    // A sidecar runs its image as it is: no project, no command of ours. Its host name is the name that others know: the engine
    // makes it an alias, so on the shared network it is not the short one, which the sidecar of another workspace may have.
    let sidecar = project.part_of.as_ref();
    let mount = Mount { kind: MountKind::Bind, source: path, read_only: false };
    let mounts = if sidecar.is_some() { BTreeMap::new() } else { [(config.working_dir.clone(), mount)].into() };
    let hostname = match project.name.rsplit_once('/') {
        Some((_, name)) if sidecar.is_some_and(|parent| parent.network == Network::Own) => name.to_owned(),
        _ => project.id.to_string(),
    };
    let env = [("WORKSPACE_ID", project.id.as_str()), ("WORKSPACE_NAME", &project.name), ("WHARF_MANAGED", "true")];
    ContainerSpec {
        image: None,
        entrypoint: None,
        command: if sidecar.is_some() { Vec::new() } else { config.command.clone() },
        user: if sidecar.is_some() { None } else { config.user.clone() },
        working_dir: if sidecar.is_some() { String::new() } else { config.working_dir.clone() },
        hostname,
        env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        labels: BTreeMap::new(),
        mounts,
        tmpfs: BTreeMap::new(),
        ports: BTreeMap::new(),
        network: sidecar.map_or(Network::Shared, |parent| parent.network),
        resources: Resources { cpus, memory: memory.0, pids, shm_size: None, disk: None, ulimits: BTreeMap::new() },
        security: Security {
            capabilities: config.capabilities.clone(),
            no_new_privileges: true,
            read_only_root: false,
            seccomp: "default".into(),
            apparmor: None,
            selinux: None,
            user_namespace: None,
        },
        restart: Restart::No,
        health_check: None,
        time_to_live_ms: None,
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
        // Made by an earlier version.
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
