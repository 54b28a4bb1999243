//! Stops idle workspaces, and removes ended ones, by age.
//!
//! | workspace | action | after |
//! | --- | --- | --- |
//! | has a label of `keep_labels` | kept, whatever other policies say | |
//! | exited with code 0 | removed | `ended_after` since it ended |
//! | exited with another code, or is dead | removed later, for inspection | `failed_after` since it ended |
//! | was created and never started | removed | `unused_after` since it was created |
//! | runs | stopped | `stop_idle_after` since the last exec, shell or start |
//!
//! An unused image, volume or network that Wharf created is removed `unused_images_after`, `unused_volumes_after` or
//! `unused_networks_after` since its last use by a container.
//!
//! Other candidates get no verdict, nor do those of unknown age: a candidate without a verdict is kept. When the disk
//! is nearly full, the ages of `low_disk` apply where they are shorter.
//!
//! # Settings
//!
//! All are optional. They are written below the policy's entry in `wharf.toml` and shown with their defaults.
//! Durations are `2w`, `7d`, `12h`, `30m`, `45s`, sums of those, or `never`:
//!
//! ```toml
//! [settings]
//! keep_labels = ["keep=true"]
//! ended_after = "7d"
//! failed_after = "14d"
//! unused_after = "1d"
//! stop_idle_after = "never"
//! unused_images_after = "30d"
//! unused_volumes_after = "never"     # a volume holds data
//! unused_networks_after = "1h"
//! snapshots_after = "never"          # images and volumes of snapshots, since their last use
//!
//! [settings.low_disk]
//! below_percent = 10          # of the disk that holds the engine's data; 0 turns it off
//! ended_after = "1d"
//! failed_after = "3d"
//! unused_after = "1h"
//! stop_idle_after = "never"
//! unused_images_after = "3d"
//! ```

use serde::Deserialize;
use wharf_plugin_sdk::cleanup::{Candidate, Choice, Cleanup, Input, Kind, State, Verdict};
use wharf_plugin_sdk::{Plugin, export_plugin};

mod duration;

use duration::Age;

/// See the crate's documentation.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    keep_labels: Vec<String>,
    ended_after: Age,
    failed_after: Age,
    unused_after: Age,
    stop_idle_after: Age,
    unused_images_after: Age,
    unused_volumes_after: Age,
    unused_networks_after: Age,
    snapshots_after: Age,
    low_disk: LowDisk,
}

/// The ages that apply when the disk is nearly full.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LowDisk {
    below_percent: u8,
    ended_after: Age,
    failed_after: Age,
    unused_after: Age,
    stop_idle_after: Age,
    unused_images_after: Age,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            keep_labels: vec!["keep=true".to_owned()],
            ended_after: Age::days(7),
            failed_after: Age::days(14),
            unused_after: Age::days(1),
            stop_idle_after: Age::NEVER,
            unused_images_after: Age::days(30),
            unused_volumes_after: Age::NEVER,
            unused_networks_after: Age::milliseconds(3_600_000),
            snapshots_after: Age::NEVER,
            low_disk: LowDisk::default(),
        }
    }
}

impl Default for LowDisk {
    fn default() -> Self {
        Self {
            below_percent: 10,
            ended_after: Age::days(1),
            failed_after: Age::days(3),
            unused_after: Age::milliseconds(3_600_000),
            stop_idle_after: Age::NEVER,
            unused_images_after: Age::days(3),
        }
    }
}

/// One rule: its name, its condition, and its effect.
struct Rule {
    setting: &'static str,
    limit: Age,
    limit_on_low_disk: Age,
    choice: Choice,
    /// The start of the age, in milliseconds since 1970.
    since: u64,
    /// The event at that time, for users.
    what: String,
}

/// The plugin.
struct CleanupPolicy;

export_plugin!(CleanupPolicy: cleanup);

impl Plugin for CleanupPolicy {
    type Settings = Settings;

    fn check(settings: &Settings) -> Result<(), String> {
        if settings.low_disk.below_percent > 100 {
            let percent = settings.low_disk.below_percent;
            return Err(format!("setting `low_disk.below_percent`: {percent} is no percentage; it takes 0 to 100"));
        }
        match settings.keep_labels.iter().find(|label| !label.contains('=') || label.starts_with('=')) {
            Some(label) => Err(format!("setting `keep_labels`: `{label}` is no label; write e.g. `keep=true`")),
            None => Ok(()),
        }
    }
}

