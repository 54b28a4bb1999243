//! The plugin's settings and their defaults.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::languages::{BUILT_IN, built_in};
use crate::reference;

/// The placeholder for the version in an image template.
pub const VERSION: &str = "{version}";

/// See the crate's documentation.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    pub default_image: String,
    pub prefer: Vec<String>,
    pub languages: BTreeMap<String, LanguageSettings>,
    pub digests: BTreeMap<String, String>,
    pub require_digest: bool,
    pub allow: Vec<String>,
}

/// The settings of one language. For a built-in language, each missing part falls back to the built-in one.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LanguageSettings {
    /// An image reference with `{version}` as a placeholder for the version.
    pub image: Option<String>,
    /// The version if the project specifies none.
    pub version: Option<String>,
    /// Files at the top of the project that indicate the language, in addition to the built-in ones.
    pub files: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            default_image: "debian:stable-slim".into(),
            prefer: Vec::new(),
            languages: BTreeMap::new(),
            digests: BTreeMap::new(),
            require_digest: false,
            allow: Vec::new(),
        }
    }
}

impl Settings {
    /// Checks rules that the types cannot express.
    pub fn check(&self) -> Result<(), String> {
        if !reference::is_valid(&self.default_image) {
            return Err(format!("setting `default_image`: `{}` is no image reference", self.default_image));
        }
        for (name, language) in &self.languages {
            let has_image = built_in(name).is_some_and(|known| known.image.is_some());
            if !has_image && (language.image.is_none() || language.version.is_none()) {
                return Err(format!(
                    "setting `languages.{name}`: a language without a built-in image takes image and version"
                ));
            }
            let image = self.image(name).unwrap_or_default();
            if !reference::is_valid(&image.replace(VERSION, "1")) {
                return Err(format!("setting `languages.{name}.image`: `{image}` is no image reference"));
            }
        }
        for (image, digest) in &self.digests {
            if !reference::is_digest(digest) {
                let takes = "a digest is `sha256:` and 64 hexadecimal digits";
                return Err(format!("setting `digests.\"{image}\"`: `{digest}` is no digest; {takes}"));
            }
            if !reference::is_valid(image) || image.contains('@') {
                return Err(format!(
                    "setting `digests.\"{image}\"`: the key is an image with a tag, e.g. `node:22-slim`"
                ));
            }
        }
        match self.prefer.iter().find(|name| !self.order().contains(&name.as_str())) {
            Some(name) => {
                Err(format!("setting `prefer`: `{name}` is no language; known are {}", self.order().join(", ")))
            }
            None => Ok(()),
        }
    }

    /// Returns all languages in order of precedence: the preferred ones, the built-in ones, the others by name.
    pub fn order(&self) -> Vec<&str> {
        let preferred = self.prefer.iter().map(String::as_str).filter(|name| self.knows(name));
        let all =
            preferred.chain(BUILT_IN.iter().map(|known| known.name)).chain(self.languages.keys().map(String::as_str));
        let mut order: Vec<&str> = Vec::new();
        for name in all {
            if !order.contains(&name) {
                order.push(name);
            }
        }
        order
    }

    fn knows(&self, language: &str) -> bool {
        self.languages.contains_key(language) || built_in(language).is_some()
    }

    /// Returns the image template of a language, if it has one.
    pub fn image(&self, language: &str) -> Option<&str> {
        let set = self.languages.get(language).and_then(|language| language.image.as_deref());
        set.or_else(|| built_in(language)?.image)
    }

    /// Returns the version of a language if the project specifies none.
    pub fn version(&self, language: &str) -> &str {
        let set = self.languages.get(language).and_then(|language| language.version.as_deref());
        set.or_else(|| built_in(language).map(|known| known.version)).unwrap_or("latest")
    }

    /// Returns the additional files from the settings that indicate a language.
    pub fn files(&self, language: &str) -> &[String] {
        self.languages.get(language).map(|language| language.files.as_slice()).unwrap_or_default()
    }

    /// Returns whether an image is allowed: every image, unless there is a list.
    ///
    /// A reference by digest is also allowed if it is the pinned form of an allowed image.
    pub fn allows(&self, reference: &str) -> bool {
        let listed = |image: &str| {
            let image = reference::normalized(image);
            self.allow.iter().any(|pattern| reference::matches(pattern, &image))
        };
        let is_pin_of = |image: &str, digest: &str| {
            reference::normalized(&reference::pinned(image, digest)) == reference::normalized(reference)
        };
        self.allow.is_empty()
            || listed(reference)
            || self.digests.iter().any(|(image, digest)| listed(image) && is_pin_of(image, digest))
    }

    /// Returns the pinned form of a reference, if its digest is known.
    pub fn pin(&self, reference: &str) -> Option<String> {
        let wanted = reference::normalized(reference);
        let (_, digest) = self.digests.iter().find(|(image, _)| reference::normalized(image) == wanted)?;
        Some(reference::pinned(reference, digest))
    }
}
