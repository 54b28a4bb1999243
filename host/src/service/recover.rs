//! Restarting failing workspaces: with growing pauses, and within a budget.

use jiff::Timestamp;

use super::react::Reported;
use super::{ServiceEvent, Shared, Stop, slept};
use crate::config::RestartConfig;
use crate::lifecycle::{Error, Trouble};
use crate::workspace::Happening;

/// Returns the trouble that an event indicates, if the configuration reacts to it.
pub(super) fn trouble(config: &RestartConfig, told: &Reported) -> Option<Trouble> {
    match (told.event.what, told.event.exit_code) {
        (Happening::Unhealthy, _) if config.unhealthy => Some(Trouble::Unhealthy),
        (Happening::Exited, Some(code)) if config.failed && code != 0 && !told.end_requested => {
            Some(Trouble::Failed(code))
        }
        _ => None,
    }
}

pub(super) async fn run(shared: &Shared, told: Reported, mut stop: Stop) {
    let config = &shared.config.restart;
    let Some(trouble) = trouble(config, &told) else { return };
    let (lifecycle, id) = (&shared.lifecycle, &told.event.workspace);
    let mut tries = 0;
    loop {
        let mut waited = false;
        let since = Timestamp::now().checked_sub(config.budget.within).unwrap_or(Timestamp::MIN);
        let attempt = async {
            // The budget is counted from the history, so it outlives this process.
            let used = lifecycle.store().count_events(id, Happening::Recovered, since)?;
            if used >= config.budget.count {
                let given_up = lifecycle.give_up(&told.event, trouble, &config.budget.to_string()).await?;
                let what = format!("{id}: {trouble}; the restart budget of {} is used up", config.budget);
                return Ok(given_up.then_some(what));
            }
            if !slept(config.backoff.after(used.max(tries)), &mut stop).await {
                return Ok(None);
            }
            waited = true;
            let which = format!("restart {} of {}", used + 1, config.budget);
            let recovered = lifecycle.recover(&told.event, trouble, &which).await?;
            Ok::<_, Error>(recovered.then(|| format!("{id} restarted: {trouble} ({which})")))
        };
        match attempt.await {
            Ok(Some(done)) => return shared.status.say(&ServiceEvent::Done(done)),
            // It has recovered, or the service ends.
            Ok(None) | Err(Error::Interrupted | Error::LeftOff(_)) => return,
            Err(error) => shared.status.error("reactions", &format!("cannot restart {id}: {error}")),
        }
        // A restart that fails at once must not be retried at once.
        if !waited && !slept(config.backoff.after(tries), &mut stop).await {
            return;
        }
        tries += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::{Event, WorkspaceId};

    #[test]
    fn only_what_the_configuration_names_and_nobody_asked_for_is_trouble() {
        let told = |what, exit_code, end_requested| Reported {
            event: Event {
                time: Timestamp::UNIX_EPOCH,
                workspace: WorkspaceId::derive("a", "/"),
                part_of: None,
                container_id: "c".into(),
                what,
                exit_code,
                detail: None,
            },
            end_requested,
        };
        let (unhealthy, failed) = (told(Happening::Unhealthy, None, false), told(Happening::Exited, Some(3), false));
        let off = RestartConfig::default();
        assert_eq!((trouble(&off, &unhealthy), trouble(&off, &failed)), (None, None));
        let on = RestartConfig { unhealthy: true, failed: true, ..off };
        assert_eq!(trouble(&on, &unhealthy), Some(Trouble::Unhealthy));
        assert_eq!(trouble(&on, &failed), Some(Trouble::Failed(3)));
        assert_eq!(trouble(&on, &told(Happening::Exited, Some(0), false)), None);
        assert_eq!(trouble(&on, &told(Happening::Exited, Some(143), true)), None);
        assert_eq!(trouble(&on, &told(Happening::Healthy, None, false)), None);
    }
}
