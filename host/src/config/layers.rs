//! Layers with origins: the source of each value.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value};

use super::environment::Environment;
use super::{Config, Error};
use crate::script::{self, ConfigInput};
use crate::trust;

/// Largest configuration file.
const MOST_BYTES: u64 = 4 << 20;

/// The origin of a value.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The program.
    #[default]
    Default,
    /// `wharf.toml`
    File {
        /// The file.
        path: PathBuf,
        /// 1-based.
        line: usize,
    },
    /// `wharf.rhai`
    Script {
        /// The file.
        path: PathBuf,
        /// 1-based.
        line: usize,
    },
    /// An environment variable.
    Env(String),
    /// `--set` of this key; its value may be a secret and is not stored.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } | Self::Script { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Env(name) => write!(f, "environment {name}"),
            Self::Flag(text) => write!(f, "--set {text}"),
        }
    }
}

/// The sources of the layers. They are plain values, so that tests and the service can provide them without a process.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// `--config` or `WHARF_CONFIG`: must exist. None means the first of the usual places that exists.
    pub file: Option<PathBuf>,
    /// The usual places, in order.
    pub search: Vec<PathBuf>,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// `--set key=value`
    pub set: Vec<String>,
}

impl Sources {
    /// Returns the sources of this process, with the given flags.
    pub fn of_process(file: Option<PathBuf>, set: Vec<String>) -> Self {
        let env: BTreeMap<String, String> =
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect();
        let mut search = Vec::new();
        let home = env.get("HOME").filter(|home| !home.is_empty());
        let user = env.get("XDG_CONFIG_HOME").filter(|dir| dir.starts_with('/')).map(PathBuf::from);
        if let Some(dir) = user.or_else(|| home.map(|home| Path::new(home).join(".config"))) {
            search.push(dir.join("wharf/wharf.toml"));
        }
        search.push(PathBuf::from("/etc/wharf/wharf.toml"));
        let file = file.or_else(|| env.get("WHARF_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from));
        Self { file, search, env, set }
    }
}

/// A checked configuration with the origin of each value.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The file, if there is one.
    pub file: Option<PathBuf>,
    /// The script beside it, if there is one.
    pub script: Option<PathBuf>,
    /// Messages about variables that look like a setting but are none, each with a correction.
    pub ignored: Vec<String>,
    origins: Origins,
}

/// Key -> its origin, and whether it is only the heading of a table: a heading does not set keys that are missing below
/// it.
#[derive(Debug, Clone, Default)]
struct Origins(BTreeMap<String, (Origin, bool)>);

impl Origins {
    fn set(&mut self, key: String, origin: Origin) {
        let below = format!("{key}.");
        self.0.retain(|old, _| !old.starts_with(&below));
        self.0.insert(key, (origin, false));
    }

    /// Returns the origin of a value: its own, or that of the table that was set as a whole.
    fn of(&self, key: &str) -> Origin {
        self.nearest(key, |heading| !heading).unwrap_or_default()
    }

    /// Returns the place to look at for a mistake.
    fn place(&self, key: &str) -> Origin {
        let below = format!("{key}.");
        // For a table that was not set as a whole, the first key that was set in it.
        let first =
            || self.0.iter().find(|(known, _)| known.starts_with(&below)).map(|(_, (origin, _))| origin.clone());
        self.0
            .get(key)
            .map(|(origin, _)| origin.clone())
            .or_else(first)
            .or_else(|| self.nearest(key, |_| true))
            .unwrap_or_default()
    }

    fn nearest(&self, key: &str, counts: impl Fn(bool) -> bool) -> Option<Origin> {
        let mut key = key;
        loop {
            match self.0.get(key) {
                Some((origin, heading)) if counts(*heading) => return Some(origin.clone()),
                _ => key = key.get(..key.rfind('.')?)?,
            }
        }
    }
}

impl Loaded {
    /// Returns the origin of a key's value. For a table, only a setting of the whole table counts.
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.of(key)
    }

    /// Returns the place to look at for a mistake in a policy's settings: that of the setting which the message quotes,
    /// or of the settings, or of the entry. None for a policy that no entry names.
    pub fn place_of_settings(&self, policy: &str, message: &str) -> Option<Origin> {
        let index = self.config.policy.iter().position(|entry| entry.name == policy)?;
        let below = format!("policy.{index}.settings.");
        let quoted = |key: &str| {
            let path = key.strip_prefix(&below)?;
            let last = path.rsplit('.').next().unwrap_or(path);
            let names = [path, last];
            let found = names.iter().any(|name| ['\'', '`'].iter().any(|q| message.contains(&format!("{q}{name}{q}"))));
            found.then_some(path.len())
        };
        let keys = self.origins.0.keys().filter_map(|key| Some((quoted(key)?, key)));
        let settings = format!("policy.{index}.settings");
        Some(self.origins.place(keys.max().map_or(&settings, |(_, key)| key)))
    }

