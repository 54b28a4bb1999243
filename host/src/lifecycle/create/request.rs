//! The initial spec of a request, before any policy decides.

use std::collections::BTreeMap;

use crate::config::{Loaded, WorkspaceConfig};
use crate::hooks::Adjustment;
use crate::hooks::record::{Draft, Owner};
use crate::hooks::redact::{REDACTED, SecretNames};
use crate::lifecycle::Error;
use crate::lifecycle::ResolvedRequest;
use crate::lifecycle::create::project::Project;
use crate::lifecycle::secrets::files::SECRETS_TARGET;
use crate::lifecycle::secrets::withheld_values::Withheld;
use crate::workspace::{
    ContainerSpec, ImageChoice, Mount, MountKind, Network, PullPolicy, Resources, Restart, Security,
};

/// Returns the spec before any policy: defaults, `devcontainer.json`, configuration, request, each field with its
/// owner.
///
/// # Errors
/// [`Error::Request`] for a value of the request that is invalid in itself.
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
        // A file without a user means the image's user, as in the reference tool.
        Some(asked) => asked.apply(&mut draft, &mut env),
        // A sidecar runs its image unchanged.
        None if project.part_of.is_none() => crate::lifecycle::create::owner::propose(&mut draft, &project.path),
        None => {}
    }

    for (key, adjustment) in configured(project, config, &mut env, &mut label) {
        let origin = loaded.origin(&key);
        if origin != crate::config::Origin::Default {
            adjustment.check().map_err(|text| Error::Request(format!("{origin}: {text}")))?;
            draft.set(&adjustment, Owner::host("config", Some(origin.to_string())), None);
        }
    }

    // The fields of the request.
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

/// Returns the settings of the configuration for a workspace, each with its key. `env` and `label` redact secret values.
fn configured(
    project: &Project,
    config: &WorkspaceConfig,
    mut env: impl FnMut(&String, &String) -> Adjustment,
    mut label: impl FnMut((&String, &String)) -> Adjustment,
) -> Vec<(String, Adjustment)> {
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
        // Settings of the configuration for a project's container do not apply to the database beside it.
        configured.retain(|(key, _)| !["workspace.command", "workspace.user", "workspace.working_dir"].contains(key));
    } else if let Some(check) = &config.health_check {
        configured.push(("workspace.health_check.command", Adjustment::HealthCheck(Some(check.spec()))));
    }
    if let (None, Some(reference)) = (&project.part_of, &config.image) {
        let reason = "the configuration names it".to_owned();
        let choice = ImageChoice { reference: reference.clone(), pull: PullPolicy::Missing, reason };
        configured.push(("workspace.image", Adjustment::Image(choice)));
    }
    let mut all: Vec<_> = configured.into_iter().map(|(key, edit)| (key.to_owned(), edit)).collect();
    if project.part_of.is_none() {
        all.extend(config.env.iter().map(|(name, value)| (format!("workspace.env.{name}"), env(name, value))));
    }
    all.extend(config.labels.iter().map(|pair| (format!("workspace.labels.{}", pair.0), label(pair))));
    all
}

/// Refuses a request with two values for one place in the container: the engine would silently use one of them.
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
                return Err(Error::Request(format!("{what} is set twice, by {} and {}", other.1, one.1)));
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
    // Defaults adapt to ceilings, and to the machine (the engine refuses more cores than there are). Values of the
    // configuration are fixed, and are refused if they exceed them.
    let mut cpus = config.cpus;
    if is_default("workspace.cpus") {
        let machine = if engine_cpus == 0 { cpus } else { f64::from(engine_cpus) };
        cpus = cpus.min(machine).min(limits.cpus);
    }
    let memory = if is_default("workspace.memory") { config.memory.min(limits.memory) } else { config.memory };
    let pids = if is_default("workspace.pids") { config.pids.min(limits.pids) } else { config.pids };
    let path = project.path.display().to_string();
    // A sidecar runs its image unchanged: without the project and without Wharf's command. Its host name is the name by
    // which others know it, because the engine makes it an alias. So on the shared network it is not the short name,
    // which the sidecar of another workspace may have.
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
