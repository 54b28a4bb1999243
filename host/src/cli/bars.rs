//! Progress of commands that take longer than a second: on a terminal below its cursor, elsewhere a few plain lines.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressStyle};

use super::output::say;
use crate::printable::Printable;
use crate::wire::Progress;

/// The time after which a wait is shown on a terminal.
const SOON: Duration = Duration::from_secs(1);
/// The time after which a wait is worth a line elsewhere.
const LATE: Duration = Duration::from_secs(5);
/// The times of a pull after which a line tells how far it is, where there is no terminal.
const LINES: [Duration; 3] = [Duration::from_secs(10), Duration::from_secs(60), Duration::from_secs(300)];
/// The number of layers with a bar of their own. Those of a large image would fill the screen.
const LAYERS: usize = 8;

const LAYER: &str = "  {prefix:12} {msg:18!} {wide_bar} {bytes:>10} of {total_bytes:<10}";
const WAITING_LAYER: &str = "  {prefix:12} {msg:18!}";
const TOTAL: &str = "  {prefix:12} {msg:18!} {wide_bar} {bytes:>10} of {total_bytes:<10} {binary_bytes_per_sec}";

/// Progress on stderr of verbs that make something.
pub(crate) struct Bars {
    silent: bool,
    multi: Option<MultiProgress>,
    step: Option<ProgressBar>,
    total: Option<ProgressBar>,
    bars: BTreeMap<String, ProgressBar>,
    layers: Layers,
    begun: Instant,
    lines: usize,
}

impl Bars {
    pub(crate) fn new(silent: bool) -> Self {
        let multi = (!silent && super::terminal::is_err()).then(MultiProgress::new);
        Self {
            silent,
            multi,
            step: None,
            total: None,
            bars: BTreeMap::new(),
            layers: Layers::default(),
            begun: Instant::now(),
            lines: 0,
        }
    }

    pub(crate) fn show(&mut self, progress: Progress) {
        if self.silent {
            return;
        }
        match (progress, self.multi.clone()) {
            (Progress::Step { text }, None) => say(text),
            (Progress::Build { text }, None) => Printable::lines(&text).for_each(say),
            (Progress::Build { text }, Some(multi)) => {
                // Lines appear above the bars, if there are any.
                for line in Printable::lines(&text) {
                    let _ = multi.println(line.as_str());
                }
            }
            (Progress::Step { text }, Some(multi)) => {
                let step = self.step.get_or_insert_with(|| spinner(multi.add(ProgressBar::new_spinner())));
                step.set_message(Printable::from(text).to_string());
            }
            (Progress::Pull { layer: Some(layer), status, current, total }, multi) => {
                let layer = Printable::from(layer).to_string();
                self.layers.note(&layer, &status, current, total);
                match multi {
                    Some(multi) => self.draw(&multi, layer, status),
                    None => self.tell(),
                }
            }
            (Progress::Pull { .. } | Progress::Unknown, _) => {}
        }
    }

    /// Draws the bar of a layer, and the sum of all below.
    fn draw(&mut self, multi: &MultiProgress, layer: String, status: String) {
        let total =
            self.total.get_or_insert_with(|| multi.add(styled(ProgressBar::new(0), TOTAL).with_prefix("total")));
        let (done, all) = self.layers.sum();
        total.set_length(all);
        total.set_position(done);
        total.set_message(self.layers.count());
        if !self.bars.contains_key(&layer) && self.bars.len() >= LAYERS {
            return;
        }
        let Some(known) = self.layers.0.get(&layer) else { return };
        let bar = self.bars.entry(layer.clone()).or_insert_with(|| {
            multi.insert_before(total, styled(ProgressBar::new(0), WAITING_LAYER).with_prefix(layer))
        });
        // A layer that waits has no bar: an empty one looks like a full one.
        bar.set_style(style(if known.in_step.1 > 0 { LAYER } else { WAITING_LAYER }));
        bar.set_length(known.in_step.1);
        bar.set_position(known.in_step.0);
        bar.set_message(Printable::from(status).to_string());
    }

    /// Tells from time to time how far a pull is.
    fn tell(&mut self) {
        if LINES.get(self.lines).is_some_and(|after| self.begun.elapsed() >= *after) {
            self.lines += 1;
            let (done, all) = self.layers.sum();
            say(format!("pulled {} of {}, {}", HumanBytes(done), HumanBytes(all), self.layers.count()));
        }
    }

    pub(crate) fn clear(&mut self) {
        if let Some(multi) = &self.multi {
            // A bar that cannot be cleared is harmless.
            let _ = multi.clear();
        }
    }
}

/// The layers of a pull, by id.
#[derive(Default)]
struct Layers(BTreeMap<String, Layer>);

