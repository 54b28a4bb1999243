//! The meaning of the fields of `ctx`, the values that each may have, and the words for a value of a wrong kind.
//!
//! Names and kinds of fields come from `shape`, so that they always match the real input. A test compares this table
//! with them.

use serde_json::Value;

/// The unit of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// No unit.
    None,
    /// Bytes.
    Bytes,
    /// Milliseconds.
    Milliseconds,
}

/// A field of `ctx`.
pub(super) struct Field {
    /// Its path below `ctx`; `*` is any key, `[]` any element.
    pub(super) path: &'static str,
    /// Its meaning.
    pub(super) meaning: &'static str,
    /// All values that it may have; empty if they are not a closed list.
    pub(super) values: &'static [&'static str],
}

const fn field(path: &'static str, meaning: &'static str) -> Field {
    Field { path, meaning, values: &[] }
}

const fn one_of(path: &'static str, meaning: &'static str, values: &'static [&'static str]) -> Field {
    Field { path, meaning, values }
}

const STATES: &[&str] = &["created", "running", "paused", "restarting", "exited", "dead", "missing"];
const EVENTS: &[&str] = &["started", "exited", "out-of-memory", "healthy", "unhealthy", "threshold"];

// Long because it is the table of all fields.
const FIELDS: &[Field] = &[
    field("caller", "the caller; () in a replay of an older record"),
    one_of("caller.door", "how the request came in", &["command-line", "socket", "network", "service"]),
    field("caller.name", "'user 1000', the name of a token, or 'wharf serve'"),
    one_of("caller.role", "the role of the caller", &["viewer", "operator", "admin"]),
    field("caller.uid", "the user on this machine; () over the network and for the service itself"),
    field("candidates", "the objects that a sweep may stop or remove"),
    field("candidates[].created_ms", "time of creation, in milliseconds since 1970"),
    field("candidates[].exit_code", "exit code of its last run; () if it has none"),
    field("candidates[].finished_ms", "time of its last end; () if it has none"),
    field("candidates[].id", "the id for ctx.keep, ctx.stop and ctx.remove"),
    one_of("candidates[].kind", "the kind of object", &["workspace", "image", "volume", "network"]),
    field("candidates[].labels", "labels, with any keys"),
    field("candidates[].last_activity_ms", "time of its last use; () if unknown"),
    field("candidates[].name", "name"),
    field("candidates[].part_of", "for a sidecar: the id of its workspace; otherwise ()"),
    field("candidates[].project", "absolute path of the project folder"),
    field("candidates[].size", "bytes that its removal frees; () if unknown"),
    field("candidates[].started_ms", "time of its last start; () if it has none"),
    one_of("candidates[].state", "state of a workspace; () for other objects", STATES),
    field("candidates[].used", "whether it runs, or a container uses it"),
    field("disk_free", "free bytes on the disk of the engine; 0 if unknown"),
    field("disk_total", "size of that disk in bytes; 0 if unknown"),
    field("engine", "the engine; empty without a reachable one"),
    field("engine.api_version", "version of its API"),
    field("engine.cgroup_version", "1 or 2"),
    field("engine.cpus", "number of its cores"),
    field("engine.memory", "its memory in bytes"),
    field("engine.security", "its security features, such as 'seccomp' and 'apparmor'"),
    field("engine.version", "its version"),
    field("event", "the event of the workspace"),
    field("event.detail", "more about the event; empty if there is nothing more"),
    field("event.exit_code", "exit code, after an end; otherwise ()"),
    one_of("event.kind", "the kind of event", EVENTS),
    field("exec", "the command that will run; env, user and working_dir can be changed"),
    field("exec.command", "its words"),
    field("exec.env", "its variables, with any keys"),
    field("exec.tty", "whether it has a terminal"),
    field("exec.user", "its user; () for that of the container"),
    field("exec.working_dir", "its folder; () for that of the container"),
    field("first_start", "true right after the creation"),
    field("image_config", "the configuration of the chosen image; () while it is unknown"),
    field("image_config.command", "its command"),
    field("image_config.entrypoint", "its entry point"),
    field("image_config.health_check", "its health check; () for none"),
    field("image_config.id", "id of the image, sha256:..."),
    field("image_config.labels", "its labels, with any keys"),
    field("image_config.platform", "platform, such as linux/amd64"),
    field("image_config.user", "its user; empty for root"),
    field("image_config.volumes", "paths that it declares as volumes"),
    field("image_config.working_dir", "its working directory; empty for the root"),
    field("images", "local images of the engine"),
    field("images[].digests", "digests, NAME@sha256:..."),
    field("images[].references", "names with tags"),
    field("images[].size", "size in bytes"),
    field("local_hour", "hour of the day in the time zone of the host, 0 to 23"),
    field("local_minute", "minutes since midnight in the time zone of the host, 0 to 1439"),
    field("local_weekday", "day of the week in the time zone of the host; Monday is 1, Sunday 7"),
    field("now_ms", "time of the decision, in milliseconds since 1970 (UTC)"),
    field("project", "the project folder"),
    field("project.contents", "wanted files, by name"),
    field("project.contents.*.text", "content"),
    field("project.contents.*.truncated", "whether the content is cut"),
    field("project.files", "names at the top level and in .devcontainer/"),
    field("requested", "true for an image that the caller named"),
    field("settings", "settings of the entry in wharf.toml"),
    field("spec", "the container, as decided so far"),
    field("spec.command", "words; empty for the command of the image"),
    field("spec.entrypoint", "words; () for that of the image, empty for none"),
    field("spec.env", "variables, with any keys; () removes one"),
    field("spec.health_check", "health check; () for none"),
    field("spec.health_check.command", "words"),
    field("spec.health_check.interval_ms", "milliseconds between two checks"),
    field("spec.health_check.retries", "failures in a row that make it unhealthy"),
    field("spec.health_check.start_period_ms", "milliseconds in which failures do not count"),
    field("spec.health_check.timeout_ms", "time limit of one check, in milliseconds"),
    field("spec.hostname", "host name"),
    field("spec.image", "the image; () while none is chosen"),
    one_of("spec.image.pull", "when to pull it", &["missing", "always", "never"]),
    field("spec.image.reason", "why it was chosen"),
    field("spec.image.reference", "name with tag or digest"),
    field("spec.labels", "labels, with any keys; () removes one"),
    field("spec.mounts", "mounts, by absolute path in the container"),
    one_of("spec.mounts.*.kind", "folder of the host, or volume", &["bind", "volume"]),
    field("spec.mounts.*.read_only", "whether it cannot be written"),
    field("spec.mounts.*.source", "path on the host, or name of the volume"),
    one_of("spec.network", "the network", &["shared", "own", "none", "host"]),
    field("spec.ports", "published ports, by '8080/tcp'"),
    field("spec.ports.*.address", "address on the host; loopback unless given"),
    field("spec.ports.*.port", "port on the host; () for a free one"),
    field("spec.resources.cpus", "cores, such as 1.5"),
    field("spec.resources.disk", "limit of the writable layer in bytes; () for none"),
    field("spec.resources.memory", "limit in bytes, such as gib(2)"),
    field("spec.resources.pids", "maximum number of processes"),
    field("spec.resources.shm_size", "size of /dev/shm in bytes; () for the default"),
    field("spec.resources.ulimits", "ulimits, by name"),
    field("spec.resources.ulimits.*.hard", "hard limit"),
    field("spec.resources.ulimits.*.soft", "soft limit"),
    field("spec.restart", "\"no\", \"always\", \"unless_stopped\" or #{ on_failure: 3 }"),
    field("spec.security.apparmor", "profile; () for the default"),
    field("spec.security.capabilities", "capabilities, such as \"CHOWN\""),
    field("spec.security.no_new_privileges", "whether processes cannot gain privileges"),
    field("spec.security.read_only_root", "whether the root file system is read-only"),
    field("spec.security.seccomp", "\"default\", \"unconfined\", or a profile as JSON"),
    field("spec.security.selinux", "label; () for the default"),
    field("spec.security.user_namespace", "mode of the user namespace; () for the default"),
    field("spec.time_to_live_ms", "milliseconds from a start to the stop; () for no limit"),
    field("spec.tmpfs", "memory file systems, by absolute path"),
    field("spec.tmpfs.*.size", "size in bytes; () for the default"),
    field("spec.user", "user or uid:gid; () for that of the image"),
    field("spec.working_dir", "working directory"),
    one_of("verb", "the reason of the stop", &["stop", "restart", "kill", "remove"]),
    field("workspace", "the workspace; empty at cleanup"),
    field("workspace.id", "id"),
    field("workspace.labels", "labels of the request and the configuration, with any keys"),
    field("workspace.name", "name"),
    field("workspace.owner", "owner of the project folder; () without a folder"),
    field("workspace.owner.gid", "group id"),
    field("workspace.owner.uid", "user id"),
    field("workspace.project", "absolute path of the project folder"),
];

