//! The loop `sweeps`: runs the policies' `cleanup` at the interval of `cleanup.interval`.

use std::sync::Arc;
use std::time::Duration;

use super::{ServiceEvent, Shared, Stop, slept, stopped};
use crate::lifecycle::{Error, SweepOutcome};

/// The time until the first sweep. It is short, so that a service that is often restarted sweeps too.
const FIRST: Duration = Duration::from_secs(300);

pub(super) async fn run(shared: Arc<Shared>, mut stop: Stop) {
    let config = &shared.config.cleanup;
    if config.interval.0.is_zero() {
        return stopped(&mut stop).await;
    }
    let mut wait = config.interval.0.min(FIRST);
    while slept(wait, &mut stop).await {
        wait = config.interval.0;
        match shared.lifecycle.sweep(false, config.grace.0).await {
            Ok(report) => {
                if let Some(failed) = &report.failed {
                    shared.status.error("sweeps", &format!("everything was kept: {failed}"));
                }
                for line in report.lines {
                    if let Some(error) = &line.error {
                        shared.status.error("sweeps", &format!("{}: {error}", line.id));
                    } else if let Some(
                        outcome @ (SweepOutcome::Planned | SweepOutcome::Stopped | SweepOutcome::Removed),
                    ) = line.outcome
                    {
                        let text = format!("{} {} by a sweep: {}", line.id, outcome.as_str(), line.reason);
                        shared.status.say(&ServiceEvent::Done(text));
                    }
                }
            }
            Err(Error::Interrupted | Error::LeftOff(_)) => {}
            Err(error) => shared.status.error("sweeps", &error),
        }
    }
}
