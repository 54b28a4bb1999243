//! The `devcontainer.json` of a project: it is found, read, and turned into a part of the draft. The file and
//! everything that it names must be inside the project, including the targets of links.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::path::{Component, Path, PathBuf};

use crate::archive::{Folder, Found};
use crate::config::{Config, Loaded, Origin};
use crate::devcontainer::{self, Build, Command, Devcontainer, NotHonoured, OWNER, Record, Surroundings};
use crate::hooks::record::{Draft, Owner};
use crate::hooks::redact::{SecretNames, Values};
use crate::hooks::{Adjustment, EngineFacts, ProjectFacts};
use crate::lifecycle::ResolvedRequest;
use crate::lifecycle::create::facts::MOST_BYTES;
use crate::lifecycle::create::project::Asked;
use crate::lifecycle::create::resolved_request::DevcontainerChoice;
use crate::lifecycle::secrets::withheld_values::Withheld;
use crate::lifecycle::{Difference, Error, Project};
use crate::store;
use crate::wire::ImageBuild;
use crate::workspace::{ImageChoice, Network, PullPolicy};

/// The usual places of the file, in order.
const USUAL: [&str; 2] = [".devcontainer/devcontainer.json", ".devcontainer.json"];

/// Finds and reads the file for a request, if there is one.
///
/// # Errors
/// [`Error::ProjectFile`] when the file is unusable.
pub(in crate::lifecycle) async fn ask(
    project: &Project,
    request: &ResolvedRequest,
    loaded: &Loaded,
    engine: &EngineFacts,
) -> Result<Option<Asked>, Error> {
    if project.part_of.is_some() || request.devcontainer == DevcontainerChoice::Off {
        return Ok(None);
    }
    if !loaded.config.devcontainer.enabled {
        let origin = loaded.origin("devcontainer.enabled");
        return match &request.devcontainer {
            DevcontainerChoice::Named(_) => {
                Err(Error::Request(format!("--devcontainer: devcontainer.enabled is false ({origin})")))
            }
            _ => Ok(None),
        };
    }
    let (project, request, loaded, engine) = (project.clone(), request.clone(), loaded.clone(), engine.clone());
    let asked = tokio::task::spawn_blocking(move || ask_blocking(&project, &request, &loaded, &engine)).await;
    asked.map_err(|error| Error::Internal(error.to_string()))?
}

fn ask_blocking(
    project: &Project,
    request: &ResolvedRequest,
    loaded: &Loaded,
    engine: &EngineFacts,
) -> Result<Option<Asked>, Error> {
    let named = match &request.devcontainer {
        DevcontainerChoice::Named(name) => Some(named_file(name)?),
        _ => None,
    };
    let candidates = named.as_deref().map_or_else(|| USUAL.to_vec(), |file| vec![file]);
    let mut found = None;
    for file in candidates {
        if let Some(text) = read_file(&project.path, file)? {
            found = Some((file, text));
            break;
        }
    }
    let Some((file, text)) = found else {
        return match named {
            Some(file) => Err(Error::ProjectFile(format!("{file}: there is no such file in the project"))),
            None => Ok(None),
        };
    };
    let config = &loaded.config;
    let local_env: BTreeMap<String, Option<String>> =
        config.devcontainer.local_env.iter().map(|name| (name.clone(), std::env::var(name).ok())).collect();
    let origin = loaded.origin("workspace.working_dir");
    let around = Surroundings {
        file,
        folder: &project.path.display().to_string(),
        id: project.id.as_str(),
        working_dir: &config.workspace.working_dir,
        working_dir_fixed: (origin != Origin::Default).then(|| origin.to_string()),
        local_env: &local_env,
        secrets: &SecretNames(config.secrets.env.clone()),
        capabilities: &config.workspace.capabilities,
        allowed_capabilities: &config.allow.capabilities,
        unconfined: config.allow.unconfined,
        cpus: engine.cpus,
        memory: engine.memory,
        usual_cpus: config.workspace.cpus,
        usual_memory: config.workspace.memory.0,
        most_cpus: config.limits.cpus,
        most_memory: config.limits.memory.0,
    };
    let says = devcontainer::read(&text, &around).map_err(|error| Error::ProjectFile(error.to_string()))?;
    let says = without_host_name(says, request, config);
    let mut asked = Asked { file: file.to_owned(), says, build: None, image: None, named: named.is_some() };
    // If the request names or builds an image, the project's image is not needed.
    if request.image.is_none() && request.build.is_none() {
        asked.image(project, loaded)?;
    }
    Ok(Some(asked))
}

