//! The floor: the limits for changes of security fields. Policies can only tighten these fields, at every hook that
//! can set them.
//!
//! The order of "tighter" is declared once, in [`ORDER`]. Each adjustment is compared with the current spec and with
//! the spec at the start of the decision. Therefore no sequence of adjustments, by any policies, ends looser than it
//! began. The only exception is a waiver in a policy's entry: it lets one policy loosen one field to one value, until
//! a given day.

use serde_json::Value;

use super::Adjustment;
use super::record::{Waiver, lookup};
use crate::workspace::ContainerSpec;

/// The ordering of a field's values. Every order is reflexive and transitive.
enum Order {
    /// For sets: fewer is tighter.
    Fewer,
    /// For switches: on is tighter.
    On,
    /// For numbers: smaller is tighter.
    Smaller,
    /// For profiles: `off` is the loosest, then the engine's default (this name, or none), and any other named
    /// profile is the tightest. Two different named profiles cannot be compared.
    Profile { off: &'static str, default: Option<&'static str> },
    /// For words, loosest first; null is written as an empty word.
    Ladder(&'static [&'static str]),
    /// For users: root, including an image without a user, is looser than every other user.
    User,
    /// For memory file systems: having one is tighter than a writable layer, and smaller is tighter.
    Tmpfs,
    /// For mounts: a read-only mount stays read-only. The invariants limit which mounts may exist at all.
    Mount,
}

/// Every field under the floor, with its order. Network, memory, cores and the existence of mounts are not only
/// security matters: owners and invariants limit them. A field that ends in `.` stands for all fields with this
/// prefix.
const ORDER: [(&str, Order); 11] = [
    ("security.capabilities", Order::Fewer),
    ("security.no_new_privileges", Order::On),
    ("security.read_only_root", Order::On),
    ("security.seccomp", Order::Profile { off: "unconfined", default: Some("default") }),
    ("security.apparmor", Order::Profile { off: "unconfined", default: None }),
    ("security.selinux", Order::Profile { off: "disable", default: None }),
    ("security.user_namespace", Order::Ladder(&["host", ""])),
    ("resources.pids", Order::Smaller),
    ("user", Order::User),
    ("tmpfs.", Order::Tmpfs),
    ("mounts.", Order::Mount),
];

fn order_of(field: &str) -> Option<&'static Order> {
    let under = |known: &str| if known.ends_with('.') { field.starts_with(known) } else { field == known };
    ORDER.iter().find(|(known, _)| under(known)).map(|(_, order)| order)
}

/// Returns whether a field is under the floor, so that a waiver for it makes sense.
pub fn is_under_floor(field: &str) -> bool {
    order_of(field).is_some()
}

/// Returns whether the engine would treat a user as root.
fn is_root(user: Option<&str>) -> bool {
    match user {
        // An image without a user runs as root.
        None => true,
        Some(user) => {
            let name = user.split(':').next().unwrap_or_default();
            name.is_empty() || name == "root" || name.parse::<i64>() == Ok(0)
        }
    }
}

impl Order {
    /// Returns whether `next` is at least as tight as `now`.
    fn holds(&self, now: &Value, next: &Value) -> bool {
        if now == next {
            return true;
        }
        match self {
            Self::Fewer => match (now.as_array(), next.as_array()) {
                (Some(now), Some(next)) => next.iter().all(|one| now.contains(one)),
                _ => false,
            },
            Self::On => next.as_bool() == Some(true) || now.as_bool() == Some(false),
            Self::Smaller => matches!((now.as_u64(), next.as_u64()), (Some(now), Some(next)) if next <= now),
            Self::Profile { off, default } => {
                let rank = |value: &Value| match value.as_str() {
                    Some(name) if name == *off => 0,
                    name if name == *default => 1,
                    _ => 2,
                };
                rank(next) > rank(now)
            }
            Self::Ladder(words) => {
                let rank = |value: &Value| {
                    let word = value.as_str().unwrap_or_default();
                    // A word that is not on the ladder cannot be compared.
                    words.iter().position(|known| *known == word)
                };
                matches!((rank(now), rank(next)), (Some(now), Some(next)) if next >= now)
            }
            // No user except root is looser than another.
            Self::User => !is_root(next.as_str()),
            Self::Tmpfs => {
                let size = |value: &Value| value.get("size").and_then(Value::as_u64);
                match (now.is_null(), next.is_null()) {
                    (true, _) => true,
                    (false, true) => false,
                    (false, false) => match (size(now), size(next)) {
                        (Some(now), Some(next)) => next <= now,
                        (None, _) => true,
                        (Some(_), None) => false,
                    },
                }
            }
            Self::Mount => {
                let read_only = |value: &Value| value.get("read_only").and_then(Value::as_bool);
                read_only(now) != Some(true) || read_only(next) != Some(false)
            }
        }
    }
}

/// The context for checking one policy's adjustments.
pub(super) struct Floor<'a> {
    /// The spec at the start of the decision.
    pub(super) began: &'a ContainerSpec,
    /// The policy's waivers.
    pub(super) waivers: &'a [Waiver],
    /// The time of the decision.
    pub(super) now_ms: u64,
}

impl Floor<'_> {
    /// Refuses an adjustment that makes the spec looser than it is or was at the start, or that cannot be compared
    /// with it. Returns the waiver that permits the adjustment, if it needs one.
    ///
    /// # Errors
    /// One line that names the field, its value and the requested value.
    pub(super) fn check(&self, spec: &ContainerSpec, adjustment: &Adjustment) -> Result<Option<Waiver>, String> {
        let field = adjustment.field();
        let Some(order) = order_of(&field) else { return Ok(None) };
        let of = |spec: &ContainerSpec| {
            serde_json::to_value(spec).ok().and_then(|json| lookup(&json, &field)).unwrap_or_default()
        };
        let (now, next) = (of(spec), adjustment.value());
        // An earlier loosening through a waiver stands, so then only the current value counts.
        if order.holds(&now, &next) && (order.holds(&of(self.began), &next) || now == next) {
            return Ok(None);
        }
        let waived: Vec<_> = self.waivers.iter().filter(|w| w.field == field && same(&w.value, &next)).collect();
        if let Some(waiver) = waived.iter().find(|waiver| !self.expired(waiver)) {
            return Ok(Some((*waiver).clone()));
        }
        let why = match (waived.first(), self.waivers.iter().find(|waiver| waiver.field == field)) {
            (Some(expired), _) => format!("; its waiver expired on {} ({})", expired.until, expired.reason),
            (None, Some(other)) => format!("; its waiver is only for {}", other.value),
            (None, None) => String::new(),
        };
        let began = of(self.began);
        let before =
            if order.holds(&now, &next) { format!("it was originally {began}") } else { format!("it is {now}") };
        Err(format!("{field} may only be tightened: {before}, but {next} was requested{why}"))
    }

    fn expired(&self, waiver: &Waiver) -> bool {
        let now = i64::try_from(self.now_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        // A time that cannot be represented gives no permission.
        now.is_none_or(|now| now.to_zoned(jiff::tz::TimeZone::UTC).date() > waiver.until)
    }
}

/// Returns whether a waiver's value equals the requested value; lists are compared as sets.
fn same(given: &Value, asked: &Value) -> bool {
    match (given.as_array(), asked.as_array()) {
        (Some(given), Some(asked)) => {
            given.iter().all(|one| asked.contains(one)) && asked.iter().all(|one| given.contains(one))
        }
        _ => given == asked,
    }
}

#[cfg(test)]
mod tests;