impl Cleanup for CleanupPolicy {
    fn cleanup(input: Input, settings: Settings) -> Result<Vec<Verdict>, String> {
        let free = free_percent(&input).filter(|free| *free < settings.low_disk.below_percent);
        let verdict = |candidate: &Candidate| {
            let kept = settings.keep_labels.iter().find(|label| has_label(candidate, label));
            match kept {
                Some(label) => Some(Verdict::keep(candidate, format!("it has the label {label}"))),
                None => rule(candidate, &settings).and_then(|rule| rule.apply(candidate, input.now_ms, free)),
            }
        };
        Ok(input.candidates.iter().filter_map(verdict).collect())
    }
}

/// Returns the rule for an unused image, volume or network.
fn unused(candidate: &Candidate, settings: &Settings) -> Option<Rule> {
    let (setting, limit, limit_on_low_disk) = match candidate.kind {
        Kind::Workspace => return None,
        _ if candidate.label("snapshot").is_some() => {
            ("snapshots_after", settings.snapshots_after, settings.snapshots_after)
        }
        Kind::Image => ("unused_images_after", settings.unused_images_after, settings.low_disk.unused_images_after),
        Kind::Volume => ("unused_volumes_after", settings.unused_volumes_after, settings.unused_volumes_after),
        Kind::Network => ("unused_networks_after", settings.unused_networks_after, settings.unused_networks_after),
    };
    let since = candidate.last_activity_ms.filter(|_| !candidate.used)?;
    let (choice, what) = (Choice::Remove, "last used".to_owned());
    Some(Rule { setting, limit, limit_on_low_disk, choice, since, what })
}

/// Returns the rule for a candidate's state, if there is one and its age is known.
fn rule(candidate: &Candidate, settings: &Settings) -> Option<Rule> {
    let low = &settings.low_disk;
    let Some(state) = candidate.state else { return unused(candidate, settings) };
    match state {
        State::Exited if candidate.exit_code == Some(0) => Some(Rule {
            setting: "ended_after",
            limit: settings.ended_after,
            limit_on_low_disk: low.ended_after,
            choice: Choice::Remove,
            since: candidate.finished_ms?,
            what: "exited with code 0".to_owned(),
        }),
        State::Exited | State::Dead => Some(Rule {
            setting: "failed_after",
            limit: settings.failed_after,
            limit_on_low_disk: low.failed_after,
            choice: Choice::Remove,
            since: candidate.finished_ms?,
            what: match (state, candidate.exit_code) {
                (State::Exited, Some(code)) => format!("exited with code {code}"),
                (State::Exited, None) => "exited".to_owned(),
                _ => "died".to_owned(),
            },
        }),
        State::Created if candidate.started_ms.is_none() => Some(Rule {
            setting: "unused_after",
            limit: settings.unused_after,
            limit_on_low_disk: low.unused_after,
            choice: Choice::Remove,
            since: candidate.created_ms,
            what: "created and never started".to_owned(),
        }),
        State::Running => Some(Rule {
            setting: "stop_idle_after",
            limit: settings.stop_idle_after,
            limit_on_low_disk: low.stop_idle_after,
            choice: Choice::Stop,
            since: candidate.last_activity_ms.or(candidate.started_ms)?,
            what: "last used".to_owned(),
        }),
        State::Created | State::Paused | State::Restarting | State::Removing => None,
    }
}

impl Rule {
    /// Returns the verdict once the age is reached. `free` is the free part of the disk if it is low.
    fn apply(self, candidate: &Candidate, now_ms: u64, free: Option<u8>) -> Option<Verdict> {
        let age = Age::milliseconds(now_ms.saturating_sub(self.since));
        let shorter = free.filter(|_| self.limit_on_low_disk < self.limit);
        let limit = if shorter.is_some() { self.limit_on_low_disk } else { self.limit };
        if age < limit {
            return None;
        }
        let rule = match shorter {
            Some(free) => format!("low_disk.{} is {limit}, and {free}% of the disk is free", self.setting),
            None => format!("{} is {limit}", self.setting),
        };
        let reason = format!("{} {age} ago; {rule}", self.what);
        Some(Verdict { id: candidate.id.clone(), choice: self.choice, reason })
    }
}

