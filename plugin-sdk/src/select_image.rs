//! Hook `select-image`: chooses the image for a workspace. Runs first.

use crate::types::PullPolicy;
use crate::{Plugin, bindings, export, settings};

pub use bindings::select_image::exports::wharf::policy::image_selection::{Denial, ImageChoice, Input, Verdict};

/// Chooses an image.
pub trait SelectImage: Plugin {
    /// Returns the files that the hook wants to read in `input.project`, as paths relative to the project folder.
    ///
    /// At most 64 are honoured; paths that leave the project are ignored. None by default.
    fn wanted_files(_settings: &Self::Settings) -> Vec<String> {
        Vec::new()
    }

    /// Chooses the image, keeps the current choice, or denies.
    ///
    /// # Errors
    /// An error if no verdict can be given; the host then denies the create with this text.
    fn select_image(input: Input, settings: Self::Settings) -> Result<Verdict, String>;
}

impl Verdict {
    /// Chooses an image, which is pulled if the engine does not have it. The reason is one line for users.
    pub fn choose(reference: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Choose(ImageChoice { reference: reference.into(), pull: PullPolicy::Missing, reason: reason.into() })
    }

    /// Denies, with a short stable code for programs, and one line with the problem and its remedy.
    pub fn deny(code: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Deny(Denial { reason: reason.into(), code: code.into() })
    }
}

impl<P: SelectImage> bindings::select_image::exports::wharf::policy::image_selection::Guest for P {
    fn wanted_files(json: String) -> Vec<String> {
        export::enter();
        settings::for_files(&json, <P as SelectImage>::wanted_files)
    }

    fn select_image(input: Input, json: String) -> Result<Verdict, String> {
        export::enter();
        <P as SelectImage>::select_image(input, settings::parse(&json)?)
    }
}
