//! Settings that a script declares, with their defaults: `const SETTINGS = #{ max_memory: gib(1), teams: #{} };`.
//!
//! The settings of a configuration entry are checked against this declaration when the script is loaded. A script
//! without a declaration gets its entry's settings unchanged.

use rhai::{AST, Dynamic, Engine, EvalAltResult, Map, Scope};
use serde_json::Value;

use super::document::from_dynamic;

/// The name of the declaring constant.
pub(super) const NAME: &str = "SETTINGS";

/// Runs the top-level statements of a script once and returns its constants.
pub(super) fn constants(engine: &Engine, ast: &AST) -> Result<Scope<'static>, Box<EvalAltResult>> {
    let mut scope = Scope::new();
    engine.run_ast_with_scope(&mut scope, ast)?;
    Ok(scope)
}

/// Runs the top-level statements of a script again.
pub(super) fn rerun(engine: &Engine, ast: &AST) -> Result<Dynamic, Box<EvalAltResult>> {
    engine.run_ast(ast).map(|()| Dynamic::UNIT)
}

/// Returns the declared settings, if any.
///
/// # Errors
/// An error if the declaration is not a map of plain values.
pub(super) fn declared(constants: &Scope) -> Result<Option<Value>, String> {
    let Some(value) = constants.get(NAME) else { return Ok(None) };
    if !value.is::<Map>() {
        return Err(format!("{NAME} must be a map of settings and their defaults, e.g. #{{ max_memory: gib(1) }}"));
    }
    from_dynamic(value, &mut 0).map(Some).map_err(|text| format!("{NAME}: {text}"))
}

/// Returns the settings for a script: the given values, checked against the declaration, and the defaults for missing
/// values.
///
/// # Errors
/// An unknown setting, a value whose type differs from the default's, or a missing value without a default.
pub(super) fn complete(declared: &Value, given: &Value) -> Result<Value, String> {
    fill(declared, Some(given), "")
}

fn fill(declared: &Value, given: Option<&Value>, name: &str) -> Result<Value, String> {
    let wrong = |given: &Value| Err(format!("'{name}' takes {}, not {}", kind(declared), kind(given)));
    match (declared, given) {
        (Value::Null, None) => Err(format!("'{name}' is missing and has no default")),
        (Value::Null, Some(given)) => Ok(given.clone()),
        // A record; an empty map accepts any keys.
        (Value::Object(fields), given) if name.is_empty() || !fields.is_empty() => {
            let given = match given {
                None => None,
                Some(Value::Object(given)) => Some(given),
                Some(other) => return wrong(other),
            };
            let whole = |key: &str| if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
            if let Some(unknown) =
                given.into_iter().flat_map(|given| given.keys()).find(|key| !fields.contains_key(*key))
            {
                let near = fields.keys().find(|known| strsim::damerau_levenshtein(known, unknown) <= 2);
                let hint = near.map_or(String::new(), |near| format!(" (did you mean '{near}'?)"));
                let all: Vec<_> = fields.keys().map(|key| whole(key)).collect();
                let there_are = if all.is_empty() {
                    "there are none".into()
                } else {
                    format!("the settings are {}", all.join(", "))
                };
                return Err(format!("there is no setting '{}'{hint}; {there_are}", whole(unknown)));
            }
            let each = fields.iter().map(|(key, declared)| {
                let value = fill(declared, given.and_then(|given| given.get(key)), &whole(key))?;
                Ok((key.clone(), value))
            });
            each.collect::<Result<_, String>>().map(Value::Object)
        }
        (declared, None) => Ok(declared.clone()),
        (Value::Array(examples), Some(Value::Array(list))) => {
            if let Some(example) = examples.first()
                && let Some(other) = list.iter().find(|value| !same(example, value))
            {
                return Err(format!(
                    "'{name}' takes a list whose elements are each {}, not {}",
                    kind(example),
                    kind(other)
                ));
            }
            Ok(Value::Array(list.clone()))
        }
        // An integer for a declared float becomes a float, so that the script always gets the same type.
        (Value::Number(declared), Some(Value::Number(given))) if declared.is_f64() && !given.is_f64() => {
            Ok(given.as_f64().map_or(Value::Null, Value::from))
        }
        (declared, Some(given)) if same(declared, given) => Ok(given.clone()),
        (_, Some(given)) => wrong(given),
    }
}

fn same(declared: &Value, given: &Value) -> bool {
    match (declared, given) {
        (Value::Number(declared), Value::Number(given)) => declared.is_f64() || !given.is_f64(),
        _ => std::mem::discriminant(declared) == std::mem::discriminant(given),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "anything",
        Value::Bool(_) => "true or false",
        Value::Number(number) if number.is_f64() => "a number",
        Value::Number(_) => "a whole number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_missing_gets_its_default_and_what_is_unknown_or_of_another_kind_is_refused() {
        let declared =
            json!({ "most": 5, "share": 0.5, "teams": {}, "names": ["a"], "log": { "on": true, "to": null } });
        let full = complete(&declared, &json!({ "share": 1, "log": { "to": "x" }, "teams": { "web": 1 } })).unwrap();
        assert_eq!(
            full,
            json!({ "most": 5, "share": 1.0, "teams": { "web": 1 }, "names": ["a"], "log": { "on": true, "to": "x" } })
        );
        let refused = |given: Value| complete(&declared, &given).unwrap_err();
        let to = json!({ "to": "x" });
        assert!(
            refused(json!({ "mots": 1, "log": to }))
                .contains("'mots' (did you mean 'most'?); the settings are log, most")
        );
        assert!(refused(json!({ "log": { "to": 1, "onn": true } })).contains("'log.onn' (did you mean 'on'?)"));
        assert_eq!(refused(json!({ "most": "1GiB", "log": to })), "'most' takes a whole number, not a text");
        assert_eq!(refused(json!({ "most": 1.5, "log": to })), "'most' takes a whole number, not a number");
        assert_eq!(
            refused(json!({ "names": ["a", 1], "log": to })),
            "'names' takes a list whose elements are each a text, not a whole number"
        );
        assert_eq!(refused(json!({})), "'log.to' is missing and has no default");
        assert_eq!(refused(json!({ "log": 5 })), "'log' takes a map, not a whole number");
        assert!(complete(&json!({}), &json!({ "a": 1 })).unwrap_err().contains("there are none"));
    }
}
