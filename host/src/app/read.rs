//! The bytes of a policy, from the program or from a file, within their limits and with their digest.

use std::path::Path;
use std::sync::PoisonError;

use super::App;
use crate::builtin::{self, BuiltIn};
use crate::config::PolicyConfig;
use crate::hooks::PolicyError;
use crate::script::{Imports, SOURCE, read_bounded};
use crate::trust;
use crate::workspace::sha256_hex;

/// The bytes of a policy.
pub(super) enum Bytes {
    /// With their digest (SHA-256, hex).
    Plugin(std::borrow::Cow<'static, [u8]>, String),
    Script(std::borrow::Cow<'static, str>, Imports),
}

impl App {
    /// Reads the policy that an entry names: its origin, and its bytes.
    pub(super) fn read(&self, config: &PolicyConfig) -> (String, Result<Bytes, PolicyError>) {
        let missing = |text: String| PolicyError::new("missing", format!("{}: {text}", config.name));
        if let Some(name) = &config.builtin {
            let bytes = match builtin::find(name) {
                Some(policy) => built_in(&config.name, policy, config.digest.as_deref()),
                None => {
                    let all: Vec<_> = builtin::ALL.iter().map(|(name, _)| *name).collect();
                    Err(missing(format!(
                        "'{name}' is not a built-in policy; the built-in policies are {}",
                        all.join(", ")
                    )))
                }
            };
            return ("builtin".into(), bytes);
        }
        let Some(path) = config.wasm.as_ref().or(config.script.as_ref()) else {
            return (String::new(), Err(missing("names neither builtin, wasm nor script".into())));
        };
        let path = self.loaded.base().join(path);
        let most = if config.wasm.is_some() { config.plugin_size() } else { SOURCE as u64 };
        if let Err(trust::Error::Untrusted(untrusted)) = trust::check(&path) {
            let text = format!("{}: {untrusted}: {}", config.name, untrusted.remedy);
            return (path.display().to_string(), Err(PolicyError::new(super::UNTRUSTED, text)));
        }
        let bytes = read_bounded(&path, most).map_err(|why| {
            let raise = if config.wasm.is_some() && why.starts_with("has ") {
                "; raise 'size' in its entry if you trust it: compiling takes up to a hundred times its size in memory"
            } else {
                ""
            };
            missing(format!("{} {why}{raise}", path.display()))
        });
        let bytes = bytes.and_then(|bytes| {
            let bytes = if config.wasm.is_some() {
                let digest = sha256_hex(&bytes);
                Bytes::Plugin(bytes.into(), digest)
            } else {
                let text =
                    String::from_utf8(bytes).map_err(|_| missing(format!("{} is not UTF-8 text", path.display())))?;
                let (folder, mut looked) = (path.parent().unwrap_or(Path::new(".")), Vec::new());
                let imports = Imports::read_telling(&config.name, &text, folder, &mut looked);
                self.imported.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone(), looked);
                let imports = imports?;
                Bytes::Script(text.into(), imports)
            };
            let Some(pinned) = &config.digest else { return Ok(bytes) };
            let digest = match &bytes {
                Bytes::Plugin(_, digest) => digest.clone(),
                Bytes::Script(text, imports) => imports.digest(text),
            };
            let digest = format!("sha256:{digest}");
            if *pinned == digest {
                return Ok(bytes);
            }
            let text = format!("{}: '{}' has the digest {digest}, but {pinned} is pinned", config.name, path.display());
            Err(PolicyError::new("digest", text))
        });
        (path.display().to_string(), bytes)
    }
}

/// Returns the bytes of a built-in policy, if they match the digest that its entry pins.
fn built_in(policy: &str, bytes: BuiltIn, pinned: Option<&str>) -> Result<Bytes, PolicyError> {
    let (bytes, digest) = match bytes {
        BuiltIn::Plugin([], _) => {
            let text = "it is missing in this build; run 'cargo xtask plugins', then build wharf again";
            return Err(PolicyError::new(super::NOT_BUILT, format!("{policy}: {text}")));
        }
        BuiltIn::Plugin(bytes, digest) => (Bytes::Plugin(bytes.into(), digest.to_owned()), digest.to_owned()),
        BuiltIn::Script(text) => (Bytes::Script(text.into(), Imports::default()), sha256_hex(text.as_bytes())),
    };
    if pinned.is_some_and(|pinned| pinned != format!("sha256:{digest}")) {
        let text = format!("{policy}: it has the digest sha256:{digest}, but another digest is pinned");
        return Err(PolicyError::new("digest", text));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_that_the_program_was_built_without_is_refused_with_the_command_that_builds_it() {
        for pinned in [None, Some("sha256:00")] {
            let Err(error) = built_in("security-baseline", BuiltIn::Plugin(&[], ""), pinned) else { panic!() };
            assert_eq!(error.code, "not-built");
            let text = error.to_string();
            assert!(text.contains("security-baseline") && text.contains("cargo xtask plugins"), "{text}");
            assert_eq!(text.lines().count(), 1);
        }
        let error = built_in("p", BuiltIn::Plugin(b"x", "01"), Some("sha256:00")).err().unwrap();
        assert_eq!(error.code, "digest");
    }
}
