//! The loop `idle`: measures the use of workspaces, and stops unused ones.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::StreamExt;
use jiff::Timestamp;

use super::{ServiceEvent, Shared, Stop, slept, stopped};
use crate::config::IdleConfig;
use crate::lifecycle::{Error, Usage};
use crate::store::{Signal, SignalKind};
use crate::workspace::{State, WorkspaceId};

/// The number of workspaces that are measured concurrently: a measurement by the engine takes a second or two.
const AT_ONCE: usize = 8;

/// The previous reading of each workspace.
type Readings = HashMap<WorkspaceId, (Timestamp, Usage)>;

pub(super) async fn run(shared: Arc<Shared>, mut stop: Stop) {
    let config = &shared.config.idle;
    if config.after.is_none() {
        return stopped(&mut stop).await;
    }
    let mut before = Readings::new();
    while slept(config.interval.0, &mut stop).await {
        let running = match shared.lifecycle.store().states() {
            Ok(states) => states.into_iter().filter(|state| state.state == State::Running && state.part_of.is_none()),
            Err(error) => {
                shared.status.error("idle", &error);
                continue;
            }
        };
        let ids: Vec<WorkspaceId> = running.map(|state| state.workspace).collect();
        before.retain(|id, _| ids.contains(id));
        let (shared, last) = (&shared, &before);
        let measured = futures_util::stream::iter(ids).map(|id| async move {
            let reading = look(shared, &id, last.get(&id)).await;
            (id, reading)
        });
        let measured: Vec<_> = tokio::select! {
            measured = measured.buffer_unordered(AT_ONCE).collect() => measured,
            () = stopped(&mut stop) => return,
        };
        for (id, reading) in measured {
            match reading {
                Ok((reading, idle)) => {
                    if let Some(reading) = reading {
                        before.insert(id.clone(), reading);
                    }
                    if idle {
                        end(shared, &id).await;
                    }
                }
                // It was removed meanwhile.
                Err(Error::Records(crate::records::Error::NotFound(_))) => {}
                Err(error) => shared.status.error("idle", &format!("{id}: {error}")),
            }
        }
    }
}

async fn end(shared: &Shared, id: &WorkspaceId) {
    match shared.lifecycle.stop_idle(id).await {
        Ok(Some(reason)) => shared.status.say(&ServiceEvent::Done(format!("{id} stopped: {reason}"))),
        Ok(None) | Err(Error::Interrupted | Error::LeftOff(_) | Error::Records(crate::records::Error::NotFound(_))) => {
        }
        Err(error) => shared.status.error("idle", &format!("{id}: {error}")),
    }
}

/// Measures one workspace and stores its signals. Returns the reading, and whether the workspace looks idle.
async fn look(
    shared: &Shared,
    id: &WorkspaceId,
    before: Option<&(Timestamp, Usage)>,
) -> Result<(Option<(Timestamp, Usage)>, bool), Error> {
    let lifecycle = &shared.lifecycle;
    let usage = lifecycle.usage(id).await?;
    let now = Timestamp::now();
    if let (Some(usage), Some((then, before))) = (&usage, before) {
        lifecycle.keep_signals(id, &signals(&shared.config.idle, *then, before, now, usage, &kept(shared, id)?))?;
    }
    let idle = lifecycle.idleness(id).await?;
    // Leases are written elsewhere.
    let seen: Vec<Signal> = idle.signals.iter().filter(|signal| signal.kind != SignalKind::Lease).cloned().collect();
    lifecycle.keep_signals(id, &seen)?;
    // Without two readings its activity is unknown.
    let known = before.is_some() && usage.is_some();
    Ok((usage.map(|usage| (now, usage)), known && idle.stops_at.is_some_and(|time| time <= now)))
}

fn kept(shared: &Shared, id: &WorkspaceId) -> Result<Vec<Signal>, Error> {
    Ok(shared.lifecycle.store().signals(id)?)
}

/// Computes CPU and network between two readings. Counters that decreased (a container was restarted) give no value.
fn signals(
    config: &IdleConfig,
    then: Timestamp,
    before: &Usage,
    now: Timestamp,
    usage: &Usage,
    kept: &[Signal],
) -> Vec<Signal> {
    let seconds = now.duration_since(then).as_secs_f64();
    let mut signals = Vec::new();
    let mut add = |kind, value: Option<String>, active: bool| {
        let last = kept.iter().find(|signal| signal.kind == kind).and_then(|signal| signal.active_at);
        let active_at = if active { Some(now) } else { last };
        signals.push(Signal { kind, value, measured_at: Some(now), active_at });
    };
    let rate =
        |now: u64, before: u64| now.checked_sub(before).filter(|_| seconds > 0.0).map(|more| more as f64 / seconds);
    // Nanoseconds per second, converted to percent of one core.
    let cpu = rate(usage.cpu_ns, before.cpu_ns).map(|nanos| nanos / 1e7);
    add(SignalKind::Cpu, cpu.map(|cpu| format!("{cpu:.1} %")), cpu.is_some_and(|cpu| cpu >= config.cpu));
    let network = usage.network.zip(before.network).and_then(|(now, before)| rate(now, before));
    let busy = network.is_some_and(|bytes| bytes >= config.network.0 as f64);
    add(SignalKind::Network, network.map(|bytes| format!("{bytes:.0} B/s")), busy);
    signals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_and_network_count_from_their_thresholds_on_and_a_restart_gives_no_value() {
        let config = IdleConfig::default();
        let at = |second| Timestamp::from_second(second).unwrap();
        let usage = |cpu_ms: u64, network| Usage { cpu_ns: cpu_ms * 1_000_000, network };
        let between =
            |before: &Usage, now: &Usage, kept: &[Signal]| signals(&config, at(100), before, at(110), now, kept);
        let idle = between(&usage(1_000, Some(0)), &usage(1_100, Some(50)), &[]);
        assert_eq!(idle[0].value.as_deref(), Some("1.0 %"));
        assert_eq!(idle[1].value.as_deref(), Some("5 B/s"));
        assert_eq!((idle[0].active_at, idle[1].active_at), (None, None));
        let busy = between(&usage(1_000, Some(0)), &usage(6_000, Some(90_000)), &[]);
        assert_eq!((busy[0].active_at, busy[1].active_at), (Some(at(110)), Some(at(110))));
        let later = between(&usage(1_000, None), &usage(900, None), &busy);
        assert_eq!((later[0].value.clone(), later[1].value.clone()), (None, None));
        assert_eq!(later[0].active_at, Some(at(110)), "what was seen still counts");
    }
}