    /// Returns every value with its origin, sorted by key. Values of secret variables and of secret settings of
    /// policies are redacted.
    pub fn values(&self) -> Vec<(String, Value, Origin)> {
        let mut json = serde_json::to_value(&self.config).unwrap_or_default();
        let secrets = crate::hooks::redact::SecretNames(self.config.secrets.env.clone());
        if let Some(Value::Object(env)) = json.pointer_mut("/workspace/env") {
            for (name, value) in env {
                if secrets.contains(name) {
                    *value = crate::hooks::redact::REDACTED.into();
                }
            }
        }
        for policy in json.get_mut("policy").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(settings) = policy.get_mut("settings") {
                secrets.redact_json(settings);
            }
        }
        let mut out = Vec::new();
        leaves("", &json, &mut |key, value| out.push((key.to_owned(), value.clone(), self.origin(key))));
        out.sort_by(|a, b| a.0.cmp(&b.0));
        out
    }

    /// Returns the secret values that policies have in addition to their input: texts of their settings, and variables
    /// that they may read, if their names are those of secrets.
    pub fn policy_secrets(&self) -> Vec<String> {
        let secrets = crate::hooks::redact::SecretNames(self.config.secrets.env.clone());
        let mut found = Vec::new();
        for policy in &self.config.policy {
            found.extend(secrets.texts_in(&Value::Object(policy.settings.clone())));
            let granted = policy.capabilities.env.iter().filter(|name| secrets.contains(name));
            found.extend(granted.filter_map(|name| std::env::var(name).ok()));
        }
        found
    }

    /// Returns the folder against which relative paths of the file are resolved.
    pub fn base(&self) -> PathBuf {
        self.file.as_deref().and_then(Path::parent).map_or_else(|| PathBuf::from("."), Path::to_path_buf)
    }
}

/// Calls `each` for every value that is not a table; empty tables count as values.
pub(super) fn leaves(path: &str, value: &Value, each: &mut impl FnMut(&str, &Value)) {
    let join = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Object(map) if !map.is_empty() => map.iter().for_each(|(key, value)| leaves(&join(key), value, each)),
        Value::Array(list) if list.iter().any(Value::is_object) => {
            list.iter().enumerate().for_each(|(index, value)| leaves(&join(&index.to_string()), value, each));
        }
        _ => each(path, value),
    }
}

/// Merges one value over another: tables are merged, everything else is replaced.
fn merge(under: &mut Value, over: Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (key, value) in over {
                merge(under.entry(key).or_insert(Value::Null), value);
            }
        }
        (under, over) => *under = over,
    }
}

/// Loads all layers.
///
/// # Errors
/// With file and line: a file that cannot be read, a syntax error, an unknown key, a value of the wrong type or out of
/// range, a script error.
pub fn load(sources: &Sources) -> Result<Loaded, Error> {
    let mut root = serde_json::to_value(Config::default()).unwrap_or_default();
    let known = root.clone();
    let mut origins = Origins::default();

    let file = match &sources.file {
        Some(file) => Some(file.clone()),
        None => sources.search.iter().find(|path| path.exists()).cloned(),
    };
    let file = file.map(|path| std::path::absolute(&path).unwrap_or(path));
    let mut script_path = None;
    if let Some(path) = &file {
        let text = read_file(path)?;
        merge(&mut root, read_toml(path, &text, &mut origins)?);
        let beside = path.with_file_name("wharf.rhai");
        if beside.exists() {
            root = run_script(&beside, root, &known, sources, &mut origins)?;
            script_path = Some(beside);
        }
    }
    let environment = Environment::of(&known, &sources.env);
    for (key, name, text) in &environment.set {
        put(&mut root, key, scalar(text));
        origins.set(key.clone(), Origin::Env(name.clone()));
    }
    for text in &sources.set {
        apply_set(&mut root, text, &mut origins)?;
    }

    let names = policy_names(&root);
    let config: Config = serde_path_to_error::deserialize(root).map_err(|error| {
        let key = error.path().to_string().replace('[', ".").replace(']', "");
        let key = if key == "." { String::new() } else { key };
        let said = error.inner().to_string();
        let said = said.strip_prefix("unknown field").map_or(said.clone(), |rest| format!("unknown key{rest}"));
        refuse(&origins, &names, &key, &with_hint(&said))
    })?;
    config.check().map_err(|(key, text)| refuse(&origins, &names, &key, &text))?;
    Ok(Loaded { config, file, script: script_path, ignored: environment.ignored, origins })
}