/// Returns the entry of a field, by its path below `ctx`.
pub(super) fn find(path: &str) -> Option<&'static Field> {
    FIELDS.iter().find(|field| matches(field.path, path))
}

fn matches(pattern: &str, path: &str) -> bool {
    let (mut pattern, mut path) = (pattern.split('.'), path.split('.'));
    loop {
        match (pattern.next(), path.next()) {
            (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(expected), Some(given)) if expected == given => {}
            _ => return false,
        }
    }
}

/// Returns the unit of a field, which its name tells.
pub(super) fn unit(path: &str) -> Unit {
    let last = path.rsplit('.').next().unwrap_or_default();
    match last {
        "memory" | "shm_size" | "disk" | "size" | "disk_free" | "disk_total" => Unit::Bytes,
        _ if last.ends_with("_ms") => Unit::Milliseconds,
        _ => Unit::None,
    }
}

/// Returns the call that gives a size or a duration, such as `gib(1)` for "1GiB"; none for other texts.
pub(super) fn call_for(unit: Unit, text: &str) -> Option<String> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    if number.is_empty() {
        return None;
    }
    let suffix = suffix.trim().to_ascii_lowercase();
    let function = match (unit, suffix.as_str()) {
        (_, "") => return Some(number.to_owned()),
        (Unit::Bytes, "k" | "kb" | "kib") => "kib",
        (Unit::Bytes, "m" | "mb" | "mib") => "mib",
        (Unit::Bytes, "g" | "gb" | "gib") => "gib",
        (Unit::Milliseconds, "ms") => return Some(number.to_owned()),
        (Unit::Milliseconds, "s") => "seconds",
        (Unit::Milliseconds, "m" | "min") => "minutes",
        (Unit::Milliseconds, "h") => "hours",
        (Unit::Milliseconds, "d") => "days",
        _ => return None,
    };
    Some(format!("{function}({number})"))
}