/// Removes a host name that the engine would resolve for every workspace on the shared network.
fn without_host_name(mut says: Devcontainer, request: &ResolvedRequest, config: &Config) -> Devcontainer {
    let network = |edit: &Adjustment| match edit {
        Adjustment::Network(network) => Some(*network),
        _ => None,
    };
    let own = says.fields.iter().rev().find_map(|(edit, _)| network(edit));
    let network = request.fields.iter().rev().find_map(|(edit, _)| network(edit)).or(own).unwrap_or(Network::Shared);
    if network != Network::Shared {
        return says;
    }
    let (left_out, kept): (Vec<_>, Vec<_>) = says.fields.into_iter().partition(|(edit, _)| match edit {
        Adjustment::Hostname(name) => !config.allow.hostnames.contains(name),
        _ => false,
    });
    says.fields = kept;
    for (_, line) in left_out {
        let why = "on the shared network a workspace keeps its own name; use the network 'own', or let an admin add \
                   the name to allow.hostnames";
        says.not_honoured.push(NotHonoured { property: "runArgs --hostname".into(), line, why: why.into() });
    }
    says.not_honoured.sort_by_key(|not| not.line);
    says
}

fn named_file(name: &str) -> Result<String, Error> {
    let mut parts = Path::new(name).components();
    let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name);
    if plain && !name.contains(char::is_control) {
        Ok(format!(".devcontainer/{name}/devcontainer.json"))
    } else {
        Err(Error::Request(format!("--devcontainer {name:?}: name a folder in .devcontainer, without slashes")))
    }
}

/// Follows links inside the project, and returns the object at the path. The path may contain `..`.
fn inside(project: &Folder, path: &Path, file: &str) -> Result<Found, Error> {
    let shown = path.display();
    project.find(path).map_err(|error| {
        Error::ProjectFile(match error.kind() {
            // The message does not reveal whether the path exists.
            ErrorKind::PermissionDenied if error.raw_os_error().is_none() => {
                format!("{file}: cannot read '{shown}': it is outside the project")
            }
            _ => format!("{file}: cannot read '{shown}': {error}"),
        })
    })
}

