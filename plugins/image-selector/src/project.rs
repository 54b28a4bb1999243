//! The project's files as the host hands them over: those that the plugin asked for, with their texts, and the names
//! of the others.

use wharf_plugin_sdk::log;
use wharf_plugin_sdk::types::{FileContent, Project};

use crate::formats::json_string;
use crate::languages::BUILT_IN;
use crate::settings::Settings;

/// The files of asdf and mise, which list all tools of a project.
pub const TOOL_VERSIONS: &str = ".tool-versions";
/// The files of mise.
pub const MISE: [&str; 2] = ["mise.toml", ".mise.toml"];

/// The files that describe a development container.
const DEVCONTAINERS: [&str; 2] = [".devcontainer/devcontainer.json", ".devcontainer.json"];

/// The files that build an image.
const DOCKERFILES: [&str; 2] = ["Dockerfile", "Containerfile"];

/// The files of Docker Compose.
const COMPOSE_FILES: [&str; 4] = ["compose.yaml", "docker-compose.yml", "compose.yml", "docker-compose.yaml"];

/// The number of wanted files that the host honours.
const MOST_WANTED: usize = 64;

/// Returns the files that the plugin asks for. Most files that state no version are among them, too: only a text shows
/// that a file can be read. Those are left out whose text is none, or is better not kept in records: lock files,
/// Dockerfiles and Compose files count by their names.
pub fn wanted_files(settings: &Settings) -> Vec<String> {
    let added = settings.languages.values().flat_map(|language| language.files.iter().map(String::as_str));
    let sources = BUILT_IN.iter().flat_map(|language| language.sources);
    let sources = sources.filter(|source| source.read.is_some()).map(|source| source.file);
    let mut wanted: Vec<String> = Vec::new();
    for file in DEVCONTAINERS.into_iter().chain([TOOL_VERSIONS]).chain(MISE).chain(added).chain(sources) {
        if wanted.len() < MOST_WANTED && !wanted.iter().any(|known| known == file) {
            wanted.push(file.to_owned());
        }
    }
    wanted
}

/// The files of a project.
pub struct Files<'p> {
    project: &'p Project,
    wanted: Vec<String>,
    /// The top-level names that count.
    names: Vec<&'p str>,
}

impl<'p> Files<'p> {
    /// Takes the files that the host handed over.
    pub fn new(project: &'p Project, settings: &Settings) -> Self {
        let mut files = Self { project, wanted: wanted_files(settings), names: Vec::new() };
        let counts = |name: &&str| !name.contains('/') && (files.content(name).is_some() || !files.is_wanted(name));
        let names = project.files.iter().map(String::as_str).filter(counts).collect();
        files.names = names;
        files
    }

    /// Returns a wanted file.
    pub fn content(&self, path: &str) -> Option<&'p FileContent> {
        self.project.contents.iter().find(|file| file.path == path)
    }

    /// Returns whether the project has a file, as far as the host tells. A wanted file needs a text.
    pub fn has(&self, path: &str) -> bool {
        self.content(path).is_some() || (self.project.has(path) && !self.is_wanted(path))
    }

    fn is_wanted(&self, path: &str) -> bool {
        self.wanted.iter().any(|wanted| wanted == path)
    }

    /// Returns the wanted files that the host lists and could not read: links that leave the project, folders, pipes.
    pub fn unreadable(&self) -> Vec<&str> {
        // The host hides the text of a development container that does not count.
        let counts = |path: &&String| !DEVCONTAINERS.contains(&path.as_str());
        let is = |path: &&String| self.project.has(path) && self.content(path).is_none();
        self.wanted.iter().filter(counts).filter(is).map(String::as_str).collect()
    }

    /// Returns the top-level names that end in this text and have more before it.
    pub fn ending(&self, ending: &str) -> impl Iterator<Item = &'p str> {
        let is = move |name: &&str| name.strip_suffix(ending).is_some_and(|stem| !stem.is_empty());
        self.names.iter().copied().filter(is)
    }

    /// Returns the image that the project's development container names, and the file that names it.
    pub fn devcontainer(&self) -> Option<(String, &'static str)> {
        for path in DEVCONTAINERS {
            let Some(FileContent { text, .. }) = self.content(path) else { continue };
            match json_string(text, &["image"]) {
                Ok(Some(image)) if crate::reference::is_valid(&image) => return Some((image, path)),
                Ok(Some(image)) => log::warn(format!("{path}: `{image}` is no image reference; going on without it")),
                Ok(None) if builds(text) => {}
                Ok(None) => log::info(format!("{path} names no image; going on without it")),
                Err(error) => log::warn(format!("{path}: {error}; going on without it")),
            }
        }
        None
    }

    /// Returns whether the project's development container builds its image instead of naming one.
    pub fn builds_devcontainer(&self) -> bool {
        DEVCONTAINERS.iter().any(|path| self.content(path).is_some_and(|file| builds(&file.text)))
    }

    /// Returns notes for users on files that do not decide: an image that the project can build, Compose
    /// files, and files that cannot be read.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(file) = self.dockerfile() {
            let flag = if file == "Dockerfile" { String::new() } else { format!(" --dockerfile {file}") };
            notes.push(format!("`wharf up --build .{flag}` builds the {file}"));
        }
        let compose = COMPOSE_FILES
            .into_iter()
            .find(|file| self.has(file))
            .or_else(|| self.names.iter().copied().find(is_compose));
        if let Some(file) = compose {
            notes.push(format!("{file}: compose files are not read"));
        }
        let unreadable = self.unreadable();
        if !unreadable.is_empty() {
            notes.push(format!("{} can't be read", unreadable.join(", ")));
        }
        notes
    }

    fn dockerfile(&self) -> Option<&'p str> {
        let usual = DOCKERFILES.into_iter().find(|file| self.has(file));
        usual.or_else(|| self.names.iter().copied().find(is_dockerfile))
    }
}

fn builds(text: &str) -> bool {
    let says = |path: &[&str]| json_string(text, path).is_ok_and(|found| found.is_some());
    !says(&["image"]) && (says(&["build", "dockerfile"]) || says(&["dockerFile"]))
}

/// Returns whether a name is that of another Dockerfile, e.g. `Dockerfile.dev` or `dev.Dockerfile`. It goes into a
/// command, so it has plain characters only.
fn is_dockerfile(name: &&str) -> bool {
    let lower = name.to_ascii_lowercase();
    let is =
        |word: &str| lower == word || lower.starts_with(&format!("{word}.")) || lower.ends_with(&format!(".{word}"));
    let plain = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    plain && (is("dockerfile") || is("containerfile")) && !lower.ends_with(".dockerignore")
}

/// Returns whether a name is that of another Compose file, e.g. `docker-compose.prod.yml`.
fn is_compose(name: &&str) -> bool {
    let stem = name.strip_suffix(".yml").or_else(|| name.strip_suffix(".yaml")).unwrap_or_default();
    let stem = stem.strip_prefix("docker-").unwrap_or(stem);
    stem.strip_prefix("compose").is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-']))
}