#[derive(Default)]
struct Layer {
    /// Bytes done and to do in its current step: downloading, extracting.
    in_step: (u64, u64),
    /// Bytes downloaded and to download.
    fetched: (u64, u64),
    done: bool,
}

impl Layers {
    /// Notes the engine's message about a layer.
    fn note(&mut self, layer: &str, status: &str, current: Option<u64>, total: Option<u64>) {
        let layer = self.0.entry(layer.to_owned()).or_default();
        layer.in_step = (current.unwrap_or(0), total.unwrap_or(0));
        match status {
            "Downloading" => layer.fetched = layer.in_step,
            "Verifying Checksum" | "Download complete" | "Extracting" => layer.fetched.0 = layer.fetched.1,
            "Pull complete" | "Already exists" => {
                layer.fetched.0 = layer.fetched.1;
                layer.done = true;
            }
            _ => {}
        }
    }

    /// Returns the bytes downloaded and to download of all layers whose size is known.
    fn sum(&self) -> (u64, u64) {
        self.0.values().fold((0, 0), |(done, all), layer| (done + layer.fetched.0, all + layer.fetched.1))
    }

    fn count(&self) -> String {
        format!("{} of {} layers", self.0.values().filter(|layer| layer.done).count(), self.0.len())
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    bar.with_style(style(template))
}

fn spinner(bar: ProgressBar) -> ProgressBar {
    let bar = styled(bar, "{spinner} {wide_msg} {elapsed:>4}");
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// A wait without steps. Once it takes long, a terminal shows it until it ends, and a pipe gets one line.
pub(crate) struct Waiting(Option<(ProgressBar, tokio::task::JoinHandle<()>)>);

impl Waiting {
    /// Begins a wait; `text` says what is waited for.
    pub(crate) fn new(silent: bool, text: impl Into<Printable>) -> Self {
        if silent {
            return Self(None);
        }
        let (text, bar) = (text.into(), ProgressBar::hidden());
        let (shown, terminal) = (bar.clone(), super::terminal::is_err());
        let task = tokio::spawn(async move {
            tokio::time::sleep(if terminal { SOON } else { LATE }).await;
            if terminal {
                shown.set_draw_target(super::terminal::draw_target());
                shown.set_message(text.to_string());
                spinner(shown);
            } else {
                say(format!("{text} ..."));
            }
        });
        Self(Some((bar, task)))
    }

    /// Prints something while the wait is shown.
    pub(crate) fn above<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.0 {
            Some((bar, _)) => bar.suspend(print),
            None => print(),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some((bar, task)) = self.0.take() {
            task.abort();
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_a_pull_counts_each_byte_once() {
        let mut layers = Layers::default();
        layers.note("a", "Waiting", None, None);
        layers.note("b", "Downloading", Some(10), Some(100));
        assert_eq!((layers.sum(), layers.0["a"].in_step), ((10, 100), (0, 0)));
        layers.note("b", "Download complete", None, None);
        layers.note("b", "Extracting", Some(5), Some(100));
        assert_eq!((layers.sum(), layers.0["b"].in_step), ((100, 100), (5, 100)));
        layers.note("b", "Pull complete", None, None);
        layers.note("c", "Already exists", None, None);
        assert_eq!((layers.sum(), layers.count()), ((100, 100), "2 of 3 layers".to_owned()));
    }

    /// A terminal of 80 columns that keeps its lines.
    #[derive(Debug, Clone, Default)]
    struct Screen(std::sync::Arc<std::sync::Mutex<String>>);

    impl indicatif::TermLike for Screen {
        fn width(&self) -> u16 {
            80
        }
        fn move_cursor_up(&self, _: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> std::io::Result<()> {
            self.write_str(text)
        }
        fn write_str(&self, text: &str) -> std::io::Result<()> {
            self.0.lock().unwrap().push_str(text);
            Ok(())
        }
        fn clear_line(&self) -> std::io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_line_of_a_pull_fits_into_80_columns_and_only_bytes_have_a_bar() {
        for (template, has_bar) in [(LAYER, true), (WAITING_LAYER, false), (TOTAL, true)] {
            let screen = Screen::default();
            let bar = styled(ProgressBar::new(987_654_321), template).with_prefix("032effcd3850");
            bar.set_draw_target(indicatif::ProgressDrawTarget::term_like(Box::new(screen.clone())));
            bar.set_message("Verifying Checksum");
            bar.set_position(123_456_789);
            bar.abandon();
            let text = screen.0.lock().unwrap().clone();
            let last = text.rsplit("  032effcd3850").next().unwrap();
            assert!(14 + crate::cli::output::width(last.trim_end()) <= 80, "{text:?}");
            assert_eq!(last.contains('\u{2588}'), has_bar, "{text:?}");
        }
    }
}
