//! Replays many records through one chain, on all cores, with constant memory use.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::Error;
use crate::hooks::redact::SecretNames;
use crate::hooks::replay::{Comparison, Flip, FlipKind, compare, granted_otherwise, replay, unplayable};
use crate::hooks::{Chain, Hook};
use crate::store::StoredDecision;

/// Maximum number of records that wait for a worker.
const WAITING: usize = 128;
/// Examples per group of flips: the first ones in the chain of records.
const EXAMPLES: usize = 3;

/// The result of a replay.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, utoipa::ToSchema)]
pub struct Replayed {
    /// Number of replayed records.
    pub replayed: u64,
    /// Number of these that are byte for byte identical.
    pub identical: u64,
    /// Number of these with the same outcome but different steps.
    pub same_outcome: u64,
    /// Number of these with another outcome.
    pub flipped: u64,
    /// The flips in groups, new denials first.
    pub flips: Vec<FlipGroup>,
    /// Records that cannot be replayed: reason -> number.
    pub not_replayed: BTreeMap<String, u64>,
    /// Policies that took part and are no longer in the chain: name -> number of records.
    pub gone: BTreeMap<String, u64>,
    /// Policies whose bytes or settings differ from the record: name -> number of records.
    pub changed: BTreeMap<String, u64>,
    /// Duration in seconds.
    pub seconds: f64,
    /// Decisions per second.
    pub per_second: f64,
}

/// Flips of one kind, caused by one policy, for one reason.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, utoipa::ToSchema)]
pub struct FlipGroup {
    /// The kind of the flips.
    pub kind: FlipKind,
    /// The hook.
    pub hook: Hook,
    /// The responsible policy.
    pub policy: String,
    /// A code, or the changed fields.
    pub reason: String,
    /// Description of the first flip.
    pub detail: String,
    /// Number of flips.
    pub count: u64,
    /// Numbers and ids of the first records.
    pub examples: Vec<Example>,
}

/// A record whose outcome flips.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, utoipa::ToSchema)]
#[schema(as = ReplayExample)]
pub struct Example {
    /// Its number.
    pub number: i64,
    /// Its id.
    pub id: String,
    /// Description of the flip.
    #[serde(skip)]
    detail: String,
}

/// Kind, hook, policy and reason of flips in one group.
type GroupKey = (FlipKind, Hook, String, String);

#[derive(Default)]
struct Sum {
    replayed: u64,
    identical: u64,
    same_outcome: u64,
    flips: BTreeMap<GroupKey, (u64, Vec<Example>)>,
    not_replayed: BTreeMap<String, u64>,
    gone: BTreeMap<String, u64>,
    changed: BTreeMap<String, u64>,
}

/// Replays recorded decisions. `missing` names policies of the configuration that could not be loaded. Decisions in
/// which they took part are counted but not replayed.
///
/// # Errors
/// An error if the store cannot be read. An unreadable record is counted.
pub fn replay_decisions(
    chain: &Chain,
    secrets: &SecretNames,
    missing: &[String],
    records: impl Iterator<Item = Result<StoredDecision, crate::store::Error>>,
) -> Result<Replayed, Error> {
    let begin = Instant::now();
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let (give, take) = sync_channel::<StoredDecision>(WAITING);
    let take = Mutex::new(take);
    let mut sums = Vec::new();
    let mut failed = Ok(());
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(|| work(&take, chain, secrets, missing))).collect();
        for record in records {
            match record {
                // A missing worker has panicked, which joining it reports.
                Ok(record) => {
                    if give.send(record).is_err() {
                        break;
                    }
                }
                Err(error) => {
                    failed = Err(Error::from(error));
                    break;
                }
            }
        }
        drop(give);
        for thread in threads {
            match thread.join() {
                Ok(sum) => sums.push(sum),
                Err(_) => failed = Err(Error::Internal("a replay panicked".into())),
            }
        }
    });
    failed?;
    let mut all = Sum::default();
    for sum in sums {
        all.add(sum);
    }
    Ok(all.finish(begin.elapsed().as_secs_f64()))
}

