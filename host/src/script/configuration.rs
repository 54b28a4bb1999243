//! The script beside the configuration file, which edits the configuration.

use std::path::Path;

use rhai::{CallFnOptions, Scope};
use serde_json::Value;

use super::document::{Document, Open};
use super::{Edit, Imports, diagnostic, engine};
use crate::hooks::{Limits, PolicyError};

/// Runs `config(c)` of a configuration script on the loaded configuration. `c.host` and `c.vars` are read-only.
///
/// # Errors
/// The same errors as for policies; a script without `fn config(c)` is refused.
pub fn edit_config(path: &Path, source: &str, config: Value, given: Value) -> Result<(Value, Vec<Edit>), PolicyError> {
    let name = path.display().to_string();
    let limits = Limits::default();
    let engine = engine::engine(&limits);
    let ast = engine.compile(source).map_err(|error| diagnostic::parse(&name, source, &error))?;
    if !ast.iter_functions().any(|function| function.name == "config" && function.params.len() == 1) {
        return Err(PolicyError::new(
            "script",
            format!("{name}: defines no fn config(c); define one or remove the file"),
        ));
    }
    let mut root = config;
    let mut writable = Vec::new();
    if let (Value::Object(root), Value::Object(given)) = (&mut root, given) {
        writable.extend(root.keys().map(|key| vec![key.clone()]));
        root.extend(given);
    }
    let document = Document::new(root, writable, Open::All);
    let argument = rhai::Dynamic::from(document.clone());
    let options = CallFnOptions::new().eval_ast(true);
    let (result, _, _) = engine::bounded(&limits, || {
        engine.call_fn_with_options::<rhai::Dynamic>(options, &mut Scope::new(), &ast, "config", (argument,))
    });
    let _ = result.map_err(|error| diagnostic::run(&name, source, &error, &Imports::default()))?;
    let (mut root, edits) = document.finish();
    if let Value::Object(root) = &mut root {
        root.remove("host");
        root.remove("vars");
    }
    Ok((root, edits))
}