/// Returns the problem of a value for a field, given another value of the right kind; none if it fits. `()` is not
/// checked, because only the type knows whether it may be missing.
pub(super) fn misfit(path: &str, sample: &Value, given: &Value) -> Option<String> {
    let fits = match (sample, given) {
        (Value::Null, _) | (_, Value::Null) => true,
        (Value::Number(sample), Value::Number(given)) => sample.is_f64() || !given.is_f64(),
        _ => std::mem::discriminant(sample) == std::mem::discriminant(given),
    };
    if !fits {
        let unit = unit(path);
        let hint = match (sample, given) {
            (Value::Number(_), Value::String(text)) => call_for(unit, text),
            (Value::String(_), Value::Number(_) | Value::Bool(_)) => Some(format!("\"{given}\"")),
            (Value::Array(_), Value::String(text)) => Some(format!("[\"{text}\"]")),
            (Value::Object(fields), _) if !fields.is_empty() && !path.ends_with("env") && !path.ends_with("labels") => {
                Some(format!("#{{ {} }}", fields.keys().cloned().collect::<Vec<_>>().join(", ")))
            }
            _ => None,
        };
        let hint = hint.map_or(String::new(), |hint| format!("; write {hint}"));
        return Some(format!("{path}: expected {}, not {}{hint}", expected(sample, unit), shown(given)));
    }
    let Value::String(given) = given else { return None };
    let values = find(path).map(|field| field.values).filter(|values| !values.is_empty())?;
    if values.contains(&given.as_str()) {
        return None;
    }
    let hint = values.iter().find(|value| super::check::near(value, given));
    let hint = hint.map_or(String::new(), |hint| format!("; did you mean \"{hint}\"?"));
    Some(format!("{path}: \"{given}\" is not one of \"{}\"{hint}", values.join("\", \"")))
}