/// Returns the free part of the disk, rounded down, if the host knows it.
fn free_percent(input: &Input) -> Option<u8> {
    let percent = u128::from(input.disk_free) * 100 / u128::from(input.disk_total).max(1);
    (input.disk_total > 0).then(|| u8::try_from(percent).unwrap_or(u8::MAX))
}

fn has_label(candidate: &Candidate, label: &str) -> bool {
    label.split_once('=').is_some_and(|(name, value)| candidate.label(name) == Some(value))
}

#[cfg(test)]
mod tests {
    use wharf_plugin_sdk::testing::{self, NOW_MS};

    use super::*;

    const HOUR: u64 = 3_600_000;
    const DAY: u64 = 24 * HOUR;

    fn decide(input: Input, settings: &str) -> Vec<Verdict> {
        let settings = testing::settings::<CleanupPolicy>(settings).unwrap();
        CleanupPolicy::cleanup(input, settings).unwrap()
    }

    fn exited(code: Option<i32>, ago: u64) -> Candidate {
        let mut candidate = Candidate::for_test("shop");
        candidate.state = Some(State::Exited);
        candidate.exit_code = code;
        candidate.finished_ms = Some(NOW_MS - ago);
        candidate
    }

    fn one(candidate: Candidate, settings: &str) -> Option<(Choice, String)> {
        let mut verdicts = decide(Input::for_test([candidate]), settings);
        assert!(verdicts.len() <= 1);
        verdicts.pop().map(|verdict| (verdict.choice, verdict.reason))
    }

    fn remove(reason: &str) -> Option<(Choice, String)> {
        Some((Choice::Remove, reason.to_owned()))
    }

    #[test]
    fn what_ended_well_goes_after_a_week_and_not_before() {
        assert_eq!(one(exited(Some(0), 7 * DAY - 1), "{}"), None);
        assert_eq!(one(exited(Some(0), 8 * DAY), "{}"), remove("exited with code 0 8d ago; ended_after is 7d"));
    }

    #[test]
    fn what_failed_stays_longer() {
        assert_eq!(one(exited(Some(1), 8 * DAY), "{}"), None);
        assert_eq!(one(exited(None, 8 * DAY), "{}"), None);
        assert_eq!(one(exited(Some(137), 14 * DAY), "{}"), remove("exited with code 137 14d ago; failed_after is 14d"));
        let mut dead = exited(None, 15 * DAY);
        dead.state = Some(State::Dead);
        assert_eq!(one(dead, "{}"), remove("died 15d ago; failed_after is 14d"));
    }

    #[test]
    fn what_was_never_started_goes_after_a_day() {
        let mut candidate = Candidate::for_test("shop");
        candidate.state = Some(State::Created);
        candidate.started_ms = None;
        candidate.created_ms = NOW_MS - 30 * HOUR;
        assert_eq!(one(candidate, "{}"), remove("created and never started 1d6h ago; unused_after is 1d"));
    }