/// Returns the names of the policies, in order; none for an entry without a name.
fn policy_names(root: &Value) -> Vec<Option<String>> {
    let entries = root.get("policy").and_then(Value::as_array);
    let name = |entry: &Value| entry.get("name").and_then(Value::as_str).map(str::to_owned);
    entries.into_iter().flatten().map(name).collect()
}

/// Returns a key for people: with the name of a policy instead of its position.
fn shown_key(names: &[Option<String>], key: &str) -> String {
    let Some((index, rest)) = key.strip_prefix("policy.").map(|key| key.split_once('.').unwrap_or((key, ""))) else {
        return key.to_owned();
    };
    let Ok(index) = index.parse::<usize>() else { return key.to_owned() };
    let which = match names.get(index).and_then(Option::as_ref) {
        Some(name) => format!("policy '{name}'"),
        None => format!("policy {} of the chain", index + 1),
    };
    if rest.is_empty() { which } else { format!("{which}: {rest}") }
}

/// Adds the key that was probably meant to the words of serde about an unknown one.
fn with_hint(text: &str) -> String {
    let mut quoted = text.split('`').skip(1).step_by(2);
    let (true, Some(unknown)) = (text.starts_with("unknown key"), quoted.next()) else { return text.to_owned() };
    let near = quoted.map(|known| (strsim::damerau_levenshtein(known, unknown), known)).min();
    match near {
        Some((slips, near)) if slips <= 2 && slips < unknown.len() => format!("{text}; did you mean `{near}`?"),
        _ => text.to_owned(),
    }
}

fn refuse(origins: &Origins, names: &[Option<String>], key: &str, text: &str) -> Error {
    let at = origins.place(key);
    let place = if key.is_empty() { String::new() } else { format!("{}: ", shown_key(names, key)) };
    Error {
        message: format!("{at}: {place}{text}"),
        remedy: match at {
            Origin::Env(name) => format!("correct or unset {name}"),
            Origin::Flag(_) => "correct the flag; see 'wharf config show' for all keys".into(),
            _ => "correct that line; see 'wharf config show' for all keys, or the commented file that 'wharf config \
                  init' writes"
                .into(),
        },
        detail: None,
        untrusted: false,
    }
}

fn read_file(path: &Path) -> Result<String, Error> {
    trust::read_to_string(path, MOST_BYTES).map_err(|error| match error {
        trust::Error::Untrusted(untrusted) => untrusted.into(),
        error => Error {
            message: format!("cannot read the configuration '{}': {error}", path.display()),
            remedy: "name an existing file with --config, or run 'wharf config init'".into(),
            detail: None,
            untrusted: false,
        },
    })
}

fn read_toml(path: &Path, text: &str, origins: &mut Origins) -> Result<Value, Error> {
    let line_at = |offset: usize| text.get(..offset).map_or(1, |head| head.matches('\n').count() + 1);
    let broken = |error: &toml::de::Error| {
        let line = error.span().map_or(1, |span| line_at(span.start));
        Error {
            message: format!("{}:{line}: {}", path.display(), error.message().replace('\n', " ")),
            remedy: "correct the TOML syntax at that line".into(),
            detail: Some(error.to_string()),
            untrusted: false,
        }
    };
    let spanned = toml::de::DeTable::parse(text).map_err(|error| broken(&error))?;
    table_origins("", spanned.get_ref(), &mut |key, offset, heading| {
        origins.0.insert(key, (Origin::File { path: path.to_path_buf(), line: line_at(offset) }, heading));
    });
    toml::from_str(text).map_err(|error| broken(&error))
}

fn table_origins(path: &str, table: &toml::de::DeTable<'_>, say: &mut impl FnMut(String, usize, bool)) {
    for (key, value) in table {
        let name = key.get_ref();
        let path = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
        say(path.clone(), key.span().start, matches!(value.get_ref(), toml::de::DeValue::Table(_)));
        match value.get_ref() {
            toml::de::DeValue::Table(inner) => table_origins(&path, inner, say),
            toml::de::DeValue::Array(list) => {
                for (index, element) in list.iter().enumerate() {
                    let path = format!("{path}.{index}");
                    say(path.clone(), element.span().start, false);
                    if let toml::de::DeValue::Table(inner) = element.get_ref() {
                        table_origins(&path, inner, say);
                    }
                }
            }
            _ => {}
        }
    }
}

