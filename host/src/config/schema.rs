//! The JSON Schema of the configuration file, for editors. It is generated from the types that the file is read into.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Value, json};
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::{Backoff, Budget, Config, Size, Span};

/// The places of shared types in OpenAPI and in JSON Schema.
const COMPONENTS: &str = "#/components/schemas/";
const DEFS: &str = "#/$defs/";

/// Formats of numbers that only OpenAPI has.
const NUMBERS: [&str; 4] = ["double", "float", "int32", "int64"];

/// Returns the JSON Schema (2020-12) of `wharf.toml`, with every default.
pub fn schema() -> Value {
    let mut shared = Vec::new();
    Config::schemas(&mut shared);
    let mut defs: BTreeMap<String, Value> = shared.into_iter().map(|(name, schema)| (name, tidy(&schema))).collect();
    let mut root = tidy(&Config::schema());
    let defaults = serde_json::to_value(Config::default()).unwrap_or_default();
    set_defaults(&mut root, &defaults, &mut defs);
    root["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    root["title"] = json!("wharf.toml");
    root["$defs"] = json!(defs);
    root
}

/// A key of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Key {
    /// The key with its sections, such as `limits.memory`; `policy[]` is an element of the list of policies.
    pub key: String,
    /// The kind of its value in a script: `text`, `int`, `float`, `bool`, `list` or `map`, or several.
    pub kind: String,
    /// Its meaning, in one line.
    pub meaning: String,
}

/// Returns every key of the configuration, sorted, for authors of `wharf.rhai`.
pub fn keys() -> Vec<Key> {
    let schema = schema();
    let mut found = Vec::new();
    collect_keys(&schema, &schema["$defs"], "", &mut found);
    found.sort_by(|a, b| a.key.cmp(&b.key));
    found
}

fn collect_keys(schema: &Value, defs: &Value, above: &str, found: &mut Vec<Key>) {
    let refers_to = |value: &Value| {
        let alternatives = value["oneOf"].as_array().into_iter().flatten();
        let all = std::iter::once(value).chain(alternatives).chain(std::iter::once(&value["items"]));
        let name = all.filter_map(|value| value["$ref"].as_str()?.strip_prefix(DEFS)).next();
        name.map_or(Value::Null, |name| defs[name].clone())
    };
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let target = refers_to(property);
        let list = property["items"].is_object() && target["properties"].is_object();
        let key = format!("{above}{name}{}", if list { "[]" } else { "" });
        if target["properties"].is_object() {
            collect_keys(&target, defs, &format!("{key}."), found);
            continue;
        }
        let meaning = [property, &target].into_iter().find_map(|schema| schema["description"].as_str());
        let meaning = meaning.unwrap_or_default().lines().collect::<Vec<_>>().join(" ");
        let types = if property["type"].is_null() { &target["type"] } else { &property["type"] };
        found.push(Key { key, kind: kinds(types), meaning });
    }
}

/// Returns the words of scripts for the types of a schema.
fn kinds(types: &Value) -> String {
    let word = |name: &Value| match name.as_str() {
        Some("string") => "text",
        Some("integer") => "int",
        Some("number") => "float",
        Some("boolean") => "bool",
        Some("array") => "list",
        Some("object") => "map",
        Some("null") => "()",
        _ => "any",
    };
    match types {
        Value::Array(all) => all.iter().map(word).collect::<Vec<_>>().join(" or "),
        one => word(one).to_owned(),
    }
}

/// Converts a schema of OpenAPI to JSON Schema: references lead to `$defs`; formats of OpenAPI and defaults that TOML
/// cannot express are left out.
fn tidy(schema: &RefOr<Schema>) -> Value {
    let mut schema = serde_json::to_value(schema).unwrap_or_default();
    walk(&mut schema);
    schema
}

