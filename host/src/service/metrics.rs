//! The metrics of the service, in the text format of OpenMetrics. Counters change where the counted action happens;
//! states are read on request.
//!
//! The number of label values is bounded: names of policies, hooks, loops and routes, and words of fixed lists. There
//! is no ID of a workspace, and no name that a caller chooses.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use tracing::Instrument;

use crate::docker;
use crate::hooks::record::StepMode;
use crate::hooks::{CandidateKind, Decision};
use crate::lifecycle::{Error, Observer, SweepOutcome, SweepReport};
use crate::spans;
use crate::store::{self, ServiceStatus, Store};
use crate::workspace::State;

/// The limit of names of policies, routes or codes; further names become `other`.
const NAMES: usize = 128;
/// Upper bounds of buckets in seconds: for requests and verbs, and for calls of policies.
const SECONDS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];
const CALLS: [f64; 10] = [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.005, 0.025, 0.1, 0.5, 2.5];

type Labels<const COUNT: usize> = [(&'static str, String); COUNT];
type Counters<const COUNT: usize> = Family<Labels<COUNT>, Counter>;
type Gauges<const COUNT: usize> = Family<Labels<COUNT>, Gauge>;
type Histograms = Family<Labels<1>, Histogram, fn() -> Histogram>;

/// All metrics.
pub struct Metrics {
    registry: Registry,
    names: Mutex<BTreeSet<String>>,
    verbs: Counters<2>,
    verb_seconds: Histograms,
    decisions: Counters<3>,
    policy_seconds: Histograms,
    policy_errors: Counters<3>,
    requests: Counters<3>,
    request_seconds: Histograms,
    connections: Gauges<1>,
    refused: Counters<1>,
    streams: Gauge,
    reloads: Counters<1>,
    reloaded: Gauge,
    sweeps: Counters<1>,
    swept: Counters<2>,
    loop_errors: Counters<1>,
    collected: Gauge<f64, AtomicU64>,
    engine_up: Gauge,
    // These are read on request.
    workspaces: Gauges<1>,
    breakers: Gauges<1>,
    store_bytes: Gauges<1>,
    tokens: Gauge,
}

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

fn calls() -> Histogram {
    Histogram::new(CALLS)
}

impl Default for Metrics {
    fn default() -> Self {
        let mut this = Self {
            registry: Registry::with_prefix("wharf"),
            names: Mutex::default(),
            verbs: Family::default(),
            verb_seconds: Family::new_with_constructor(seconds),
            decisions: Family::default(),
            policy_seconds: Family::new_with_constructor(calls),
            policy_errors: Family::default(),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(seconds),
            connections: Family::default(),
            refused: Family::default(),
            streams: Gauge::default(),
            reloads: Family::default(),
            reloaded: Gauge::default(),
            sweeps: Family::default(),
            swept: Family::default(),
            loop_errors: Family::default(),
            collected: Gauge::default(),
            engine_up: Gauge::default(),
            workspaces: Family::default(),
            breakers: Family::default(),
            store_bytes: Family::default(),
            tokens: Gauge::default(),
        };
        this.register();
        this
    }
}

impl Metrics {
    fn register(&mut self) {
        let all = &mut self.registry;
        all.register("build", "The version of the program", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        all.register("verbs", "Completed verbs of API callers", self.verbs.clone());
        let help = "Duration of a verb; for exec, until the command runs";
        all.register_with_unit("verb", help, Unit::Seconds, self.verb_seconds.clone());
        all.register("decisions", "Verdicts of policies in decisions", self.decisions.clone());
        let help = "Duration of a policy call";
        all.register_with_unit("policy_call", help, Unit::Seconds, self.policy_seconds.clone());
        let help = "Policy calls without a verdict: failed, or a limit was reached";
        all.register("policy_errors", help, self.policy_errors.clone());
        all.register("requests", "API requests", self.requests.clone());
        let help = "Time until the start of an API response";
        all.register_with_unit("request", help, Unit::Seconds, self.request_seconds.clone());
        all.register("connections", "Open API connections", self.connections.clone());
        all.register("connections_refused", "Refused API connections", self.refused.clone());
        all.register("streams", "Open API streams", self.streams.clone());
        all.register("reloads", "Reloads of configuration and policies", self.reloads.clone());
        let help = "Whether the last reload, or else the first load, succeeded";
        all.register("last_reload_success", help, self.reloaded.clone());
        all.register("sweeps", "Cleanup sweeps", self.sweeps.clone());
        all.register("swept", "Objects stopped, removed or kept by sweeps", self.swept.clone());
        all.register("loop_errors", "Failures of the loops of the service", self.loop_errors.clone());
        let help = "Time of the last reading of workspace usage, in seconds since 1970";
        all.register_with_unit("collector_last_reading_timestamp", help, Unit::Seconds, self.collected.clone());
        all.register("engine_up", "Whether the engine was reachable at its last call", self.engine_up.clone());
        all.register("workspaces", "Workspaces and sidecars by the state of their container", self.workspaces.clone());
        all.register("breakers_open", "Open breakers of policies", self.breakers.clone());
        all.register_with_unit("store_size", "Size of the store", Unit::Bytes, self.store_bytes.clone());
        all.register("tokens", "Valid tokens", self.tokens.clone());
        all.register_collector(Box::new(EngineErrors));
    }

    /// Returns a name as a label.
    fn name(&self, name: &str) -> String {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if !names.contains(name) {
            if names.len() >= NAMES {
                return "other".to_owned();
            }
            names.insert(name.to_owned());
        }
        name.to_owned()
    }

    /// Measures a verb.
    ///
    /// # Errors
    /// Those of the verb.
    pub async fn verb<T>(&self, verb: &'static str, run: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let (begun, span) = (Instant::now(), spans::verb(verb));
        let result = run.instrument(span.clone()).await;
        let outcome = match &result {
            Ok(_) => "done",
            // The policy chooses the code, so it must not become a label.
            Err(Error::Denied { .. }) => "denied",
            Err(error) => error.code(),
        };
        spans::ended(&span, outcome);
        let verb = ("verb", verb.to_owned());
        self.verb_seconds.get_or_create(std::array::from_ref(&verb)).observe(begun.elapsed().as_secs_f64());
        self.verbs.get_or_create(&[verb, ("outcome", self.name(outcome))]).inc();
        result
    }

    /// Counts a request: its declared route, its method, its status, and the time until its answer began.
    pub fn request(&self, route: &str, method: &str, status: u16, time: Duration) {
        let route = ("route", self.name(route));
        self.request_seconds.get_or_create(std::array::from_ref(&route)).observe(time.as_secs_f64());
        let method = ("method", self.name(method));
        self.requests.get_or_create(&[route, method, ("status", status.to_string())]).inc();
    }

    /// Counts a connection as open while the returned value is held.
    pub fn connection(&self, listener: &'static str) -> Held {
        let open = self.connections.get_or_create_owned(&[("listener", listener.to_owned())]);
        open.inc();
        Held(open)
    }

    /// Counts a refused connection.
    pub fn refused(&self, why: &'static str) {
        self.refused.get_or_create(&[("reason", why.to_owned())]).inc();
    }

    /// Sets the number of open streams.
    pub fn streams(&self, count: usize) {
        self.streams.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Counts a reload. The first load is not counted as a reload, but sets the state.
    pub(super) fn reloaded(&self, taken: bool, reload: bool) {
        if reload {
            let outcome = if taken { "taken" } else { "refused" };
            self.reloads.get_or_create(&[("outcome", outcome.to_owned())]).inc();
        }
        self.reloaded.set(i64::from(taken));
    }

    pub(super) fn loop_failed(&self, name: &str) {
        self.loop_errors.get_or_create(&[("loop", self.name(name))]).inc();
    }

    pub(super) fn collected(&self, when: Timestamp) {
        self.collected.set(when.as_millisecond() as f64 / 1e3);
    }

    pub(super) fn engine_up(&self, up: bool) {
        self.engine_up.set(i64::from(up));
    }

    /// Returns the text, with the states from the store. It blocks.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn text(&self, store: &Store) -> Result<String, store::Error> {
        let mut states: BTreeMap<&str, i64> = State::ALL.into_iter().map(|state| (state.as_str(), 0)).collect();
        let known: BTreeMap<_, _> =
            store.states()?.into_iter().map(|state| (state.container_id, state.state)).collect();
        for workspace in store.workspaces()? {
            let state = known.get(&workspace.container_id).copied().unwrap_or(State::Missing);
            *states.entry(state.as_str()).or_default() += 1;
        }
        for (state, count) in states {
            self.workspaces.get_or_create(&[("state", state.to_owned())]).set(count);
        }
        let running = store.service()?.map(|status: ServiceStatus| status.chain.policies).unwrap_or_default();
        let standings = store.standings()?;
        self.breakers.clear();
        for policy in running.keys() {
            let open = |standing: &crate::hooks::chain::Standing| {
                standing.breakers.values().filter(|breaker| breaker.opened_ms.is_some()).count()
            };
            let open = standings.get(policy).map_or(0, open);
            let open = i64::try_from(open).unwrap_or(i64::MAX);
            self.breakers.get_or_create(&[("policy", self.name(policy))]).set(open);
        }
        for (part, bytes) in store.sizes() {
            self.store_bytes.get_or_create(&[("part", part.to_owned())]).set(bytes.try_into().unwrap_or(i64::MAX));
        }
        let now = Timestamp::now();
        let tokens = store.tokens()?.iter().filter(|token| !token.is_expired(now)).count();
        self.tokens.set(i64::try_from(tokens).unwrap_or(i64::MAX));
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        Ok(text)
    }
}

impl Observer for Metrics {
    fn decided(&self, decisions: &[Decision]) {
        for step in decisions.iter().flat_map(|decision| &decision.steps) {
            if step.mode == StepMode::Shadow {
                continue;
            }
            let policy = ("policy", self.name(&step.policy));
            let hook = ("hook", step.hook.as_str().to_owned());
            let time = Duration::from_micros(step.microseconds);
            self.policy_seconds.get_or_create(std::array::from_ref(&policy)).observe(time.as_secs_f64());
            let verdict = ("verdict", step.verdict.as_str().to_owned());
            self.decisions.get_or_create(&[policy.clone(), hook.clone(), verdict]).inc();
            if let Some(error) = &step.error {
                self.policy_errors.get_or_create(&[policy, hook, ("code", self.name(&error.code))]).inc();
            }
        }
    }

    fn swept(&self, report: &SweepReport) {
        let outcome = if report.failed.is_some() { "failed" } else { "done" };
        self.sweeps.get_or_create(&[("outcome", outcome.to_owned())]).inc();
        for line in &report.lines {
            if let Some(outcome) = line.outcome.map(SweepOutcome::as_str) {
                let kind = match line.kind {
                    CandidateKind::Workspace => "workspace",
                    CandidateKind::Image => "image",
                    CandidateKind::Volume => "volume",
                    CandidateKind::Network => "network",
                };
                let labels = [("kind", kind.to_owned()), ("outcome", self.name(outcome))];
                self.swept.get_or_create(&labels).inc();
            }
        }
    }
}

/// While it is held, its gauge counts one more.
#[derive(Debug)]
pub struct Held(Gauge);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The number of failures of the engine in this process, counted where it is called.
#[derive(Debug)]
struct EngineErrors;

impl prometheus_client::collector::Collector for EngineErrors {
    fn encode(&self, mut encoder: prometheus_client::encoding::DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        use prometheus_client::encoding::EncodeMetric;
        let counter = ConstCounter::new(docker::failures());
        let help = "Failed engine calls: unreachable, timed out, interrupted, or answered with 5xx";
        let encoder = encoder.encode_descriptor("engine_errors", help, None, counter.metric_type())?;
        counter.encode(encoder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded() {
        let metrics = Metrics::default();
        for number in 0..NAMES * 2 {
            metrics.loop_failed(&format!("n{number}"));
        }
        assert_eq!(metrics.name("n0"), "n0");
        assert_eq!(metrics.name("new"), "other");
        let mut text = String::new();
        encode(&mut text, &metrics.registry).unwrap();
        assert_eq!(text.matches("wharf_loop_errors_total{").count(), NAMES + 1);
    }

    #[test]
    fn a_connection_counts_while_it_is_held() {
        let metrics = Metrics::default();
        let open = || metrics.connections.get_or_create(&[("listener", "socket".to_owned())]).get();
        let held = metrics.connection("socket");
        assert_eq!(open(), 1);
        drop(held);
        assert_eq!(open(), 0);
    }
}