fn run_script(
    path: &Path,
    root: Value,
    known: &Value,
    sources: &Sources,
    origins: &mut Origins,
) -> Result<Value, Error> {
    let failed = |message: String, detail| Error {
        message,
        remedy: "correct or remove the script; 'wharf script trace' shows each line that ran".into(),
        detail,
        untrusted: false,
    };
    let source = trust::read_to_string(path, MOST_BYTES).map_err(|error| match error {
        trust::Error::Untrusted(untrusted) => untrusted.into(),
        error => failed(format!("{}: cannot be read: {error}", path.display()), None),
    })?;
    let input = script_input(root, known.clone(), sources);
    let (root, edits) =
        script::edit_config(path, &source, input).map_err(|error| failed(error.message, error.detail))?;
    for edit in edits {
        let key = edit.path.join(".");
        origins.set(key, Origin::Script { path: path.to_path_buf(), line: edit.line });
    }
    Ok(root)
}

fn script_input(root: Value, known: Value, sources: &Sources) -> ConfigInput {
    let names = root.pointer("/script/vars").and_then(Value::as_array).cloned().unwrap_or_default();
    let vars: Map<String, Value> = names
        .iter()
        .filter_map(Value::as_str)
        .map(|name| (name.to_owned(), sources.env.get(name).map_or(Value::Null, |value| value.clone().into())))
        .collect();
    ConfigInput { root, given: serde_json::json!({ "host": host_facts(), "vars": vars }), known }
}

/// Returns the input of a configuration script: the defaults, and the `wharf.toml` beside it if there is one.
///
/// # Errors
/// That file cannot be read or is not TOML.
pub fn input_of_script(script: &Path, sources: &Sources) -> Result<ConfigInput, Error> {
    let known = serde_json::to_value(Config::default()).unwrap_or_default();
    let mut root = known.clone();
    let beside = script.with_file_name("wharf.toml");
    if beside.exists() {
        merge(&mut root, read_toml(&beside, &read_file(&beside)?, &mut Origins::default())?);
    }
    Ok(script_input(root, known, sources))
}

/// Returns the facts about the machine for a configuration script: its name, cores, and memory in bytes.
fn host_facts() -> Value {
    let first = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let memory = first("/proc/meminfo")
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024);
    serde_json::json!({
        "name": first("/proc/sys/kernel/hostname").trim(),
        "cores": std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        "memory": memory,
    })
}

fn apply_set(root: &mut Value, text: &str, origins: &mut Origins) -> Result<(), Error> {
    let Some((key, value)) = text.split_once('=') else {
        return Err(Error {
            message: "a --set has no '='".into(),
            remedy: "use the form --set limits.memory=2GiB".into(),
            detail: None,
            untrusted: false,
        });
    };
    // A list or table is written as in TOML; everything else needs no quotes.
    let parsed = toml::from_str::<Map<String, Value>>(&format!("value = {value}")).ok();
    let value = parsed.and_then(|mut table| table.remove("value")).unwrap_or_else(|| scalar(value));
    put(root, key.trim(), value);
    origins.set(key.trim().to_owned(), Origin::Flag(key.trim().to_owned()));
    Ok(())
}

fn scalar(text: &str) -> Value {
    match serde_json::from_str::<Value>(text) {
        Ok(value @ (Value::Bool(_) | Value::Number(_))) => value,
        _ => Value::String(text.to_owned()),
    }
}