fn walk(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if let Some(Value::String(to)) = map.get_mut("$ref") {
                *to = to.replace(COMPONENTS, DEFS);
            }
            let number = |format: &Value| format.as_str().is_some_and(|name| NUMBERS.contains(&name));
            // `format` and `default` may also be the names of properties, whose values are schemas.
            map.retain(|key, value| !(key == "format" && number(value) || key == "default" && value.is_null()));
            map.values_mut().for_each(walk);
        }
        Value::Array(all) => all.iter_mut().for_each(walk),
        _ => {}
    }
}

/// Writes the defaults into a schema and those that it refers to; `null` means that there is none.
fn set_defaults(schema: &mut Value, default: &Value, defs: &mut BTreeMap<String, Value>) {
    let Value::Object(values) = default else { return };
    for (name, value) in values {
        let Some(property) = schema["properties"].get_mut(name) else { continue };
        let to = property["$ref"].as_str().and_then(|to| to.strip_prefix(DEFS)).map(str::to_owned);
        match to.and_then(|name| Some((defs.remove(&name)?, name))) {
            Some((mut section, name)) if value.is_object() => {
                set_defaults(&mut section, value, defs);
                defs.insert(name, section);
            }
            Some((section, name)) => {
                defs.insert(name, section);
                property["default"] = value.clone();
            }
            None if value.is_null() => {}
            None => property["default"] = value.clone(),
        }
    }
}

/// A text that is parsed into a number, as its examples show.
macro_rules! text {
    ($($name:ident, $types:expr, $words:literal, $examples:expr;)*) => {$(
        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let object = ObjectBuilder::new().schema_type($types).description(Some($words)).examples($examples);
                Schema::Object(object.build()).into()
            }
        }
        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                stringify!($name).into()
            }
        }
    )*};
}
text! {
    Size, SchemaType::from_iter([Type::String, Type::Integer]), "A number of bytes, with a unit or without.", ["512MiB", "2GiB"];
    Span, SchemaType::from(Type::String), "A duration, with its unit.", ["250ms", "10s", "2h 30m", "7d"];
    Backoff, SchemaType::from(Type::String), "The first and the longest delay; each delay is twice the previous one.", ["1s..5m"];
    Budget, SchemaType::from(Type::String), "A number of times, and the period in which they count.", ["5 in 10m"];
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Collects the properties of a schema, and of those that it refers to, as the paths of their keys.
    fn keys(schema: &Value, defs: &Value, above: &str, found: &mut BTreeSet<String>) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{above}{name}");
            let to = property["$ref"].as_str().and_then(|to| to.strip_prefix(DEFS));
            to.into_iter().for_each(|to| keys(&defs[to], defs, &format!("{path}."), found));
            found.insert(path);
        }
    }

    #[test]
    fn the_schema_has_every_key_of_the_configuration_and_its_default() {
        let schema = schema();
        let mut found = BTreeSet::new();
        keys(&schema, &schema["$defs"], "", &mut found);
        let defaults = serde_json::to_value(Config::default()).unwrap();
        for (section, values) in defaults.as_object().unwrap() {
            assert!(found.contains(section), "{section}");
            for key in values.as_object().into_iter().flat_map(|values| values.keys()) {
                assert!(found.contains(&format!("{section}.{key}")), "{section}.{key}");
            }
        }
        assert_eq!(schema["$defs"]["EngineConfig"]["properties"]["stop_timeout"]["default"], "10s");
        assert_eq!(
            schema["$defs"]["EngineConfig"]["additionalProperties"], false,
            "{}",
            schema["$defs"]["EngineConfig"]
        );
        assert_eq!(schema["$defs"]["PolicyConfig"]["required"], json!(["name"]));
        assert_eq!(schema["required"], Value::Null, "every section may be left out");
    }

    #[test]
    fn every_reference_of_the_schema_leads_somewhere() {
        let schema = schema();
        let text = schema.to_string();
        assert!(!text.contains(COMPONENTS));
        for name in text.split("\"#/$defs/").skip(1).filter_map(|part| part.split('"').next()) {
            assert!(schema["$defs"].get(name).is_some(), "{name}");
        }
    }
}
