//! Finds the languages of a project and their versions in its files.

use wharf_plugin_sdk::log;
use wharf_plugin_sdk::types::Project;

use crate::formats::{first_line, json_string, quoted, toml_string, xml_text};
use crate::settings::Settings;
use crate::version;

/// A built-in language.
pub struct BuiltIn {
    pub name: &'static str,
    /// The image reference, with `{version}` as a placeholder for the version.
    pub image: &'static str,
    /// The version if the project specifies none.
    pub version: &'static str,
    /// Its name in `.tool-versions`, if different.
    tool: &'static str,
    /// The files that indicate the language, those with a version first.
    files: &'static [(&'static str, Reader)],
}

/// Reads the version expression from a file, if it has one.
type Reader = fn(&str) -> Option<String>;

/// The built-in languages in order of precedence for projects with several. Node comes last: a `package.json` often
/// exists beside a project's main language only to build its front end.
pub const BUILT_IN: [BuiltIn; 8] = [
    BuiltIn {
        name: "rust",
        image: "rust:{version}-slim",
        version: "1",
        tool: "rust",
        files: &[
            ("rust-toolchain.toml", |text| toml_string(text, "toolchain", "channel").map(rust_channel)),
            ("rust-toolchain", |text| {
                toml_string(text, "toolchain", "channel").or_else(|| first_line(text)).map(rust_channel)
            }),
            // The minimum compiler version, not the version to use.
            ("Cargo.toml", |text| {
                ["package", "workspace.package"]
                    .iter()
                    .find_map(|table| toml_string(text, table, "rust-version"))
                    .map(|least| format!(">={least}"))
            }),
        ],
    },
    BuiltIn {
        name: "go",
        image: "golang:{version}",
        version: "1",
        tool: "golang",
        files: &[("go.mod", |text| {
            let line = text.lines().find_map(|line| line.trim().strip_prefix("go "))?;
            let mut parts = line.trim().split('.');
            // Patch releases only contain fixes: for `go 1.24.1` the newest 1.24 is best.
            Some([parts.next()?, parts.next()?].join("."))
        })],
    },
    BuiltIn {
        name: "elixir",
        image: "elixir:{version}-slim",
        version: "1",
        tool: "elixir",
        files: &[("mix.exs", |text| quoted_after(text, "elixir:"))],
    },
    BuiltIn {
        name: "java",
        image: "eclipse-temurin:{version}-jdk",
        version: "21",
        tool: "java",
        files: &[
            (".java-version", |text| first_line(text).and_then(version::java_major)),
            ("pom.xml", |text| {
                ["maven.compiler.release", "java.version", "maven.compiler.source", "release"]
                    .iter()
                    .find_map(|element| xml_text(text, element))
                    .and_then(version::java_major)
            }),
            ("build.gradle", gradle),
            ("build.gradle.kts", gradle),
        ],
    },
    BuiltIn {
        name: "php",
        image: "php:{version}-cli",
        version: "8",
        tool: "php",
        files: &[("composer.json", |text| json_string(text, &["require", "php"]).ok()?)],
    },
    BuiltIn {
        name: "ruby",
        image: "ruby:{version}-slim",
        version: "3",
        tool: "ruby",
        files: &[
            (".ruby-version", |text| first_line(text).map(|line| line.trim_start_matches("ruby-").to_owned())),
            ("Gemfile", |text| {
                text.lines().find_map(|line| quoted(line.trim().strip_prefix("ruby ")?)).map(str::to_owned)
            }),
        ],
    },
    BuiltIn {
        name: "python",
        image: "python:{version}-slim",
        version: "3",
        tool: "python",
        files: &[
            (".python-version", |text| first_line(text).map(str::to_owned)),
            ("pyproject.toml", |text| {
                toml_string(text, "project", "requires-python")
                    .or_else(|| toml_string(text, "tool.poetry.dependencies", "python"))
                    .map(str::to_owned)
            }),
            ("requirements.txt", no_version),
            ("setup.py", no_version),
        ],
    },
    BuiltIn {
        name: "node",
        image: "node:{version}-slim",
        version: "22",
        tool: "nodejs",
        files: &[
            (".nvmrc", |text| first_line(text).map(str::to_owned)),
            (".node-version", |text| first_line(text).map(str::to_owned)),
            ("package.json", |text| json_string(text, &["engines", "node"]).ok()?),
        ],
    },
];

/// The file of asdf and mise, which lists all tools of a project.
const TOOL_VERSIONS: &str = ".tool-versions";

/// The files that describe a development container.
const DEVCONTAINERS: [&str; 2] = [".devcontainer/devcontainer.json", ".devcontainer.json"];

/// A language of the project, with the version to use.
#[derive(Debug, PartialEq)]
pub struct Found {
    pub language: String,
    pub version: String,
    /// The reason, in one line for users.
    pub reason: String,
}

/// Returns all files that the plugin reads.
pub fn wanted_files() -> Vec<String> {
    let markers = BUILT_IN.iter().flat_map(|language| language.files.iter().map(|(file, _)| *file));
    DEVCONTAINERS.into_iter().chain([TOOL_VERSIONS]).chain(markers).map(str::to_owned).collect()
}