fn put(root: &mut Value, key: &str, value: Value) {
    let mut at = root;
    for part in key.split('.') {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        let Value::Object(map) = at else { return };
        at = map.entry(part).or_insert(Value::Null);
    }
    *at = value;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Size;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("wharf-config-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&dir).unwrap();
            Self(dir)
        }
        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.join(name);
            std::fs::write(&path, text).unwrap();
            path
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn later_layers_win_and_every_value_knows_its_origin() {
        let dir = Dir::new("layers");
        let file = dir.write(
            "wharf.toml",
            "[limits]\nmemory = \"1GiB\"\ncpus = 3.0\npids = 100\n[workspace]\nlabels = { a = \"1\" }\n[script]\nvars = [\"TEAM\"]\n",
        );
        dir.write(
            "wharf.rhai",
            "fn config(c) {\n  c.limits.cpus = 5.0;\n  c.limits.pids = 200;\n  c.workspace.labels.team = c.vars.TEAM;\n}\n",
        );
        let env = [("TEAM", "pay"), ("WHARF_LIMITS_PIDS", "300"), ("WHARF_ENGINE_NETWORK", "mine")];
        let sources = Sources {
            file: Some(file.clone()),
            env: env.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            set: vec!["workspace.cpus=1.5".into(), "allow.projects=[\"/srv\"]".into()],
            ..Default::default()
        };
        let loaded = load(&sources).unwrap();
        assert_eq!(loaded.config.limits.memory, Size(1 << 30));
        assert_eq!((loaded.config.limits.cpus, loaded.config.limits.pids), (5.0, 300));
        assert_eq!(loaded.config.workspace.cpus, 1.5);
        assert_eq!(loaded.config.allow.projects, [PathBuf::from("/srv")]);
        assert_eq!(loaded.config.workspace.labels.get("team").map(String::as_str), Some("pay"));
        let script = file.with_file_name("wharf.rhai");
        for (key, expected) in [
            ("limits.memory", format!("{}:2", file.display())),
            ("limits.cpus", format!("{}:2", script.display())),
            ("limits.pids", "environment WHARF_LIMITS_PIDS".into()),
            ("workspace.labels.team", format!("{}:4", script.display())),
            ("workspace.labels.a", format!("{}:6", file.display())),
            ("workspace.cpus", "--set workspace.cpus".into()),
            ("workspace.memory", "default".into()),
        ] {
            assert_eq!(loaded.origin(key).to_string(), expected, "{key}");
        }
        assert!(loaded.values().iter().any(|(key, _, _)| key == "limits.memory"));
    }

    #[test]
    fn mistakes_name_file_line_and_key() {
        let dir = Dir::new("mistakes");
        for (text, parts) in [
            ("[limits]\n\nmemroy = \"1GiB\"\n", vec![":3:", "unknown key", "memroy", "memory"]),
            ("[limts]\n", vec![":1:", "limts", "did you mean `limits`?"]),
            (
                "[[policy]]\nname = \"a.rhai\"\nscript = \"x\"\n\n[policy.scope]\nlabel = \"x\"\n",
                vec![":6:", "policy 'a.rhai': scope.label"],
            ),
            ("[limits]\nmemory = \"lots\"\n", vec![":2:", "limits.memory", "512MiB"]),
            ("[limits]\nmemory = [\n", vec![":"]),
            ("[engine]\nstop_timeout = 10\n", vec![":2:", "with its unit"]),
            ("[[policy]]\nname = \"a\"\n", vec!["policy 'a': ", "exactly one of"]),
            ("[[policy]]\nname = \"a\"\nscript = \"x\"\nhooks = [\"create\"]\n", vec!["pre-create"]),
            ("[[policy]]\nname = \"host\"\nscript = \"x\"\n", vec!["cannot be the name of a policy"]),
            ("[workspace]\ncpus = -1.0\n", vec![":2:", "0.01"]),
        ] {
            let file = dir.write("wharf.toml", text);
            let error = load(&Sources { file: Some(file), ..Default::default() }).unwrap_err();
            for part in parts {
                assert!(error.message.contains(part), "{text:?} should say {part:?}: {}", error.message);
            }
        }
        let error = load(&Sources { file: Some(dir.0.join("none.toml")), ..Default::default() }).unwrap_err();
        assert!(error.message.contains("cannot read") && error.remedy.contains("config init"));
    }

    #[test]
    fn a_broken_config_script_is_shown_with_its_line() {
        let dir = Dir::new("script");
        let file = dir.write("wharf.toml", "");
        dir.write("wharf.rhai", "fn config(c) {\n  c.limits.cpus = = 5;\n}\n");
        let error = load(&Sources { file: Some(file.clone()), ..Default::default() }).unwrap_err();
        assert!(error.message.contains("wharf.rhai:2"), "{}", error.message);
        dir.write("wharf.rhai", "fn config(c) {\n  c.limits.color = 5;\n}\n");
        let error = load(&Sources { file: Some(file), ..Default::default() }).unwrap_err();
        assert!(error.message.contains("wharf.rhai:2") && error.message.contains("color"), "{}", error.message);
    }

    #[test]
    fn without_any_file_the_defaults_are_valid() {
        let loaded = load(&Sources::default()).unwrap();
        assert_eq!(loaded.config, Config::default());
        assert_eq!(loaded.file, None);
    }
}
