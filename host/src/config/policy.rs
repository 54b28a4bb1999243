//! `[[policy]]`: all settings of one policy, in one struct.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::units::{Size, Span};
use crate::hooks::chain::{BreakerLimits, Mode, RollbackLimits, Scope};
use crate::hooks::record::Waiver;
use crate::hooks::{FailureMode, Hook, is_under_floor};

/// `[[policy]]`: all settings of one policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyConfig {
    /// Its name: in trails, records and messages.
    pub name: String,
    /// A built-in policy, e.g. `image-selector`. Exactly one of `builtin`, `wasm`, `script`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builtin: Option<String>,
    /// A component's path, relative to the configuration file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub wasm: Option<PathBuf>,
    /// A script's path, relative to the configuration file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub script: Option<PathBuf>,
    /// SHA-256 that the bytes must have (`sha256:<hex>`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// A part of the hooks that it implements; none means all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Vec<String>>,
    /// The workspaces for which it is called.
    #[serde(default, skip_serializing_if = "is_default")]
    pub scope: Scope,
    /// Fields that it may set although another policy owns them, e.g. `["image", "env"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub may_override: Vec<String>,
    /// Deadline of one call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// Linear memory of a plugin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Size>,
    /// Largest file of a plugin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// Largest answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Size>,
    /// Limit of the data that a plugin may pass to the host's functions in one call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_bytes: Option<Size>,
    /// Rhai operations of one call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operations: Option<u64>,
    /// Whether Wharf continues without it when it cannot be loaded.
    #[serde(default, skip_serializing_if = "is_default")]
    pub optional: bool,
    /// `"enforce"`, `"shadow"` or `{ canary = 10 }` (percent of the workspaces).
    #[serde(default, skip_serializing_if = "is_default")]
    pub mode: Mode,
    /// The policy that it replaces where its own verdicts count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
    /// Conditions for a canary to become a shadow again.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rollback: RollbackConfig,
    /// Conditions for suspending it for a while, because it keeps failing.
    #[serde(default, skip_serializing_if = "is_default")]
    pub breaker: BreakerConfig,
    /// Hook -> the consequence of its failure there, where that can be chosen.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub on_error: BTreeMap<String, FailureMode>,
    /// Limits that it may loosen, each until a day.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waivers: Vec<Waiver>,
    /// Inputs that a plugin may read besides its normal input; by default none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub capabilities: Capabilities,
    /// Its own settings; it checks them itself.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schema(value_type = Object)]
    pub settings: serde_json::Map<String, serde_json::Value>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl PolicyConfig {
    /// Creates an entry for a built-in policy, under its own name.
    pub fn builtin(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            builtin: Some(name.to_owned()),
            wasm: None,
            script: None,
            digest: None,
            hooks: None,
            scope: Scope::default(),
            may_override: vec![],
            timeout: None,
            memory: None,
            size: None,
            output: None,
            host_bytes: None,
            operations: None,
            optional: false,
            mode: Mode::default(),
            replaces: None,
            rollback: RollbackConfig::default(),
            breaker: BreakerConfig::default(),
            on_error: BTreeMap::new(),
            waivers: vec![],
            capabilities: Capabilities::default(),
            settings: serde_json::Map::new(),
        }
    }

    /// Returns the largest size of its file in bytes, if it is a plugin.
    pub fn plugin_size(&self) -> u64 {
        self.size.map_or(crate::hooks::PLUGIN_SIZE, |size| size.0)
    }

    /// Returns its limits: the defaults, overridden by the entry.
    pub fn limits(&self) -> crate::hooks::Limits {
        let mut limits = crate::hooks::Limits::default();
        if let Some(timeout) = self.timeout {
            limits.timeout = timeout.0;
        }
        let bytes = |size: Size| usize::try_from(size.0).unwrap_or(usize::MAX);
        limits.memory = self.memory.map_or(limits.memory, bytes);
        limits.output = self.output.map_or(limits.output, bytes);
        limits.host_bytes = self.host_bytes.map_or(limits.host_bytes, bytes);
        limits.operations = self.operations.unwrap_or(limits.operations);
        limits
    }
}

/// `[policy.capabilities]`: none by default, and only for plugins.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Capabilities {
    /// Path as the plugin sees it -> folder of the host, relative to the configuration file; read-only.
    #[schema(value_type = BTreeMap<String, String>)]
    pub dirs: BTreeMap<String, PathBuf>,
    /// Environment variables of the process that calls the policy.
    pub env: Vec<String>,
}

/// `[policy.rollback]`: a canary becomes a shadow for all workspaces again when more than `percent` of at least `calls`
/// calls failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct RollbackConfig {
    pub percent: u8,
    pub calls: u32,
}

impl Default for RollbackConfig {
    fn default() -> Self {
        let RollbackLimits { percent, calls } = RollbackLimits::default();
        Self { percent, calls }
    }
}

/// `[policy.breaker]`: after this many failures in a row it is suspended for a while; 0 means never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct BreakerConfig {
    pub failures: u32,
    pub pause: Span,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        let BreakerLimits { failures, pause_ms } = BreakerLimits::default();
        Self { failures, pause: Span(std::time::Duration::from_millis(pause_ms)) }
    }
}