/// Returns the image that the project's development container names, and the file that names it.
pub fn devcontainer(project: &Project) -> Option<(String, &'static str)> {
    for path in DEVCONTAINERS {
        let Some(text) = project.file(path) else { continue };
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

/// Returns the file of the project's development container, if it builds its image instead of naming one.
pub fn built_by(project: &Project) -> Option<&'static str> {
    DEVCONTAINERS.into_iter().find(|path| project.file(path).is_some_and(builds))
}

fn builds(text: &str) -> bool {
    let says = |path: &[&str]| json_string(text, path).is_ok_and(|found| found.is_some());
    !says(&["image"]) && (says(&["build", "dockerfile"]) || says(&["dockerFile"]))
}

/// Returns the project's language with the highest precedence. `.tool-versions` takes precedence over the languages'
/// own files.
pub fn find(project: &Project, settings: &Settings) -> Option<Found> {
    let order = settings.order();
    let tools = project.file(TOOL_VERSIONS).unwrap_or_default();
    let by_tool = order.iter().find_map(|language| by_tool_versions(language, tools, settings));
    by_tool.or_else(|| order.iter().find_map(|language| by_marker(language, project, settings)))
}

fn by_tool_versions(language: &str, text: &str, settings: &Settings) -> Option<Found> {
    let tool = BUILT_IN.iter().find(|known| known.name == language).map_or(language, |known| known.tool);
    let wish = text.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let name = words.next()?;
        if name == tool || name == language { words.next() } else { None }
    })?;
    let wish =
        if language == "java" { version::java_major(wish).unwrap_or_else(|| wish.to_owned()) } else { wish.to_owned() };
    Some(resolve(language, TOOL_VERSIONS, Some(&wish), settings))
}

fn by_marker(language: &str, project: &Project, settings: &Settings) -> Option<Found> {
    let files = BUILT_IN.iter().find(|known| known.name == language).map(|known| known.files).unwrap_or_default();
    let present: Vec<_> = files.iter().filter(|(file, _)| project.has(file)).collect();
    let pinned = present.iter().find_map(|(file, read)| Some((*file, read(project.file(file)?)?)));
    if let Some((file, wish)) = pinned {
        return Some(resolve(language, file, Some(&wish), settings));
    }
    let marker = present.first().map(|(file, _)| *file);
    let added = settings.files(language).iter().map(String::as_str).find(|file| project.has(file));
    marker.or(added).map(|file| resolve(language, file, None, settings))
}

/// Converts a file's version expression to a version. An unintelligible expression gives the default, with a line in
/// the log.
fn resolve(language: &str, file: &str, wish: Option<&str>, settings: &Settings) -> Found {
    let default = settings.version(language);
    let (version, reason) = match wish
        .map(|wish| (wish, alias(language, wish).or_else(|| version::choose(wish, default))))
    {
        Some((wish, Some(version))) if wish == version => {
            let reason = format!("{file} asks for {language} {version}");
            (version, reason)
        }
        Some((wish, Some(version))) => {
            let reason = format!("{file} asks for {language} `{wish}`: {version}");
            (version, reason)
        }
        Some((wish, None)) => {
            log::warn(format!("{file}: can't make a version of {language} out of `{wish}`; using {default}"));
            (
                default.to_owned(),
                format!("{file} asks for {language} in a way that can't be read: {default}, the default"),
            )
        }
        None => (default.to_owned(), format!("{file} is there, without a version: {language} {default}, the default")),
    };
    Found { language: language.to_owned(), version, reason }
}

/// Returns the alias of a node release, such as its code name. Node's images are tagged with aliases, too.
fn alias(language: &str, wish: &str) -> Option<String> {
    if language != "node" {
        return None;
    }
    match wish {
        "lts" | "lts/*" => Some("lts".into()),
        "node" | "current" | "latest" | "stable" => Some("current".into()),
        _ => {
            let name = wish.strip_prefix("lts/")?.to_ascii_lowercase();
            (!name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase())).then_some(name)
        }
    }
}

/// Converts a channel to an expression: `stable` is the newest version. Other channels have no image and are left to
/// be refused.
fn rust_channel(channel: &str) -> String {
    if channel == "stable" { "*".into() } else { channel.to_owned() }
}

fn gradle(text: &str) -> Option<String> {
    let after = |needle: &str| text.split_once(needle).map(|(_, after)| after);
    let toolchain = after("JavaLanguageVersion.of(").or_else(|| after("jvmToolchain("));
    let value = toolchain.or_else(|| after("JavaVersion.VERSION_")).or_else(|| after("sourceCompatibility"))?;
    let line = value.lines().next()?.replace("1_8", "1.8");
    version::java_major(line.split([')', '\'', '"']).find(|part| part.contains(|c: char| c.is_ascii_digit()))?)
}

fn quoted_after(text: &str, needle: &str) -> Option<String> {
    quoted(text.split_once(needle)?.1.lines().next()?).map(str::to_owned)
}

/// Reads no version, for files that indicate the language but never its version.
fn no_version(_: &str) -> Option<String> {
    None
}
