//! Fields of a workspace and their values, for people.

use serde_json::{Map, Value};

use crate::cli::output::bytes;
use crate::printable::Printable;
use crate::records::Explained;

/// Fields with a number of bytes.
const SIZES: [&str; 4] = ["resources.memory", "resources.shm_size", "resources.disk", "size"];

/// Returns whether a field has a default that nothing decided and nothing forbids.
pub(in crate::cli) fn is_default(field: &Explained) -> bool {
    let violated = field.bound.as_ref().is_some_and(|bound| bound.violated.is_some());
    !violated && field.waiver.is_none() && field.history.iter().all(|link| link.by.policy == "default")
}

/// Tells how many fields a listing leaves out.
pub(in crate::cli) fn hidden(count: usize) -> Option<String> {
    let fields = match count {
        0 => return None,
        1 => "1 field has its default and is".to_owned(),
        count => format!("{count} fields have their defaults and are"),
    };
    Some(format!("{fields} hidden; --all shows every field"))
}

/// Formats the value of a field on one line, in full: sizes with their unit, lists without brackets.
pub(in crate::cli) fn text(field: &str, value: &Value) -> String {
    let plain = |text: &str| Printable::from(text).to_string();
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => plain(text),
        Value::Number(number) if SIZES.contains(&field) => bytes(number.as_u64()),
        Value::Number(number) if field.ends_with("_ms") => number.as_u64().map_or_else(|| number.to_string(), span),
        Value::Array(items) if !items.is_empty() && items.iter().all(Value::is_string) => {
            let separator = if ["command", "entrypoint"].contains(&field) { " " } else { ", " };
            items.iter().filter_map(Value::as_str).map(plain).collect::<Vec<_>>().join(separator)
        }
        Value::Object(map) => object(map).unwrap_or_else(|| value.to_string()),
        other => other.to_string(),
    }
}

/// Formats an image, a mount, or the address of a port.
fn object(map: &Map<String, Value>) -> Option<String> {
    let of = |key: &str| map.get(key).and_then(Value::as_str).map(|text| Printable::from(text).to_string());
    if let Some(reference) = of("reference") {
        return Some(reference);
    }
    if let Some(source) = of("source") {
        let read_only = map.get("read_only") == Some(&Value::Bool(true));
        return Some(if read_only { format!("{source} (read-only)") } else { source });
    }
    let address = of("address")?;
    Some(match map.get("port").and_then(Value::as_u64) {
        Some(port) => format!("{address}:{port}"),
        None => format!("{address}, a free port"),
    })
}

fn span(milliseconds: u64) -> String {
    crate::config::Span(std::time::Duration::from_millis(milliseconds)).to_string()
}

/// Returns the limit of the configuration that a field has reached or violates.
pub(in crate::cli) fn bound(name: &str, field: &Explained) -> Option<String> {
    let bound = field.bound.as_ref()?;
    let setting = format!("{} = {} ({})", bound.setting, text(name, &bound.allows), bound.origin);
    match &bound.violated {
        Some(violated) => Some(format!("forbidden: {violated}; {setting}")),
        // An untouched default is not worth a line.
        None if bound.reached && !field.history.is_empty() => Some(format!("the most that {setting} allows")),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_shown_as_people_write_them() {
        for (field, value, shown) in [
            ("resources.memory", json!(2_147_483_648_u64), "2.0 GiB"),
            ("resources.pids", json!(512), "512"),
            ("time_to_live_ms", json!(28_800_000), "8h"),
            ("command", json!(["sleep", "1"]), "sleep 1"),
            ("security.capabilities", json!(["CHOWN", "KILL"]), "CHOWN, KILL"),
            ("security.capabilities", json!([]), "[]"),
            (
                "mounts./workspace",
                json!({ "kind": "bind", "source": "/srv/a", "read_only": true }),
                "/srv/a (read-only)",
            ),
            ("ports.80/tcp", json!({ "address": "127.0.0.1", "port": null }), "127.0.0.1, a free port"),
            ("image", json!({ "reference": "debian:12", "reason": "x" }), "debian:12"),
            ("env.A", json!("a\nb\u{1b}[1m"), "a b[1m"),
            ("user", Value::Null, "-"),
            ("health_check", json!({ "retries": 3 }), "{\"retries\":3}"),
        ] {
            assert_eq!(text(field, &value), shown, "{field}");
        }
    }
}
