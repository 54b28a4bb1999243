//! The bytes of a policy: from the program, or from a file, within their bounds and with their digest.

use std::path::Path;
use std::sync::PoisonError;

use super::App;
use crate::carried::{self, Carried};
use crate::config::PolicyConfig;
use crate::hooks::PolicyError;
use crate::script::{Imports, SOURCE, read_bounded};
use crate::trust;
use crate::workspace::sha256_hex;

/// What was read.
pub(super) enum Bytes {
    /// With their digest (SHA-256, hex).
    Plugin(std::borrow::Cow<'static, [u8]>, String),
    Script(std::borrow::Cow<'static, str>, Imports),
}

impl App {
    /// What the entry names: where it came from, and its bytes.
    pub(super) fn read(&self, config: &PolicyConfig) -> (String, Result<Bytes, PolicyError>) {
        let missing = |text: String| PolicyError::new("missing", format!("{}: {text}", config.name));
        if let Some(name) = &config.builtin {
            let carried = carried::find(name);
            let digest = || match carried {
                Some(Carried::Plugin(_, digest)) => digest.to_owned(),
                Some(Carried::Script(text)) => sha256_hex(text.as_bytes()),
                None => String::new(),
            };
            let bytes = match carried {
                Some(_) if config.digest.as_ref().is_some_and(|pinned| *pinned != format!("sha256:{}", digest())) => {
                    let text = format!("{}: has the digest sha256:{}, pinned is another", config.name, digest());
                    Err(PolicyError::new("digest", text))
                }
                Some(Carried::Plugin(bytes, digest)) => Ok(Bytes::Plugin(bytes.into(), digest.to_owned())),
                Some(Carried::Script(text)) => Ok(Bytes::Script(text.into(), Imports::default())),
                None => {
                    let all: Vec<_> = carried::ALL.iter().map(|(name, _)| *name).collect();
                    Err(missing(format!("'{name}' is not carried by this program; there are {}", all.join(", "))))
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
            let text = format!("{}: {} has the digest {digest}, pinned is {pinned}", config.name, path.display());
            Err(PolicyError::new("digest", text))
        });
        (path.display().to_string(), bytes)
    }
}
