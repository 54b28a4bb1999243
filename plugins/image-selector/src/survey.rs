//! Finds the languages of a project with their versions, and decides between them.

use wharf_plugin_sdk::log;

use crate::formats::{Value, toml_entries};
use crate::languages::{BuiltIn, Source, built_in};
use crate::project::{Files, MISE, TOOL_VERSIONS};
use crate::readers::{C_SOURCES, Says, alias, expression};
use crate::settings::Settings;
use crate::version::{self, TagParts};

/// The longest expression of a version that is shown whole, in characters.
const MOST_SHOWN: usize = 32;

/// The language of the project that decides on the image.
#[derive(Debug, PartialEq)]
pub struct Found {
    /// Its name.
    pub language: String,
    /// The version for the image's tag.
    pub version: String,
}

/// The result of reading a project's files.
#[derive(Debug, Default)]
pub struct Survey {
    /// The language to choose the image for. None if the project has no language with an image.
    pub found: Option<Found>,
    /// The reason for the choice, if the project has any language.
    pub reason: Option<String>,
    /// More for the reason: other languages, and files that are broken.
    pub notes: Vec<String>,
}

/// A language of the project.
struct Seen<'s> {
    name: &'s str,
    /// The files that belong to it, most decisive first.
    marks: Vec<String>,
    /// The versions that files state, most decisive first, each with its file.
    stated: Vec<(String, String)>,
    /// The files that could not be parsed, with the problem.
    broken: Vec<String>,
}

/// A language with the version to use.
struct Decided<'s> {
    seen: &'s Seen<'s>,
    version: String,
    /// The decisive file and its expression. None if the default is used.
    by: Option<&'s (String, String)>,
}

/// Reads the project's files and decides.
///
/// The first language in the order that has an image wins, unless its version cannot be read and that of another can.
pub fn survey(files: &Files, settings: &Settings) -> Survey {
    let (tools, mut notes) = tools(files);
    let order = settings.order().into_iter();
    let all: Vec<Seen> = order.filter_map(|name| see(name, files, &tools, settings)).collect();
    // Bun uses Node's `package.json`, too.
    let of_bun =
        |seen: &Seen| seen.name == "node" && seen.stated.is_empty() && all.iter().any(|other| other.name == "bun");
    let languages: Vec<&Seen> = all.iter().filter(|seen| !of_bun(seen)).collect();
    notes.extend(languages.iter().flat_map(|seen| seen.broken.iter().cloned()));
    notes.dedup();
    notes.iter().for_each(log::warn);
    let decided = languages.iter().filter(|seen| settings.image(seen.name).is_some());
    let decided: Vec<Decided> = decided.map(|seen| decide(seen, settings)).collect();
    let Some(first) = decided.first() else {
        let reason = (!languages.is_empty()).then(|| format!("no official image for {}", listed(&languages)));
        return Survey { found: None, reason, notes };
    };
    let unclear = |decided: &&Decided| decided.by.is_none() && !decided.seen.stated.is_empty();
    let readable = if unclear(&first) { decided.iter().find(|decided| decided.by.is_some()) } else { None };
    let winner = readable.unwrap_or(first);
    let others: Vec<&Seen> = languages.iter().copied().filter(|seen| seen.name != winner.seen.name).collect();
    let (with_image, without): (Vec<&Seen>, Vec<&Seen>) =
        others.into_iter().partition(|seen| settings.image(seen.name).is_some());
    if !without.is_empty() {
        notes.insert(0, format!("no official image for {}", listed(&without)));
    }
    if !with_image.is_empty() {
        let why = match readable {
            Some(_) => format!("the version of {} can't be read", first.seen.name),
            None if settings.prefer.iter().any(|name| name == winner.seen.name) => {
                format!("`prefer` puts {} first", winner.seen.name)
            }
            None => format!("{} comes first", winner.seen.name),
        };
        notes.insert(0, format!("also {}: {why}", listed(&with_image)));
    }
    let found = Found { language: winner.seen.name.to_owned(), version: winner.version.clone() };
    Survey { found: Some(found), reason: Some(reason(winner, settings)), notes }
}

