//! Rate limits: token buckets, one per client, with a limit on their number to bound memory.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The limit of buckets. When it is reached, full buckets are forgotten; if there are none, all buckets are.
const MOST: usize = 4_096;

/// Token buckets that refill over time. Each request takes one token.
#[derive(Debug)]
pub(in crate::api) struct Buckets<K> {
    per_second: f64,
    burst: f64,
    all: Mutex<HashMap<K, (f64, Instant)>>,
}

impl<K: Hash + Eq> Buckets<K> {
    /// Creates buckets that allow `burst` requests at once, and then `per_second` requests per second.
    pub(in crate::api) fn new(burst: u32, per_second: f64) -> Self {
        Self { per_second, burst: f64::from(burst), all: Mutex::default() }
    }

    /// Takes one token from a bucket.
    ///
    /// # Errors
    /// The time until the next token when the bucket is empty.
    pub(in crate::api) fn take(&self, key: K, now: Instant) -> Result<(), Duration> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let filled = |(level, since): (f64, Instant)| {
            (level + now.saturating_duration_since(since).as_secs_f64() * self.per_second).min(self.burst)
        };
        if all.len() >= MOST && !all.contains_key(&key) {
            all.retain(|_, bucket| filled(*bucket) < self.burst);
            if all.len() >= MOST {
                all.clear();
            }
        }
        let level = all.get(&key).map_or(self.burst, |bucket| filled(*bucket));
        if level < 1.0 {
            all.insert(key, (level, now));
            return Err(Duration::from_secs_f64((1.0 - level) / self.per_second));
        }
        all.insert(key, (level - 1.0, now));
        Ok(())
    }
}

/// Returns the address that identifies a client. A client with IPv6 has at least a network of 64 bits.
pub(in crate::api) fn origin(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

/// Counters per key, each with the same limit.
#[derive(Debug)]
pub(in crate::api) struct ConnectionLimit<K: Hash + Eq + Clone> {
    most: usize,
    all: Mutex<HashMap<K, usize>>,
}

impl<K: Hash + Eq + Clone> ConnectionLimit<K> {
    pub(in crate::api) fn new(most: usize) -> Self {
        Self { most, all: Mutex::default() }
    }

    /// Takes a slot, which is free again when it is dropped. Returns `None` when the key has reached the limit.
    pub(in crate::api) fn enter(self: &std::sync::Arc<Self>, key: K) -> Option<Place<K>> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(key.clone()).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Place { crowd: self.clone(), key })
    }
}

/// A slot of a [`ConnectionLimit`].
#[derive(Debug)]
pub(in crate::api) struct Place<K: Hash + Eq + Clone> {
    crowd: std::sync::Arc<ConnectionLimit<K>>,
    key: K,
}

impl<K: Hash + Eq + Clone> Drop for Place<K> {
    fn drop(&mut self) {
        let mut all = self.crowd.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = all.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_what_time_brings() {
        let (buckets, begin) = (Buckets::new(3, 2.0), Instant::now());
        for _ in 0..3 {
            buckets.take("a", begin).unwrap();
        }
        let wait = buckets.take("a", begin).unwrap_err();
        assert_eq!(wait, Duration::from_millis(500));
        buckets.take("b", begin).unwrap();
        assert!(buckets.take("a", begin + wait / 2).is_err());
        buckets.take("a", begin + wait).unwrap();
        assert!(buckets.take("a", begin + wait).is_err());
        // A bucket never holds more than its burst.
        let late = begin + Duration::from_secs(3600);
        assert_eq!((0..10).filter(|_| buckets.take("a", late).is_ok()).count(), 3);
    }

    #[test]
    fn however_many_come_the_memory_is_bounded_and_who_is_over_stays_over() {
        let (buckets, begin) = (Buckets::new(1, 1.0), Instant::now());
        for number in 0..MOST - 1 {
            buckets.take(number, begin).unwrap();
        }
        let later = begin + Duration::from_secs(2);
        buckets.take(usize::MAX, later).unwrap();
        for number in MOST..MOST * 2 {
            let _ = buckets.take(number, later);
            assert!(buckets.all.lock().unwrap().len() <= MOST);
        }
        let buckets = Buckets::new(1, 1.0);
        buckets.take(usize::MAX, later).unwrap();
        for number in 0..MOST - 1 {
            buckets.take(number, begin).unwrap();
        }
        buckets.take(MOST, later).unwrap();
        assert!(buckets.take(usize::MAX, later).is_err(), "those that are full again went, and it stayed");
    }

    #[test]
    fn addresses_of_one_network_are_one() {
        let of = |text: &str| origin(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }

    #[test]
    fn who_leaves_makes_room() {
        let crowd = std::sync::Arc::new(ConnectionLimit::new(2));
        let (first, second) = (crowd.enter("a"), crowd.enter("a"));
        assert!(first.is_some() && crowd.enter("a").is_none() && crowd.enter("b").is_some());
        drop(first);
        assert!(crowd.enter("a").is_some());
        drop(second);
        assert!(crowd.all.lock().unwrap().is_empty());
    }
}