/// Reads a file that may be absent.
fn read_file(project: &Path, file: &str) -> Result<Option<String>, Error> {
    let path = project.join(file);
    match path.symlink_metadata() {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        _ => {}
    }
    let fail = |text: &str| Error::ProjectFile(format!("{file}: {text}"));
    let cannot = |error: std::io::Error| fail(&format!("cannot read it: {error}"));
    let folder = Folder::open(project).map_err(cannot)?;
    let found = inside(&folder, Path::new(file), file)?;
    if !found.about.is_file() {
        return Err(fail("it is not a regular file"));
    }
    let (open, _) = found.open().map_err(cannot)?;
    let mut bytes = Vec::new();
    open.take(MOST_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() > MOST_BYTES {
        return Err(fail(&format!("it is larger than {} KiB", MOST_BYTES >> 10)));
    }
    String::from_utf8(bytes).map(Some).map_err(|_| fail("it is not UTF-8 text"))
}

impl Asked {
    fn image(&mut self, project: &Project, loaded: &Loaded) -> Result<(), Error> {
        // The configuration's image stays, unless a policy or the person who named this file wants another.
        let configured = loaded.config.workspace.image.is_some() && !self.named;
        if let (true, Some(build)) = (configured, &self.says.build) {
            let why = format!("{} sets workspace.image", loaded.origin("workspace.image"));
            let not = NotHonoured { property: "build".into(), line: build.line, why };
            self.says.not_honoured.push(not);
            self.says.not_honoured.sort_by_key(|not| not.line);
        }
        if configured {
            return Ok(());
        }
        let choice = |reference: String, pull, what: &str| ImageChoice {
            reference,
            pull,
            reason: format!("the project's {} {what} it", self.file),
        };
        if let Some((reference, line)) = &self.says.image {
            self.image = Some((choice(reference.clone(), PullPolicy::Missing, "names"), *line));
        } else if let Some(build) = &self.says.build {
            let image = image_build(&project.path, &self.file, build)?;
            let reference =
                crate::lifecycle::create::images::reference(&image, &project.id).map_err(|error| match error {
                    Error::Request(text) => Error::ProjectFile(format!("{}:{}: {text}", self.file, build.line)),
                    other => other,
                })?;
            self.image = Some((choice(reference, PullPolicy::Never, "builds"), build.line));
            self.build = Some(image);
        }
        Ok(())
    }

    /// Returns the reference of the image that the file builds.
    pub(in crate::lifecycle) fn built(&self) -> Option<&str> {
        self.image.as_ref().filter(|_| self.build.is_some()).map(|(choice, _)| choice.reference.as_str())
    }

    fn owner(&self, line: usize) -> Owner {
        Owner::host(OWNER, Some(format!("{}:{line}", self.file)))
    }

    /// Sets its fields in a draft, before configuration and request set theirs. `env` withholds secrets.
    pub(in crate::lifecycle) fn apply(&self, draft: &mut Draft, mut env: impl FnMut(&String, &String) -> Adjustment) {
        for (edit, line) in &self.says.fields {
            let edit = match edit {
                Adjustment::Env(name, Some(value)) => env(name, value),
                other => other.clone(),
            };
            draft.set(&edit, self.owner(*line), None);
        }
    }

    /// Proposes its image; that of the request wins. Returns whether the person who made the request chose this image
    /// by naming the file.
    pub(in crate::lifecycle) fn propose_image(&self, draft: &mut Draft) -> bool {
        let Some((choice, line)) = &self.image else { return false };
        draft.set(&Adjustment::Image(choice.clone()), self.owner(*line), None);
        self.named
    }

    /// Refuses commands that contain a secret which cannot be removed.
    ///
    /// # Errors
    /// [`Error::ProjectFile`]
    pub(in crate::lifecycle) fn refuse_commands(&self, withheld: &Withheld) -> Result<(), Error> {
        withheld.refuse_commands(&self.file, &self.says.commands)
    }

    /// Returns its record for a workspace that was made now, without secrets.
    pub(in crate::lifecycle) fn record(&self, withheld: &Withheld) -> Record {
        let mut record = Record {
            file: self.file.clone(),
            not_honoured: self.says.not_honoured.clone(),
            commands: self.says.commands.clone(),
            once_done: self.says.commands.once.is_empty(),
            failed: None,
        };
        record.commands.hide(&withheld.env);
        let values = Values::of(&withheld.values());
        for not in &mut record.not_honoured {
            values.clean(&mut not.property);
            values.clean(&mut not.why);
        }
        record
    }
}

/// Hides the content of files that do not count from policies.
pub(in crate::lifecycle) fn hide(asked: Option<&Asked>, facts: &mut ProjectFacts) {
    if asked.is_none_or(|asked| asked.named) {
        facts.contents.retain(|path, _| !USUAL.contains(&path.as_str()));
    }
}

/// Converts paths of the file into those of a build.
fn image_build(project: &Path, file: &str, build: &Build) -> Result<ImageBuild, Error> {
    let at = format!("{file}:{}", build.line);
    let folder = Path::new(file).parent().unwrap_or(Path::new(""));
    let held = Folder::open(project).map_err(|error| Error::ProjectFile(format!("{at}: {error}")))?;
    let context = inside(&held, &folder.join(&build.context), &at)?.within;
    let dockerfile = inside(&held, &folder.join(&build.dockerfile), &at)?.within;
    let fail = |text: String| Error::ProjectFile(format!("{at}: {text}"));
    let Ok(in_context) = dockerfile.strip_prefix(&context) else {
        return Err(fail(format!("the dockerfile '{}' is outside the context; widen 'context'", build.dockerfile)));
    };
    // These are read as a whole, so they must be regular files of the project, not pipes.
    let own = PathBuf::from(format!("{}.dockerignore", dockerfile.display()));
    for path in [dockerfile.clone(), own, context.join(".dockerignore")] {
        if project.join(&path).symlink_metadata().is_ok() && !inside(&held, &path, &at)?.about.is_file() {
            return Err(fail(format!("'{}' is not a regular file", path.display())));
        }
    }
    Ok(ImageBuild {
        dockerfile: Some(in_context.display().to_string()),
        context: project.join(context),
        args: build.args.clone(),
        target: build.target.clone(),
        ..ImageBuild::default()
    })
}

/// Returns commands of the creation that differ from those that the workspace was made with.
pub(in crate::lifecycle) fn differences(
    stored: &store::Workspace,
    asked: Option<&Asked>,
    withheld: &Withheld,
) -> Vec<Difference> {
    let by_name = |commands: &[Command]| -> BTreeMap<String, serde_json::Value> {
        commands.iter().map(|command| (command.property.clone(), serde_json::json!(command.words))).collect()
    };
    let is = stored.devcontainer.as_ref().map(|record| by_name(&record.commands.once)).unwrap_or_default();
    let wanted = asked.map(|asked| by_name(&asked.record(withheld).commands.once)).unwrap_or_default();
    let names: std::collections::BTreeSet<&String> = is.keys().chain(wanted.keys()).collect();
    let differ = names.into_iter().filter(|name| is.get(*name) != wanted.get(*name));
    differ
        .map(|name| Difference {
            field: format!("devcontainer.{name}"),
            is: is.get(name).cloned().unwrap_or_default(),
            decided: wanted.get(name).cloned().unwrap_or_default(),
            by: OWNER.into(),
        })
        .collect()
}