/// Returns the languages with their files, or only their names if there are many.
fn listed(languages: &[&Seen]) -> String {
    let with_files = languages.len() <= 3;
    let name = |seen: &&Seen| match seen.marks.first() {
        Some(file) if with_files => format!("{} ({file})", seen.name),
        _ => seen.name.to_owned(),
    };
    languages.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// Returns a language if the project has it.
fn see<'s>(name: &'s str, files: &Files, tools: &[Tools], settings: &Settings) -> Option<Seen<'s>> {
    let mut seen = Seen { name, marks: Vec::new(), stated: Vec::new(), broken: Vec::new() };
    let known = built_in(name);
    let names = known.map_or(&[][..], |known| known.tools);
    for Tools { file, versions } in tools {
        let is = |(tool, _): &&(String, String)| tool == name || names.contains(&tool.as_str());
        if let Some((_, wish)) = versions.iter().find(is) {
            seen.add((*file).to_owned(), Says::Version(wish.clone()), false);
        }
    }
    if let Some(known) = known {
        see_built_in(&mut seen, known, files);
    }
    for path in settings.files(name).iter().filter(|path| files.has(path)) {
        let reader = known.and_then(|known| known.endings.iter().find(|(ending, _)| path.ends_with(ending)));
        match (files.content(path), reader) {
            (Some(file), Some((_, read))) => seen.add(path.clone(), read(&file.text), file.truncated),
            _ => seen.add(path.clone(), Says::Marker, false),
        }
    }
    (!seen.marks.is_empty()).then_some(seen)
}

fn see_built_in(seen: &mut Seen, known: &BuiltIn, files: &Files) {
    for Source { file, part, read } in known.sources {
        let Some(read) = read else {
            if files.has(file) {
                seen.add((*file).to_owned(), Says::Marker, false);
            }
            continue;
        };
        let Some(content) = files.content(file) else { continue };
        let label = if part.is_empty() { (*file).to_owned() } else { format!("{file} ({part})") };
        match read(&content.text) {
            // The next source is the whole file.
            Says::Marker | Says::Broken(_) if !part.is_empty() => {}
            says => seen.add(label, says, content.truncated),
        }
    }
    for (ending, read) in known.endings {
        for name in files.ending(ending) {
            let says = files.content(name).map_or(Says::Marker, |file| read(&file.text));
            seen.add(name.to_owned(), says, false);
        }
    }
    let makefile = ["Makefile", "makefile", "GNUmakefile"].into_iter().find(|file| files.has(file));
    if let Some(makefile) = makefile
        && known.name == "c"
        && seen.marks.is_empty()
        && C_SOURCES.iter().any(|ending| files.ending(ending).next().is_some())
    {
        seen.add(makefile.to_owned(), Says::Marker, false);
    }
}

impl Seen<'_> {
    fn add(&mut self, file: String, says: Says, truncated: bool) {
        match says {
            Says::Nothing => return,
            Says::Marker => {}
            Says::Version(wish) => self.stated.push((file.clone(), wish)),
            Says::Broken(format) => {
                let problem = problem(&file, format, truncated);
                if !self.broken.contains(&problem) {
                    self.broken.push(problem);
                }
            }
        }
        if !self.marks.contains(&file) {
            self.marks.push(file);
        }
    }
}

fn problem(file: &str, format: &str, truncated: bool) -> String {
    match truncated {
        true => format!("{file} is too long to be read"),
        false => format!("{file} is no valid {format}"),
    }
}

/// The versions of tools that one file for all of them states.
struct Tools {
    file: &'static str,
    versions: Vec<(String, String)>,
}

/// Reads `.tool-versions` and the files of mise. Returns the problems of those that cannot be parsed, too.
fn tools(files: &Files) -> (Vec<Tools>, Vec<String>) {
    let mut tools = Vec::new();
    let mut broken = Vec::new();
    if let Some(content) = files.content(TOOL_VERSIONS) {
        let entry = |line: &str| {
            let mut words = line.split('#').next()?.split_whitespace();
            Some((words.next()?.to_owned(), tool_version(words.next()?)))
        };
        let versions = content.text.lines().filter_map(entry).collect();
        tools.push(Tools { file: TOOL_VERSIONS, versions });
    }
    for file in MISE {
        let Some(content) = files.content(file) else { continue };
        match toml_entries(&content.text, "tools") {
            Ok(entries) => {
                let entry = |(name, value): (String, Value)| Some((name, tool_version(&value.first_text()?)));
                tools.push(Tools { file, versions: entries.into_iter().filter_map(entry).collect() });
            }
            Err(_) => broken.push(problem(file, "TOML", content.truncated)),
        }
    }
    (tools, broken)
}

