//! The script beside the configuration file, which edits the configuration.

use std::path::Path;

use rhai::{AST, CallFnOptions, Dynamic, Engine, EvalAltResult, Scope};
use serde_json::Value;

use super::diagnostic::{self, Script};
use super::document::{Document, Open};
use super::trace::{Seen, Trace, observe};
use super::{Edit, Imports, check, engine};
use crate::hooks::{Limits, PolicyError};

/// The input of `config(c)`.
#[derive(Debug, Clone, Default)]
pub struct ConfigInput {
    /// The configuration as loaded so far, as JSON.
    pub root: Value,
    /// Additional read-only parts: `host` and `vars`.
    pub given: Value,
    /// The configuration without any file, which has every key.
    pub known: Value,
}

/// A configuration script that compiles.
struct ConfigScript<'a> {
    name: String,
    source: &'a str,
    engine: Engine,
    ast: AST,
}

/// Runs `config(c)` of a configuration script on the loaded configuration. `c.host` and `c.vars` are read-only.
///
/// # Errors
/// The same errors as for policies, with the first problem that [`check_config`] finds; a script without `fn config(c)`
/// is refused.
pub fn edit_config(path: &Path, source: &str, input: ConfigInput) -> Result<(Value, Vec<Edit>), PolicyError> {
    let mut found = check_config(path, source, &input)?.into_iter();
    if let Some(first) = found.next() {
        return Err(first);
    }
    ConfigScript::new(path, source)?.run(input)
}

/// Returns the problems of a configuration script without running it; see [`super::check`].
///
/// # Errors
/// A syntax error, and a script without `fn config(c)`.
pub fn check_config(path: &Path, source: &str, input: &ConfigInput) -> Result<Vec<PolicyError>, PolicyError> {
    let script = ConfigScript::new(path, source)?;
    let mut all = input.known.clone();
    if let (Value::Object(all), Value::Object(given)) = (&mut all, &input.given) {
        all.extend(given.clone());
    }
    Ok(check::check_config(&script.name, source, &script.engine, &script.ast, all))
}

/// Runs a configuration script line by line. The result is the list of keys that it set, in order, with their values.
///
/// # Errors
/// A syntax error, and a script without `fn config(c)`. An error of the run is in the result.
pub fn trace_config(path: &Path, source: &str, input: ConfigInput) -> Result<Trace<Vec<(String, Value)>>, PolicyError> {
    let mut script = ConfigScript::new(path, source)?;
    let seen = observe(&mut script.engine, source, &Imports::default());
    let result = script.run(input).map(|(root, edits)| {
        let mut set: Vec<(String, Value)> = Vec::new();
        for edit in edits {
            let value = root.pointer(&format!("/{}", edit.path.join("/"))).cloned().unwrap_or_default();
            let key = edit.path.join(".");
            set.retain(|(known, _)| *known != key);
            set.push((key, value));
        }
        set
    });
    Ok(Seen::finish(&seen, result))
}

impl<'a> ConfigScript<'a> {
    fn new(path: &Path, source: &'a str) -> Result<Self, PolicyError> {
        let name = path.display().to_string();
        let engine = engine::engine(&Limits::default());
        let ast = engine.compile(source).map_err(|error| diagnostic::parse(&name, source, &error))?;
        if !ast.iter_functions().any(|function| function.name == "config" && function.params.len() == 1) {
            let text = format!("{name}: defines no fn config(c); define one or remove the file");
            return Err(PolicyError::new("script", text));
        }
        Ok(Self { name, source, engine, ast })
    }

    fn run(&self, input: ConfigInput) -> Result<(Value, Vec<Edit>), PolicyError> {
        let ConfigInput { mut root, given, .. } = input;
        let mut writable = Vec::new();
        if let (Value::Object(root), Value::Object(given)) = (&mut root, given) {
            writable.extend(root.keys().map(|key| vec![key.clone()]));
            root.extend(given);
        }
        let document = Document::new(root, writable, Open::All);
        // An endless loop changes the document, and is looked for in another one.
        let fresh = document.copy();
        let limits = Limits::default();
        let (result, _, _) = engine::bounded(&limits, || self.call(&self.engine, document.clone()));
        let imports = Imports::default();
        let script = Script { name: &self.name, source: self.source, imports: &imports, has_entry: false, limits };
        let again = |engine: &Engine| self.call(engine, fresh.copy());
        let _ = result.map_err(|error| diagnostic::run(&script, &error, None, Some(&again)))?;
        let (mut root, edits) = document.finish();
        if let Value::Object(root) = &mut root {
            root.remove("host");
            root.remove("vars");
        }
        Ok((root, edits))
    }