fn expected(sample: &Value, unit: Unit) -> &'static str {
    match (sample, unit) {
        (Value::Number(_), Unit::Bytes) => "bytes as a number",
        (Value::Number(_), Unit::Milliseconds) => "milliseconds as a number",
        (Value::Number(number), Unit::None) if number.is_f64() => "a number",
        (Value::Number(_), Unit::None) => "a whole number",
        (Value::Bool(_), _) => "true or false",
        (Value::String(_), _) => "a text",
        (Value::Array(_), _) => "a list",
        (Value::Object(_), _) => "a map",
        (Value::Null, _) => "()",
    }
}

fn shown(given: &Value) -> String {
    match given {
        Value::String(text) => format!("the text \"{text}\""),
        Value::Number(number) => number.to_string(),
        Value::Bool(value) => value.to_string(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a map".to_owned(),
        Value::Null => "()".to_owned(),
    }
}

/// Returns the words for a value that its type refuses, given another value of the right kind and the words of serde.
pub(super) fn refused(path: &str, sample: Option<&Value>, text: &str) -> String {
    let better = sample.and_then(|sample| misfit(path, sample, &given_in(text)?));
    better.unwrap_or_else(|| format!("{path}: {}", plain(text)))
}

/// Returns the value that serde refuses, as far as its words tell it.
fn given_in(text: &str) -> Option<Value> {
    let (given, _) = text.strip_prefix("invalid type: ")?.split_once(", expected ")?;
    Some(match given {
        "sequence" => Value::Array(Vec::new()),
        "map" => Value::Object(serde_json::Map::new()),
        _ => {
            let value = given.rsplit_once(" `").map(|(_, value)| value.trim_end_matches('`'));
            serde_json::from_str(value.or_else(|| given.strip_prefix("string "))?).ok()?
        }
    })
}

/// Converts the words of serde for a value that does not fit its field.
pub(super) fn plain(text: &str) -> String {
    let text = text.replace('`', "'");
    if let Some(rest) = text.strip_prefix("unknown variant ") {
        return rest.replacen(", expected", " is not allowed; expected", 1);
    }
    if let Some(rest) = text.strip_prefix("missing field ") {
        return format!("the key {rest} is missing");
    }
    if let Some(rest) = text.strip_prefix("unknown field ") {
        return format!("there is no key {rest}");
    }
    for prefix in ["invalid value: integer ", "invalid value: floating point "] {
        if let Some((number, wanted)) = text.strip_prefix(prefix).and_then(|rest| rest.split_once(", expected ")) {
            let from = if wanted.starts_with('u') { "; expected a whole number from 0" } else { "" };
            return format!("{} is out of range{from}", number.replace('\'', ""));
        }
    }
    let words = [("u64", "a whole number"), ("u32", "a whole number"), ("u16", "a whole number"), ("f64", "a number")];
    let kinds =
        [("a string", "a text"), ("a sequence", "a list"), ("a boolean", "true or false"), ("unit value", "()")];
    match text.strip_prefix("invalid type: ").and_then(|rest| rest.split_once(", expected ")) {
        Some((given, wanted)) => {
            let say = |text: &str| {
                let all = words.iter().chain(&kinds);
                let known = all.clone().find(|(rust, _)| *rust == text).map(|(_, plain)| (*plain).to_owned());
                known.unwrap_or_else(|| if text.starts_with("struct ") { "a map".to_owned() } else { text.to_owned() })
            };
            format!("expected {}, not {}", say(wanted), say(given).replacen("string ", "the text ", 1))
        }
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;
    use crate::hooks::Hook;

    #[test]
    fn every_field_has_a_meaning_and_every_meaning_a_field() {
        let all: BTreeSet<String> =
            Hook::ALL.into_iter().flat_map(|hook| super::super::shape::fields(hook).into_keys()).collect();
        // Entries of free maps, and parts that their own fields explain.
        let parts = ["spec.resources", "spec.security", "spec.mounts.*", "spec.tmpfs.*", "spec.ports.*"];
        let plain = |path: &&String| !path.ends_with('*') && !parts.contains(&path.as_str());
        let lacking: Vec<_> = all.iter().filter(plain).filter(|path| find(path).is_none()).collect();
        let nested = |path: &&&String| !path.starts_with("image_config.health_check.");
        assert_eq!(lacking.iter().filter(nested).count(), 0, "{lacking:?}");
        let extra: Vec<_> = FIELDS.iter().filter(|field| !all.contains(field.path)).map(|field| field.path).collect();
        assert!(extra.is_empty(), "{extra:?}");
    }

    #[test]
    fn a_value_of_a_wrong_kind_is_told_with_the_right_one() {
        let memory = |given: Value| misfit("spec.resources.memory", &json!(1), &given);
        assert_eq!(
            memory(json!("1GiB")).unwrap(),
            "spec.resources.memory: expected bytes as a number, not the text \"1GiB\"; write gib(1)"
        );
        assert!(memory(json!("512 MiB")).unwrap().ends_with("write mib(512)"));
        assert!(memory(json!("a lot")).unwrap().ends_with("not the text \"a lot\""));
        assert!(memory(json!(1.5)).is_some() && memory(json!(5)).is_none() && memory(json!(null)).is_none());
        assert!(misfit("spec.time_to_live_ms", &json!(1), &json!("2h")).unwrap().ends_with("write hours(2)"));
        assert!(misfit("spec.env.PORT", &json!("x"), &json!(80)).unwrap().ends_with("a text, not 80; write \"80\""));
        assert_eq!(misfit("spec.resources.cpus", &json!(1.0), &json!(2)), None);
        let network = misfit("spec.network", &json!("own"), &json!("onw")).unwrap();
        assert!(network.contains("\"shared\", \"own\", \"none\", \"host\""), "{network}");
    }

    #[test]
    fn no_word_of_rust_is_left_in_an_error() {
        assert_eq!(
            plain("invalid type: string \"1GiB\", expected u64"),
            "expected a whole number, not the text \"1GiB\""
        );
        assert_eq!(
            plain("unknown variant `hots`, expected `own` or `host`"),
            "'hots' is not allowed; expected 'own' or 'host'"
        );
        assert_eq!(
            plain("invalid value: integer `-5`, expected u64"),
            "-5 is out of range; expected a whole number from 0"
        );
        let sample = json!(1);
        let memory = refused("spec.resources.memory", Some(&sample), "invalid type: string \"1GiB\", expected u64");
        assert!(memory.ends_with("not the text \"1GiB\"; write gib(1)"), "{memory}");
        let port = refused("spec.env.PORT", Some(&json!("x")), "invalid type: integer `80`, expected a string");
        assert!(port.ends_with("expected a text, not 80; write \"80\""), "{port}");
        assert_eq!(plain("missing field `source`"), "the key 'source' is missing");
    }
}
