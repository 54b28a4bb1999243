//! Stages: the current work, and the time that it took.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// The stages of a command, printed as they run.
pub struct Stages {
    done: Vec<(&'static str, Duration)>,
}

impl Stages {
    /// Creates an empty list of stages.
    pub fn new() -> Self {
        Self { done: Vec::new() }
    }

    /// Runs a stage. If it fails, its name is in the error, which is therefore the last printed line.
    ///
    /// # Errors
    /// The stage's own.
    pub fn run<T>(&mut self, name: &'static str, stage: impl FnOnce() -> Result<T>) -> Result<T> {
        eprintln!("\n==> {name}");
        let begin = Instant::now();
        let result = stage().with_context(|| format!("the step '{name}' failed"))?;
        self.done.push((name, begin.elapsed()));
        eprintln!("    {}", seconds(begin.elapsed()));
        Ok(result)
    }

    /// Returns all stages with their times, and the total.
    pub fn summary(&self) -> String {
        let total: Duration = self.done.iter().map(|(_, time)| *time).sum();
        let lines = self.done.iter().map(|(name, time)| format!("  {:>8}  {name}\n", seconds(*time)));
        format!("{}  {:>8}  in all", lines.collect::<String>(), seconds(total))
    }
}

fn seconds(time: Duration) -> String {
    match time.as_secs() {
        0..60 => format!("{:.1} s", time.as_secs_f64()),
        all => format!("{} m {:02} s", all / 60, all % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_that_fails_is_named_in_the_error() {
        let mut stages = Stages::new();
        stages.run("good", || Ok(())).unwrap();
        let error = stages.run("bad", || Err::<(), _>(anyhow::anyhow!("no reason"))).unwrap_err();
        assert_eq!(format!("{error:#}"), "the step 'bad' failed: no reason");
        assert!(stages.summary().contains("good") && !stages.summary().contains("bad"));
        assert_eq!(seconds(Duration::from_secs(61)), "1 m 01 s");
    }
}