/// Returns the version of `latest:3.12` and `prefix:3.12`.
fn tool_version(wish: &str) -> String {
    let version = wish.strip_prefix("latest:").or_else(|| wish.strip_prefix("prefix:"));
    version.unwrap_or(wish).to_owned()
}

/// Decides on the version of a language: the first statement that can be read, or the default.
fn decide<'s>(seen: &'s Seen<'s>, settings: &Settings) -> Decided<'s> {
    let default = settings.version(seen.name);
    let parts = tag_parts(seen.name);
    let readable = seen.stated.iter().find_map(|stated| {
        let wish = &stated.1;
        let version = alias(seen.name, wish).or_else(|| version::choose(&expression(seen.name, wish), default, parts));
        Some((version?, stated))
    });
    match readable {
        Some((version, stated)) => Decided { seen, version, by: Some(stated) },
        None => Decided { seen, version: default.to_owned(), by: None },
    }
}

fn tag_parts(language: &str) -> TagParts {
    built_in(language).map_or((1, 4), |known| known.tag_parts)
}

/// Returns the reason for a version, with the statements that it overrules.
fn reason(Decided { seen, version, by }: &Decided, settings: &Settings) -> String {
    // C has no version of this kind; its compiler does.
    let language = if seen.name == "c" { "gcc" } else { seen.name };
    let overruled = overruled(seen, version, *by, settings);
    let main = match by {
        Some((file, wish)) if wish == version => format!("{file} asks for {language} {version}"),
        Some((file, wish)) => format!("{file} asks for {language} `{}`: {version}", shown(wish)),
        None if seen.stated.is_empty() => {
            let file = seen.marks.first().map(String::as_str).unwrap_or_default();
            return format!("{file} is there, without a version: {language} {version}, the default");
        }
        None => format!("{language} {version}, the default"),
    };
    with_overruled(&main, &overruled)
}

/// Adds the overruled statements to a reason, as many as leave room for notes.
fn with_overruled(main: &str, overruled: &[String]) -> String {
    const MOST: usize = 160;
    let with = |count: usize| {
        let shown = overruled.iter().take(count).cloned();
        let more = (count < overruled.len()).then(|| format!("and {} more", overruled.len() - count));
        let list: Vec<String> = shown.chain(more).collect();
        if list.is_empty() { main.to_owned() } else { format!("{main} ({})", list.join(", ")) }
    };
    let mut counts = (1..=overruled.len()).rev().map(with);
    counts.find(|text| text.chars().count() <= MOST).unwrap_or_else(|| with(0))
}

/// Returns the statements that do not agree with the version.
fn overruled(seen: &Seen, version: &str, by: Option<&(String, String)>, settings: &Settings) -> Vec<String> {
    let others = seen.stated.iter().filter(|stated| Some(*stated) != by);
    let differs = others.filter_map(|(file, wish)| {
        let readable = match alias(seen.name, wish) {
            Some(alias) => Some(alias == version),
            None => version::agrees(&expression(seen.name, wish), version),
        };
        let problem = match readable {
            Some(true) => return None,
            Some(false) => "overruled",
            None => {
                log::warn(format!(
                    "{file}: can't make a version of {} out of `{wish}`; using {version}, its default is {}",
                    seen.name,
                    settings.version(seen.name)
                ));
                "which can't be read"
            }
        };
        Some(format!("{file} says {}, {problem}", shown(wish)))
    });
    differs.collect()
}

/// Returns an expression for users: one line, not too long.
fn shown(wish: &str) -> String {
    let clean: String = wish.chars().filter(|c| !c.is_control() && *c != '`').collect();
    match clean.char_indices().nth(MOST_SHOWN) {
        Some((end, _)) => format!("{}...", clean.get(..end).unwrap_or_default()),
        None => clean,
    }
}