    #[test]
    fn what_runs_is_stopped_when_idle_and_only_if_asked() {
        let running = Candidate::for_test("shop");
        assert_eq!(one(running.clone(), "{}"), None);
        assert_eq!(one(running.clone(), r#"{"stop_idle_after": "2h"}"#), None);
        let stop = Some((Choice::Stop, "last used 1h ago; stop_idle_after is 1h".to_owned()));
        assert_eq!(one(running, r#"{"stop_idle_after": "1h"}"#), stop);
    }

    #[test]
    fn a_label_keeps_whatever_the_age() {
        let mut candidate = exited(Some(0), 100 * DAY);
        candidate.labels.push(("keep".into(), "true".into()));
        assert_eq!(one(candidate.clone(), "{}"), Some((Choice::Keep, "it has the label keep=true".into())));
        assert!(one(candidate, r#"{"keep_labels": ["keep=yes"]}"#).is_some_and(|(choice, _)| choice == Choice::Remove));
    }

    #[test]
    fn a_full_disk_shortens_the_ages_and_never_lengthens_them() {
        let low = |settings: &str| {
            let mut input = Input::for_test([exited(Some(0), 2 * DAY)]);
            input.disk_free = 6 << 30;
            decide(input, settings).pop().map(|verdict| verdict.reason)
        };
        let reason = "exited with code 0 2d ago; low_disk.ended_after is 1d, and 6% of the disk is free";
        assert_eq!(low("{}").as_deref(), Some(reason));
        assert_eq!(low(r#"{"low_disk": {"below_percent": 5}}"#), None);
        let longer = r#"{"ended_after": "1h", "low_disk": {"ended_after": "30d"}}"#;
        assert_eq!(low(longer).as_deref(), Some("exited with code 0 2d ago; ended_after is 1h"));
    }

    #[test]
    fn a_disk_of_unknown_size_is_not_a_full_one() {
        let mut input = Input::for_test([exited(Some(0), 2 * DAY)]);
        (input.disk_free, input.disk_total) = (0, 0);
        assert_eq!(decide(input, "{}"), vec![]);
    }

    #[test]
    fn what_has_no_rule_or_no_known_age_gets_no_verdict() {
        let settings = r#"{"ended_after": "0s", "failed_after": "0s", "unused_after": "0s", "stop_idle_after": "0s"}"#;
        for state in [State::Paused, State::Restarting, State::Removing] {
            let mut candidate = Candidate::for_test("shop");
            candidate.state = Some(state);
            assert_eq!(one(candidate, settings), None);
        }
        let mut ageless = exited(Some(0), 0);
        ageless.finished_ms = None;
        assert_eq!(one(ageless, settings), None);
    }

    #[test]
    fn an_end_in_the_future_is_no_age() {
        let mut candidate = exited(Some(0), 0);
        candidate.finished_ms = Some(NOW_MS + DAY);
        assert_eq!(one(candidate, "{}"), None);
    }

    #[test]
    fn what_no_container_uses_any_more_goes_by_its_kind() {
        let object = |kind, used, ago| {
            let mut candidate = Candidate::for_test("image:x");
            (candidate.kind, candidate.state, candidate.used) = (kind, None, used);
            candidate.last_activity_ms = Some(NOW_MS - ago);
            candidate
        };
        let gone = |reason: &str| remove(&format!("last used {reason}"));
        assert_eq!(one(object(Kind::Image, false, 31 * DAY), "{}"), gone("31d ago; unused_images_after is 30d"));
        assert_eq!(one(object(Kind::Image, false, 29 * DAY), "{}"), None);
        assert_eq!(one(object(Kind::Image, true, 99 * DAY), "{}"), None);
        assert_eq!(one(object(Kind::Network, false, HOUR), "{}"), gone("1h ago; unused_networks_after is 1h"));
        assert_eq!(one(object(Kind::Volume, false, 999 * DAY), "{}"), None);
        let data = r#"{"unused_volumes_after": "90d"}"#;
        assert_eq!(one(object(Kind::Volume, false, 91 * DAY), data), gone("91d ago; unused_volumes_after is 90d"));
        let mut kept = object(Kind::Image, false, 999 * DAY);
        kept.labels.push(("snapshot".into(), "shop-1a2b3c/before".into()));
        assert_eq!(one(kept.clone(), "{}"), None);
        assert_eq!(one(kept, r#"{"snapshots_after": "1d"}"#), gone("999d ago; snapshots_after is 1d"));
        let mut ageless = object(Kind::Image, false, 0);
        ageless.last_activity_ms = None;
        assert_eq!(one(ageless, r#"{"unused_images_after": "0s"}"#), None);
    }

    #[test]
    fn wrong_settings_are_refused_by_name() {
        let refused = |json: &str| testing::settings::<CleanupPolicy>(json).unwrap_err();
        assert!(refused(r#"{"ended_after": "soon"}"#).starts_with("setting `ended_after`: `soon` is no duration"));
        assert!(refused(r#"{"low_disk": {"ended_after": 7}}"#).starts_with("setting `low_disk.ended_after`"));
        assert!(refused(r#"{"low_disk": {"below_percent": 101}}"#).starts_with("setting `low_disk.below_percent`"));
        assert!(refused(r#"{"keep_labels": ["keep"]}"#).starts_with("setting `keep_labels`"));
        assert!(refused(r#"{"ended": "7d"}"#).contains("unknown field `ended`"));
    }
}