    fn call(&self, engine: &Engine, document: Document) -> Result<Dynamic, Box<EvalAltResult>> {
        let options = CallFnOptions::new().eval_ast(true);
        let argument = Dynamic::from(document);
        engine.call_fn_with_options(options, &mut Scope::new(), &self.ast, "config", (argument,))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn input() -> ConfigInput {
        let known = json!({ "limits": { "memory": "8GiB", "cpus": 4.0 }, "workspace": { "env": {} }, "policy": [] });
        let given = json!({ "host": { "memory": 1, "cores": 2, "name": "h" }, "vars": { "TEAM": "pay" } });
        ConfigInput { root: known.clone(), given, known }
    }

    fn refused(body: &str) -> String {
        let source = format!("fn config(c) {{\n{body}\n}}");
        let error = edit_config(Path::new("/etc/wharf/wharf.rhai"), &source, input()).unwrap_err();
        assert_eq!(check_config(Path::new("x"), &source, &input()).map(|found| found.len()).unwrap_or(1).min(1), 1);
        error.to_string()
    }

    #[test]
    fn a_mistake_is_found_without_running_its_branch_and_has_no_word_of_rhai() {
        for (body, parts) in [
            (
                "if false { c.limit.memory = \"1GiB\"; }",
                ["wharf.rhai:2:", "there is no 'limit'", "did you mean 'limits'?"],
            ),
            ("c.limits.memroy = 5;", ["wharf.rhai:2:", "there is no 'limits.memroy'", "cpus, memory"]),
            ("if false { c.limits.cpus = gb(1); }", ["2:", "there is no function gb", "did you mean gib?"]),
            ("if c.vars.USER == \"ci\" { }", ["2:", "vars.USER", "add \"USER\" to vars in [script] of wharf.toml"]),
        ] {
            let text = refused(body);
            for part in parts {
                assert!(text.contains(part), "{body}: {text}");
            }
            for word in ["setter", "property", "registered"] {
                assert!(!text.contains(word), "{text}");
            }
        }
    }

    #[test]
    fn a_free_map_takes_any_key_and_a_declared_variable_is_read() {
        let source = "fn config(c) {\n  c.workspace.env.TEAM = c.vars.TEAM;\n  c.limits.cpus = c.host.cores;\n}";
        let (root, edits) = edit_config(Path::new("wharf.rhai"), source, input()).unwrap();
        assert_eq!(root.pointer("/workspace/env/TEAM"), Some(&json!("pay")));
        assert_eq!(edits.iter().map(|edit| edit.line).collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn an_endless_loop_is_named_by_its_line_and_no_setting_that_does_not_exist() {
        let source = "fn config(c) {\n  let n = 0;\n  while n < 10 {\n    c.limits.cpus = 1.0;\n  }\n}";
        let error = edit_config(Path::new("wharf.rhai"), source, input()).unwrap_err();
        assert!(error.message.starts_with("wharf.rhai:3:"), "{error}");
        assert!(error.message.contains("endless loop") && !error.message.contains("raise"), "{error}");
    }

    #[test]
    fn a_trace_shows_each_line_and_the_keys_that_were_set() {
        let source = "fn config(c) {\n  let cores = c.host.cores;\n  c.limits.cpus = cores;\n  c.limits.cpus = 3.0;\n}";
        let trace = trace_config(Path::new("wharf.rhai"), source, input()).unwrap();
        let lines: Vec<usize> = trace.lines.iter().map(|line| line.line).collect();
        assert!(lines.ends_with(&[2, 3, 4]), "{lines:?}");
        assert_eq!(trace.result.unwrap(), [("limits.cpus".to_owned(), json!(3.0))]);
    }
}
