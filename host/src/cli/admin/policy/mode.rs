//! `wharf policy promote`, `rollback`, `reset` and `reload`.
//!
//! The mode is written into `wharf.toml`, and its comments are preserved. The file stays the only place that defines
//! which policies decide, and a service reloads it.

use crate::app::App;
use crate::cli::output::counted;
use crate::cli::{Context, Failure};
use crate::config::{self, Origin};
use crate::hooks::chain::Mode;

fn index(app: &App, policy: &str) -> Result<usize, Failure> {
    let known = app.loaded.config.policy.iter().position(|entry| entry.name == policy);
    known.ok_or_else(|| {
        let built_in = app.loaded.config.policy.is_empty() && crate::builtin::find(policy).is_some();
        let (text, remedy) = match built_in {
            true => (
                format!(
                    "'{policy}' is in the chain by default, because the configuration names no policy; its mode \
                         is always 'enforce'"
                ),
                "write the chain to a file first: 'wharf config init' creates a wharf.toml with it",
            ),
            false => (format!("there is no policy '{policy}' in the chain"), "'wharf policy ls' lists the chain"),
        };
        Failure::new("policy-not-found", text, remedy, 5)
    })
}

/// Sets a policy's mode in the file that configures it.
pub(super) fn set(context: &Context, policy: &str, mode: Mode) -> Result<u8, Failure> {
    let app = &context.app;
    let index = index(app, policy)?;
    let was = app.loaded.config.policy.get(index).map(|entry| entry.mode).unwrap_or_default();
    // If a later layer overrides the mode, a change of the file has no effect.
    let elsewhere = match app.loaded.origin(&format!("policy.{index}.mode")) {
        Origin::Default | Origin::File { .. } => None,
        other => Some(other),
    };
    let file = app.loaded.file.as_ref().filter(|_| elsewhere.is_none());
    let Some(file) = file else {
        let at = elsewhere.map_or_else(String::new, |origin| origin.to_string());
        let text = format!("the mode of '{policy}' is set by {at}, not in wharf.toml");
        return Err(Failure::new("mode-elsewhere", text, "change it there", 2));
    };
    let failed = |text: String| Failure::new("unwritable", text, "correct the file, or edit the mode by hand", 1);
    config::set_mode(file, policy, mode).map_err(failed)?;
    let now = app.reloaded().map_err(Failure::from)?;
    let is = now.loaded.config.policy.iter().find(|entry| entry.name == policy).map(|entry| entry.mode);
    if is != Some(mode) {
        let text = format!("'{}' was changed, but the mode of '{policy}' is not '{mode}'", file.display());
        return Err(Failure::new("mode-elsewhere", text, "see the origin of the mode in 'wharf config show'", 1));
    }
    // A policy that counts again starts with a clean record.
    let forgotten =
        mode != Mode::Shadow && app.state_dir.join("wharf.db").exists() && app.store()?.forget_standing(policy)?;
    if context.out.json {
        let value = serde_json::json!({
            "policy": policy, "was": was, "mode": mode, "file": file, "standing_forgotten": forgotten,
        });
        context.out.value(&value)?;
    } else {
        context.out.line(format!("{policy}: {was} -> {mode} ({})", file.display()))?;
    }
    Ok(0)
}

/// Forgets the failures of a policy.
pub(super) fn reset(context: &Context, policy: &str) -> Result<u8, Failure> {
    let store = context.app.store()?;
    let known = context.app.load_policies(false).iter().any(|loaded| loaded.config.name == policy);
    let there = store.forget_standing(policy)?;
    if !known && !there {
        let text = format!("there is no policy '{policy}'");
        return Err(Failure::new("policy-not-found", text, "'wharf policy ls' lists the chain", 5));
    }
    if context.out.json {
        context.out.value(&serde_json::json!({ "policy": policy, "reset": there }))?;
    } else {
        let what = if there { "breakers closed and roll-back cleared" } else { "nothing to reset" };
        context.out.line(format!("{policy}: {what}"))?;
    }
    Ok(0)
}

/// Makes the service reload, and waits for the result.
pub(super) async fn reload(context: &Context) -> Result<u8, Failure> {
    let chain = context.backend(&[])?.reload_policies().await?;
    if context.out.json {
        context.out.value(&chain)?;
    } else {
        context
            .out
            .line(format!("the service has reloaded; its chain has {}", counted(chain.policies.len(), "policy")))?;
    }
    Ok(0)
}