fn work(take: &Mutex<Receiver<StoredDecision>>, chain: &Chain, secrets: &SecretNames, missing: &[String]) -> Sum {
    let mut sum = Sum::default();
    loop {
        let next = take.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match next {
            Ok(record) => sum.record(&record, chain, secrets, missing),
            Err(_) => return sum,
        }
    }
}

impl Sum {
    fn record(&mut self, stored: &StoredDecision, chain: &Chain, secrets: &SecretNames, missing: &[String]) {
        let record = match stored.decision() {
            Ok(record) => record,
            Err(_) => {
                *self.not_replayed.entry("the record is unreadable; see 'wharf audit verify'".into()).or_default() += 1;
                return;
            }
        };
        if let Some(why) = unplayable(&record, missing) {
            *self.not_replayed.entry(why.to_string()).or_default() += 1;
            return;
        }
        let again = replay(chain, secrets, &record);
        if let Some(why) = granted_otherwise(&record, &again) {
            *self.not_replayed.entry(why.to_string()).or_default() += 1;
            return;
        }
        for step in &record.steps {
            match chain.entries().iter().find(|entry| entry.policy.name() == step.policy) {
                None => *self.gone.entry(step.policy.clone()).or_default() += 1,
                Some(entry)
                    if entry.policy.digest() != step.digest || entry.settings_digest != step.settings_digest =>
                {
                    *self.changed.entry(step.policy.clone()).or_default() += 1;
                }
                Some(_) => {}
            }
        }
        self.replayed += 1;
        match compare(&record, &again) {
            Comparison::Identical => self.identical += 1,
            Comparison::SameOutcome => self.same_outcome += 1,
            Comparison::Flip(Flip { kind, policy, reason, detail }) => {
                let (count, examples) = self.flips.entry((kind, record.hook, policy, reason)).or_default();
                *count += 1;
                examples.push(Example { number: stored.number, id: record.id.to_string(), detail });
                few(examples);
            }
        }
    }

    fn add(&mut self, other: Self) {
        self.replayed += other.replayed;
        self.identical += other.identical;
        self.same_outcome += other.same_outcome;
        for (mine, theirs) in [
            (&mut self.not_replayed, other.not_replayed),
            (&mut self.gone, other.gone),
            (&mut self.changed, other.changed),
        ] {
            for (what, count) in theirs {
                *mine.entry(what).or_default() += count;
            }
        }
        for (key, (count, found)) in other.flips {
            let (all, examples) = self.flips.entry(key).or_default();
            *all += count;
            examples.extend(found);
            few(examples);
        }
    }

    fn finish(self, seconds: f64) -> Replayed {
        let group = |((kind, hook, policy, reason), (count, examples)): (GroupKey, (u64, Vec<Example>))| {
            let detail = examples.first().map(|first| first.detail.clone()).unwrap_or_default();
            FlipGroup { kind, hook, policy, reason, detail, count, examples }
        };
        let mut flips: Vec<FlipGroup> = self.flips.into_iter().map(group).collect();
        flips.sort_by_key(|group| (group.kind, std::cmp::Reverse(group.count)));
        Replayed {
            replayed: self.replayed,
            identical: self.identical,
            same_outcome: self.same_outcome,
            flipped: flips.iter().map(|group| group.count).sum(),
            flips,
            not_replayed: self.not_replayed,
            gone: self.gone,
            changed: self.changed,
            seconds,
            per_second: if seconds > 0.0 { self.replayed as f64 / seconds } else { 0.0 },
        }
    }
}

/// Keeps the first examples in the order of records, whichever worker had them.
fn few(examples: &mut Vec<Example>) {
    examples.sort();
    examples.truncate(EXAMPLES);
}