/// Checks the rules that types cannot express. Returns the key and its defect.
pub(super) fn check(list: &[PolicyConfig]) -> Result<(), (String, String)> {
    let mut names = BTreeSet::new();
    for (index, policy) in list.iter().enumerate() {
        if !names.insert(&policy.name) {
            return Err((format!("policy.{index}"), format!("two policies are named '{}'", policy.name)));
        }
        policy.check().map_err(|(key, text)| (format!("policy.{index}{key}"), text))?;
        if let Some(replaced) = &policy.replaces {
            let key = format!("policy.{index}.replaces");
            let Some(other) = list.iter().find(|other| other.name == *replaced && other.name != policy.name) else {
                return Err((key, format!("there is no other policy '{replaced}'")));
            };
            if let Some(older) = &other.replaces {
                return Err((key, format!("'{replaced}' itself replaces '{older}'; remove '{older}' first")));
            }
            if list.iter().take(index).any(|earlier| earlier.replaces.as_ref() == Some(replaced)) {
                return Err((key, format!("another policy already replaces '{replaced}'")));
            }
        }
    }
    Ok(())
}

impl PolicyConfig {
    fn check(&self) -> Result<(), (String, String)> {
        let fail = |key: &str, text: String| Err((key.to_owned(), text));
        let kinds = [self.builtin.is_some(), self.wasm.is_some(), self.script.is_some()];
        if kinds.iter().filter(|given| **given).count() != 1 {
            return fail("", format!("'{}' needs exactly one of builtin, wasm and script", self.name));
        }
        let reserved = ["host", "default", "project", "config", "request", ""];
        if reserved.contains(&self.name.as_str()) {
            return fail("", format!("'{}' is reserved and cannot be the name of a policy", self.name));
        }
        for hook in self.hooks.iter().flatten() {
            if let Err(text) = hook.parse::<Hook>() {
                return fail("", text);
            }
        }
        if self.limits().timeout.as_millis() == 0 {
            return fail("", "timeout must be at least 1ms".into());
        }
        if matches!(self.mode, Mode::Canary(percent) if percent > 100) {
            return fail(".mode", "canary takes a percentage from 0 to 100".into());
        }
        if self.rollback.percent > 100 || self.rollback.calls == 0 {
            return fail(".rollback", "takes a percentage from 0 to 100, and at least 1 call".into());
        }
        if self.breaker.pause.0.is_zero() {
            return fail(".breaker", "pause must be longer than 0s; failures = 0 turns the breaker off".into());
        }
        for (hook, wanted) in &self.on_error {
            let hook: Hook = match hook.parse() {
                Ok(hook) => hook,
                Err(text) => return fail(".on_error", text),
            };
            let possible = hook.failure_modes();
            if !possible.contains(wanted) {
                let words: Vec<_> = possible.iter().map(|mode| mode.as_str()).collect();
                let text = match words.as_slice() {
                    [only] => format!("a failure at {hook} always means '{only}'; there is no other choice"),
                    _ => format!("a failure at {hook} can be one of {}, not '{}'", words.join(", "), wanted.as_str()),
                };
                return fail(".on_error", text);
            }
        }
        if self.script.is_some() && self.capabilities != Capabilities::default() {
            let text = "are for plugins only; pass data to a script in its settings".to_owned();
            return fail(".capabilities", text);
        }
        if let Some(path) = self.capabilities.dirs.keys().find(|path| !path.starts_with('/') || path.contains("..")) {
            return fail(".capabilities.dirs", format!("'{path}' is not an absolute path without '..'"));
        }
        if let Some(name) = self.capabilities.env.iter().find(|name| name.is_empty() || name.contains(['=', '*'])) {
            return fail(".capabilities.env", format!("'{name}' is not the name of one variable"));
        }
        for (index, waiver) in self.waivers.iter().enumerate() {
            let key = format!(".waivers.{index}");
            if !is_under_floor(&waiver.field) {
                let text = format!(
                    "'{}' needs no waiver: it is not under the floor (see docs/configuration.md)",
                    waiver.field
                );
                return Err((key, text));
            }
            if waiver.reason.trim().is_empty() {
                return Err((key, "must not be empty: the reason is shown in explanations".into()));
            }
        }
        Ok(())
    }

    /// Returns the conditions for suspending it for a while.
    pub fn breaker(&self) -> BreakerLimits {
        let pause_ms = u64::try_from(self.breaker.pause.0.as_millis()).unwrap_or(u64::MAX);
        BreakerLimits { failures: self.breaker.failures, pause_ms }
    }

    /// Returns the conditions for a canary to become a shadow again.
    pub fn rollback(&self) -> RollbackLimits {
        RollbackLimits { percent: self.rollback.percent, calls: self.rollback.calls }
    }

    /// Returns the consequences of its failures, as far as they are set. The names of hooks were checked when it was
    /// read.
    pub fn on_error(&self) -> BTreeMap<Hook, FailureMode> {
        self.on_error.iter().filter_map(|(hook, means)| Some((hook.parse().ok()?, *means))).collect()
    }
}
