//! Progress of verbs that make something: bars on a terminal, lines elsewhere.

use std::collections::HashMap;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::output::say;
use crate::printable::Printable;
use crate::wire::Progress;

/// Progress on stderr: bars on a terminal, plain lines elsewhere.
pub(crate) struct Bars {
    silent: bool,
    multi: Option<MultiProgress>,
    step: Option<ProgressBar>,
    layers: HashMap<String, ProgressBar>,
}

impl Bars {
    pub(crate) fn new(silent: bool) -> Self {
        let multi = (!silent && super::terminal::is_err()).then(MultiProgress::new);
        Self { silent, multi, step: None, layers: HashMap::new() }
    }

    pub(crate) fn show(&mut self, progress: Progress) {
        if self.silent {
            return;
        }
        let Some(multi) = &self.multi else {
            match progress {
                Progress::Step { text } => say(text),
                Progress::Build { text } => Printable::lines(&text).for_each(say),
                Progress::Pull { .. } | Progress::Unknown => {}
            }
            return;
        };
        match progress {
            Progress::Build { text } => {
                // Lines appear above the bars, if there are any.
                for line in Printable::lines(&text) {
                    let _ = multi.println(line.as_str());
                }
            }
            Progress::Step { text } => {
                let step = self.step.get_or_insert_with(|| {
                    let bar = multi.add(ProgressBar::new_spinner());
                    bar.enable_steady_tick(std::time::Duration::from_millis(100));
                    bar
                });
                step.set_message(Printable::from(text).to_string());
            }
            Progress::Unknown => {}
            Progress::Pull { layer, status, current, total } => {
                let Some(layer) = layer else { return };
                let bar = self.layers.entry(layer.clone()).or_insert_with(|| {
                    let bar = multi.add(ProgressBar::new(0));
                    let style = ProgressStyle::with_template("  {prefix:12} {msg:18} {bar:30} {bytes}/{total_bytes}");
                    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
                    bar.set_prefix(Printable::from(layer).to_string());
                    bar
                });
                if let Some(total) = total {
                    bar.set_length(total);
                }
                if let Some(current) = current {
                    bar.set_position(current);
                }
                bar.set_message(Printable::from(status).to_string());
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        if let Some(multi) = &self.multi {
            // A bar that cannot be cleared is harmless.
            let _ = multi.clear();
        }
    }
}
