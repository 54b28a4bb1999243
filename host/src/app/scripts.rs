//! Scripts for their authors: files, and the entries of the configuration that name them.

use std::path::{Path, PathBuf};

use super::App;
use crate::config;
use crate::hooks::{HookRequest, Limits, PolicyError};
use crate::script::{self, ConfigInput, Imports, Reference, RhaiPolicy, TestRun, Tested, Trace};

/// The suffix of test scripts: `pre-create.test.rhai` tests `pre-create.rhai`.
const TEST: &str = ".test.rhai";

/// The name of the script that edits the configuration.
const CONFIGURATION: &str = "wharf.rhai";

/// The content of a script's file.
struct File {
    name: String,
    source: String,
    imports: Imports,
    /// The settings of its entry in the configuration, if it has one.
    settings: Option<serde_json::Value>,
    limits: Limits,
}

pub use crate::script::{TraceLine, read_bounded};

/// Returns whether a file is the script that edits the configuration: Wharf finds it by its name.
pub fn is_configuration(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == CONFIGURATION)
}

fn text(shown: &Path, real: &Path) -> Result<String, PolicyError> {
    let failed = |text: String| PolicyError::new("missing", format!("{} {text}", shown.display()));
    let bytes = script::read_bounded(real, script::SOURCE as u64).map_err(failed)?;
    String::from_utf8(bytes).map_err(|_| failed("is not UTF-8 text".into()))
}

/// Returns the reference of scripts.
pub fn reference() -> Reference {
    script::reference()
}

impl App {
    /// Returns the defects of a script; empty means that none was found. It is also loaded: with the settings of its
    /// entry in the configuration, or without settings if it checks none.
    ///
    /// # Errors
    /// When it cannot be read or loaded.
    pub fn check_script(&self, path: &Path) -> Result<Vec<PolicyError>, PolicyError> {
        if is_configuration(path) {
            let (source, input) = self.configuration_script(path)?;
            return script::check_config(path, &source, &input);
        }
        let file = self.script(path)?;
        let found = script::check(&file.name, &file.source, &file.imports, file.settings.as_ref(), &file.limits)?;
        // A test and a library have no hooks, and a script that checks its settings refuses to have none.
        let test = path.to_string_lossy().ends_with(TEST);
        if found.is_empty() && !test && (file.settings.is_some() || !file.source.contains("fn check(")) {
            let given = file.settings.is_some();
            let settings = file.settings.unwrap_or_else(|| serde_json::json!({}));
            match RhaiPolicy::load_with(&file.name, &file.source, &file.imports, settings, file.limits) {
                Err(error) if given || error.code != "settings" => return Err(error),
                _ => {}
            }
        }
        Ok(found)
    }

    /// Runs the tests of a script: those of the named test script, or those beside the named script.
    ///
    /// # Errors
    /// When one of the two cannot be read, or the tests do not compile.
    pub fn test_script(&self, path: &Path) -> Result<Vec<TestRun>, PolicyError> {
        let shown = path.display().to_string();
        let (test, tested) = match shown.strip_suffix(TEST) {
            Some(stem) => (path.to_path_buf(), PathBuf::from(format!("{stem}.rhai"))),
            None => (path.with_extension(TEST.trim_start_matches('.')), path.to_path_buf()),
        };
        let (test, tested) = (self.script(&test)?, self.script(&tested)?);
        let File { name, source, imports, limits, .. } = tested;
        script::run_tests(&test.name, &test.source, &Tested { name, source, imports, limits })
    }

    /// Runs a script on a request, line by line.
    ///
    /// # Errors
    /// When it cannot be read or loaded.
    pub fn trace_script(&self, path: &Path, request: &HookRequest) -> Result<Trace, PolicyError> {
        let file = self.script(path)?;
        let settings = file.settings.unwrap_or_else(|| serde_json::json!({}));
        script::trace(&file.name, &file.source, &file.imports, settings, file.limits, request)
    }

    /// Runs the script that edits the configuration line by line, on the `wharf.toml` beside it. The result is the list
    /// of keys that it set, with their values.
    ///
    /// # Errors
    /// When it cannot be read or loaded.
    pub fn trace_configuration(&self, path: &Path) -> Result<Trace<Vec<(String, serde_json::Value)>>, PolicyError> {
        let (source, input) = self.configuration_script(path)?;
        script::trace_config(path, &source, input)
    }

    fn configuration_script(&self, path: &Path) -> Result<(String, ConfigInput), PolicyError> {
        let input = config::input_of_script(path, &self.sources);
        let input = input.map_err(|error| PolicyError::new("configuration", error.message))?;
        Ok((text(path, path)?, input))
    }

    fn script(&self, path: &Path) -> Result<File, PolicyError> {
        let failed = |text: String| PolicyError::new("missing", format!("{} {text}", path.display()));
        let real = path.canonicalize().map_err(|error| failed(format!("cannot be read: {error}")))?;
        let source = text(path, &real)?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let imports = Imports::read(&name, &source, real.parent().unwrap_or(Path::new(".")))?;
        let entry = self.loaded.config.policy.iter().find(|policy| {
            let configured = policy.script.as_ref().map(|script| self.loaded.base().join(script));
            configured.is_some_and(|path| path.canonicalize().is_ok_and(|path| path == real))
        });
        let settings = entry.map(|entry| serde_json::Value::Object(entry.settings.clone()));
        let limits = entry.map_or_else(Limits::default, crate::config::PolicyConfig::limits);
        Ok(File { name, source, imports, settings, limits })
    }
}
