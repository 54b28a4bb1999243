//! Chooses the image of a workspace from what its project says.
//!
//! The first of these that says something decides:
//!  1. the person who asked (`--image`): their choice stands;
//!  2. `image` in `.devcontainer/devcontainer.json` or `.devcontainer.json`;
//!  3. `build` in such a file: what the host is going to build stands;
//!  4. `.tool-versions`;
//!  5. the files of a language, with the version that they pin:
//!
//!     | language | files |
//!     | --- | --- |
//!     | rust | `rust-toolchain.toml`, `rust-toolchain`, `Cargo.toml` (`rust-version`, as the oldest that will do) |
//!     | go | `go.mod` |
//!     | elixir | `mix.exs` |
//!     | java | `.java-version`, `pom.xml`, `build.gradle`, `build.gradle.kts` |
//!     | php | `composer.json` |
//!     | ruby | `.ruby-version`, `Gemfile` |
//!     | python | `.python-version`, `pyproject.toml`, `requirements.txt`, `setup.py` |
//!     | node | `.nvmrc`, `.node-version`, `package.json` (`engines.node`) |
//!
//!     Several at once: the order of this table, after the languages in `prefer`;
//!  6. what the configuration or an earlier policy chose;
//!  7. `default_image`.
//!
//! A version may be a range (`^20 || >=22`, `>=3.10,<4`): the default version is taken when it satisfies the range,
//! else the newest series of the range's highest alternative. What can't be read falls to the default, with a line in
//! the decision record.
//!
//! # Settings
//!
//! All are optional. Below the policy's entry in `wharf.toml`:
//!
//! ```toml
//! [settings]
//! default_image = "debian:stable-slim"
//! prefer = ["python", "node"]                  # these win over the other languages, in this order
//! allow = ["node:*", "registry.example/**"]    # others are denied (`image-not-allowed`), asked for or not;
//!                                              # `*` stops at a slash, `**` does not; none allows all
//! require_digest = true                        # an image without a digest is denied (`image-not-pinned`)
//!
//! [settings.languages]
//! node = { image = "node:{version}-slim", version = "22" }           # either may be left out
//! zig = { image = "registry.example/zig:{version}", version = "0.13", files = ["build.zig"] }
//!
//! [settings.digests]                  # pins: the reference becomes node@sha256:...
//! "node:22-slim" = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
//! ```

use wharf_plugin_sdk::select_image::{Input, SelectImage, Verdict};
use wharf_plugin_sdk::{Plugin, export_plugin};

mod formats;
mod languages;
mod reference;
mod settings;
mod version;

use settings::{Settings, VERSION};

/// The plugin.
struct ImageSelector;

export_plugin!(ImageSelector: select_image);

impl Plugin for ImageSelector {
    type Settings = Settings;

    fn check(settings: &Settings) -> Result<(), String> {
        settings.check()
    }
}

impl SelectImage for ImageSelector {
    fn wanted_files(_: &Settings) -> Vec<String> {
        languages::wanted_files()
    }

    fn select_image(input: Input, settings: Settings) -> Result<Verdict, String> {
        let current = input.current.as_ref().map(|choice| choice.reference.as_str());
        if let Some(current) = current.filter(|_| input.requested) {
            return Ok(leave(current, &settings));
        }
        if let Some((image, file)) = languages::devcontainer(&input.project) {
            return Ok(choose(&image, &format!("{file} names it"), &settings));
        }
        // The host puts what it is going to build in the place of a choice.
        if let Some(current) = current.filter(|_| languages::built_by(&input.project).is_some()) {
            return Ok(leave(current, &settings));
        }
        if let Some(found) = languages::find(&input.project, &settings) {
            let image = settings.image(&found.language).replace(VERSION, &found.version);
            return Ok(choose(&image, &found.reason, &settings));
        }
        Ok(match current {
            Some(current) => leave(current, &settings),
            None => choose(&settings.default_image, "nothing in the project asks for another", &settings),
        })
    }
}

/// Chooses an image, pinned when its digest is known, unless it may not be used.
fn choose(image: &str, reason: &str, settings: &Settings) -> Verdict {
    let pinned = settings.pin(image);
    let refusal = refusal(image, pinned.as_deref().unwrap_or(image), settings);
    refusal.unwrap_or_else(|| match &pinned {
        Some(pinned) => Verdict::choose(pinned, format!("{reason} ({image}, pinned)")),
        None => Verdict::choose(image, reason),
    })
}

/// Leaves the choice of another policy as it is, unless it may not be used.
fn leave(image: &str, settings: &Settings) -> Verdict {
    refusal(image, image, settings).unwrap_or(Verdict::Pass)
}

/// Says why an image may not be used, if it may not. The allowed ones are listed by tag, so that the list is compared
/// with what was meant and the need for a digest with what is used.
fn refusal(meant: &str, used: &str, settings: &Settings) -> Option<Verdict> {
    if !settings.allows(meant) {
        let list = settings.allow.join(", ");
        let reason = format!("the image `{meant}` is not allowed; allowed are {list} (setting `allow`)");
        return Some(Verdict::deny("image-not-allowed", reason));
    }
    if settings.require_digest && !reference::is_pinned(used) {
        let way = match settings.pin(meant) {
            Some(pinned) => format!("ask for `{pinned}`"),
            None => "name it by digest, or add it to the setting `digests`".to_owned(),
        };
        return Some(Verdict::deny("image-not-pinned", format!("the image `{meant}` has no digest; {way}")));
    }
    None
}

#[cfg(test)]
mod tests;
