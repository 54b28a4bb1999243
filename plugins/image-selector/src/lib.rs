//! Chooses the image of a workspace from its project's files.
//!
//! The first of these sources that gives an answer decides:
//!  1. the caller (`--image`): their choice stands;
//!  2. `image` in `.devcontainer/devcontainer.json` or `.devcontainer.json`;
//!  3. `build` in such a file: the image that the host is going to build stands;
//!  4. the languages of the project, with the versions that its files state. `docs/plugins.md` has the table of
//!     languages, files and images, and the order of both;
//!  5. the choice of the configuration or an earlier policy;
//!  6. `default_image`.
//!
//! A version may be a range (`^20 || >=22`, `>=3.10,<4`). The default version is used if it satisfies the range,
//! otherwise the shortest version that satisfies the range's highest alternative. The first version that can be read
//! counts; without any, the default does.
//!
//! A file counts if the host hands over its text. The reason names files that cannot be read, versions that are
//! overruled, other languages, and Dockerfiles and Compose files, which do not decide.
//!
//! # Settings
//!
//! All are optional. They are written below the policy's entry in `wharf.toml`:
//!
//! ```toml
//! [settings]
//! default_image = "debian:stable-slim"
//! prefer = ["python", "node"]                  # take precedence over other languages, in this order
//! allow = ["node:*", "registry.example/**"]    # others are denied (`image-not-allowed`), even on request;
//!                                              # `*` stops at a slash, `**` does not; none allows all
//! require_digest = true                        # an image without a digest is denied (`image-not-pinned`)
//!
//! [settings.languages]
//! node = { image = "node:{version}-slim", version = "22" }           # either may be omitted
//! zig = { image = "registry.example/zig:{version}", version = "0.13" } # both, without an official image
//! dotnet = { files = ["Shop.csproj"] }                                 # read for its TargetFramework
//!
//! [settings.digests]                  # pins: the reference becomes node@sha256:...
//! "node:22-slim" = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
//! ```

use wharf_plugin_sdk::select_image::{Input, SelectImage, Verdict};
use wharf_plugin_sdk::{Plugin, export_plugin, log};

mod formats;
mod languages;
mod project;
mod readers;
mod reference;
mod settings;
mod survey;
mod version;

use project::Files;
use settings::{Settings, VERSION};

/// The length of a reason, in characters. Notes that do not fit go to the log.
const MOST_REASON: usize = 200;

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
    fn wanted_files(settings: &Settings) -> Vec<String> {
        project::wanted_files(settings)
    }

    fn select_image(input: Input, settings: Settings) -> Result<Verdict, String> {
        let current = input.current.as_ref().map(|choice| choice.reference.as_str());
        if let Some(current) = current.filter(|_| input.requested) {
            return Ok(leave(current, &settings));
        }
        let files = Files::new(&input.project, &settings);
        if let Some((image, file)) = files.devcontainer() {
            return Ok(choose(&image, &format!("{file} names it"), &settings));
        }
        // The host replaces the choice with the image that it is going to build.
        if let Some(current) = current.filter(|_| files.builds_devcontainer()) {
            return Ok(leave(current, &settings));
        }
        let survey = survey::survey(&files, &settings);
        let notes = survey.notes.into_iter().chain(files.notes());
        if let Some(found) = survey.found
            && let Some(template) = settings.image(&found.language)
        {
            let reason = fitted(survey.reason.unwrap_or_default(), notes);
            return Ok(choose(&template.replace(VERSION, &found.version), &reason, &settings));
        }
        Ok(match current {
            // The choice of another keeps its own reason.
            Some(current) => {
                survey.reason.into_iter().chain(notes).for_each(log::info);
                leave(current, &settings)
            }
            None => {
                let reason = survey.reason.unwrap_or_else(|| "nothing in the project asks for another".to_owned());
                choose(&settings.default_image, &fitted(reason, notes), &settings)
            }
        })
    }
}

/// Adds notes to a reason as long as they fit. The others go to the log.
fn fitted(mut reason: String, notes: impl Iterator<Item = String>) -> String {
    const MORE: &str = "; more in `wharf why`";
    let mut more = false;
    for note in notes {
        if reason.chars().count() + note.chars().count() + 2 <= MOST_REASON - MORE.len() {
            reason.push_str("; ");
            reason.push_str(&note);
        } else {
            log::info(note);
            more = true;
        }
    }
    if more {
        reason.push_str(MORE);
    }
    reason
}

/// Chooses an image, pinned if its digest is known, unless it is not allowed.
fn choose(image: &str, reason: &str, settings: &Settings) -> Verdict {
    let pinned = settings.pin(image);
    let refusal = refusal(image, pinned.as_deref().unwrap_or(image), settings);
    refusal.unwrap_or_else(|| match &pinned {
        Some(pinned) => Verdict::choose(pinned, format!("{reason} ({image}, pinned)")),
        None => Verdict::choose(image, reason),
    })
}

/// Keeps the choice of another policy, unless it is not allowed.
fn leave(image: &str, settings: &Settings) -> Verdict {
    refusal(image, image, settings).unwrap_or(Verdict::Pass)
}

/// Returns a denial if an image is not allowed. The allowed images are listed by tag, so the list is compared with
/// the requested reference, and the digest requirement with the reference in use.
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
