//! Policies that are loaded when they are first called.
//!
//! The hooks that a policy implements and the files that it wants to see depend only on its bytes, its settings and
//! this program, since it has no other input. So after it was loaded once and had accepted its settings, a card with
//! these facts is stored in the private folder of compiled code. A policy with a card takes its place in the chain
//! without being loaded. A command that calls two of six policies loads only two.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde::{Deserialize, Serialize};

use crate::hooks::{Hook, HookRequest, Limits, Policy, PolicyError, PolicyKind, Reply};
use crate::wasm::{WIT_VERSION, private_folder};
use crate::workspace::sha256_hex;

/// Loads the policy itself. A policy that was loaded before gets the files that it wanted to see, and does not check
/// its settings again.
pub(super) type Load = dyn Fn(Option<&[String]>) -> Result<Arc<dyn Policy>, PolicyError> + Send + Sync;

/// The version of the loading rules: a policy that was loaded by other rules is loaded again.
const RULES: u32 = 2;

/// The known facts about a policy that was loaded before.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Card {
    hooks: Vec<Hook>,
    wanted_files: Vec<String>,
}

/// A policy with its card.
struct Lazy {
    name: String,
    kind: PolicyKind,
    digest: String,
    card: Card,
    load: Box<Load>,
    loaded: OnceLock<Arc<dyn Policy>>,
    /// Held during the load, so that it happens once.
    loading: Mutex<()>,
}

/// The identity of a policy: everything that its card depends on.
pub(super) struct Identity<'a> {
    pub(super) name: &'a str,
    pub(super) kind: PolicyKind,
    /// SHA-256 (hex) of its bytes.
    pub(super) digest: String,
    pub(super) settings: &'a serde_json::Value,
    pub(super) limits: Limits,
}

impl Identity<'_> {
    fn card(&self, folder: &Path) -> PathBuf {
        // The limits are part of the identity: with other limits it might not have loaded.
        let all = format!(
            "{RULES} {} {WIT_VERSION} {:?} {} {} {:?}",
            env!("CARGO_PKG_VERSION"),
            self.kind,
            self.digest,
            self.settings,
            self.limits
        );
        folder.join(format!("{}.json", sha256_hex(all.as_bytes())))
    }
}

/// Returns a policy: unloaded if its card exists, otherwise loaded, and its card is written.
pub(super) fn policy(identity: &Identity, folder: &Path, load: Box<Load>) -> Result<Arc<dyn Policy>, PolicyError> {
    // The folder must be private: a card by another user could leave hooks out.
    let file = private_folder(folder).ok().map(|()| identity.card(folder));
    let card = file.as_ref().and_then(|file| serde_json::from_slice(&std::fs::read(file).ok()?).ok());
    let Some(card) = card else {
        let policy = load(None)?;
        if let Some(file) = file {
            let card = Card { hooks: policy.hooks().to_vec(), wanted_files: policy.wanted_files().to_vec() };
            // Without the card the next start only takes longer.
            if let Err(error) = write(&file, &card) {
                tracing::debug!("{}: {error}", file.display());
            }
        }
        return Ok(policy);
    };
    let (name, kind, digest) = (identity.name.to_owned(), identity.kind, identity.digest.clone());
    Ok(Arc::new(Lazy { name, kind, digest, card, load, loaded: OnceLock::new(), loading: Mutex::new(()) }))
}

/// Writes a card to a temporary file and renames it, so that a reader never sees an incomplete card.
fn write(file: &Path, card: &Card) -> std::io::Result<()> {
    let aside = file.with_extension(format!("{}.tmp", std::process::id()));
    std::fs::write(&aside, serde_json::to_vec(card)?)?;
    std::fs::rename(&aside, file)
}

impl Lazy {
    fn loaded(&self) -> Result<&Arc<dyn Policy>, PolicyError> {
        if let Some(policy) = self.loaded.get() {
            return Ok(policy);
        }
        let _loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(policy) = self.loaded.get() {
            return Ok(policy);
        }
        let policy = (self.load)(Some(&self.card.wanted_files))?;
        let card = Card { hooks: policy.hooks().to_vec(), wanted_files: policy.wanted_files().to_vec() };
        if card != self.card {
            let text = format!("{}: it does not match its card; remove the folder of compiled code", self.name);
            return Err(PolicyError::new("card", text));
        }
        Ok(self.loaded.get_or_init(|| policy))
    }
}

impl Policy for Lazy {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> PolicyKind {
        self.kind
    }

    fn digest(&self) -> &str {
        &self.digest
    }

    fn hooks(&self) -> &[Hook] {
        &self.card.hooks
    }

    fn wanted_files(&self) -> &[String] {
        &self.card.wanted_files
    }

    fn prepare(&self) {
        // The call that needs the policy reports the failure.
        let _ = self.loaded();
    }

    fn evaluate(&self, request: &HookRequest) -> Result<Reply, PolicyError> {
        self.loaded()?.evaluate(request)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::script::RhaiPolicy;

    #[test]
    fn a_policy_with_a_card_is_loaded_when_it_is_asked_and_other_settings_have_no_card() {
        let folder = std::env::temp_dir().join(format!("wharf-cards-{}", std::process::id()));
        let count = Arc::new(AtomicUsize::new(0));
        let source = "fn pre_stop(ctx) { ctx.note(\"x\"); }";
        let get = |settings: serde_json::Value| {
            let (count, given) = (count.clone(), settings.clone());
            let load = move |_: Option<&[String]>| -> Result<Arc<dyn Policy>, PolicyError> {
                count.fetch_add(1, Ordering::SeqCst);
                Ok(Arc::new(RhaiPolicy::load("p", source, given.clone(), Limits::default())?))
            };
            let digest = sha256_hex(source.as_bytes());
            let identity = Identity {
                name: "p",
                kind: PolicyKind::Script,
                digest,
                settings: &settings,
                limits: Limits::default(),
            };
            let policy = policy(&identity, &folder, Box::new(load)).unwrap();
            assert_eq!(policy.hooks(), [Hook::PreStop]);
            policy
        };
        get(serde_json::json!({}));
        assert_eq!(count.load(Ordering::SeqCst), 1, "without a card it is loaded");
        let lazy = get(serde_json::json!({}));
        assert_eq!(count.load(Ordering::SeqCst), 1, "with its card it is not");
        get(serde_json::json!({ "other": 1 }));
        assert_eq!(count.load(Ordering::SeqCst), 2, "other settings have no card");
        let request = crate::hooks::HookRequest {
            hook: Hook::PreStop,
            facts: crate::hooks::Facts::default().into(),
            now_ms: 0,
            spec: crate::workspace::ContainerSpec::empty(),
            subject: crate::hooks::Subject::Stop { verb: "stop".into() },
        };
        lazy.evaluate(&request).unwrap();
        lazy.evaluate(&request).unwrap();
        assert_eq!(count.load(Ordering::SeqCst), 3, "asked twice, loaded once");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
