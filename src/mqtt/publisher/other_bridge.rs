//! Another bridge with the same base topic. Pure.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use serde::Deserialize;
use tokio::time::Instant;

/// Each bridge publishes `bridge/health` once a minute. One that did not for this long is gone.
const GONE_AFTER: Duration = Duration::from_secs(150);
/// How much the uptime in two messages may differ from the time between them.
const TOLERANCE: Duration = Duration::from_secs(10);
/// Instances that are remembered.
const INSTANCES_MAX: usize = 8;

/// What distinguishes the `bridge/health` of two bridges.
#[derive(Debug, Deserialize)]
pub(super) struct PublishedHealth {
    pub(super) instance: String,
    uptime_s: u64,
}

/// When another bridge with the same base topic was last seen. Each command is carried out by both.
///
/// One message is no bridge: brokers that forward to each other repeat what an earlier run of this bridge left there, and
/// may have queued several of its messages. A bridge that runs gets older with the time.
#[derive(Debug, Default)]
pub(super) struct OtherBridge {
    instances: Vec<Instance>,
    hasher: RandomState,
    seen: Option<Instant>,
}

#[derive(Debug)]
struct Instance {
    name: String,
    uptime: Duration,
    payload: u64,
    received: Instant,
}

impl OtherBridge {
    /// `bridge/health` with another instance than that of this bridge arrived. Returns whether another bridge is here that
    /// was not before.
    pub(super) fn received(&mut self, health: PublishedHealth, payload: &[u8], now: Instant) -> bool {
        let latest = Instance {
            name: health.instance,
            uptime: Duration::from_secs(health.uptime_s),
            payload: self.hasher.hash_one(payload),
            received: now,
        };
        let known = self.instances.iter().position(|known| known.name == latest.name);
        let earlier = known.map(|position| self.instances.remove(position));
        let runs = earlier.is_some_and(|earlier| latest.runs_since(&earlier));
        if self.instances.len() == INSTANCES_MAX {
            self.instances.remove(0);
        }
        self.instances.push(latest);
        let new = runs && !self.is_here(now);
        if runs {
            self.seen = Some(now);
        }
        new
    }

    /// Whether there is one.
    pub(super) fn is_here(&self, now: Instant) -> bool {
        self.seen
            .is_some_and(|seen| now.duration_since(seen) < GONE_AFTER)
    }
}

impl Instance {
    /// Whether it ran between an earlier message and this one.
    fn runs_since(&self, earlier: &Self) -> bool {
        let elapsed = self.received.duration_since(earlier.received);
        let aged = self.uptime.checked_sub(earlier.uptime);
        self.payload != earlier.payload && aged.is_some_and(|aged| aged.abs_diff(elapsed) <= TOLERANCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(other: &mut OtherBridge, start: Instant, second: u64, instance: &str, uptime_s: u64) -> bool {
        let payload = format!("{instance} {uptime_s}");
        let health = PublishedHealth {
            instance: instance.to_owned(),
            uptime_s,
        };
        other.received(health, payload.as_bytes(), start + Duration::from_secs(second))
    }

    #[test]
    fn it_is_new_once_until_it_is_gone() {
        let (mut other, start) = (OtherBridge::default(), Instant::now());
        assert!(!at(&mut other, start, 0, "a", 500));
        assert!(!other.is_here(start), "one message is no bridge");
        assert!(at(&mut other, start, 60, "a", 560));
        assert!(!at(&mut other, start, 120, "a", 620));
        assert!(other.is_here(start + Duration::from_mins(2)));
        assert!(!other.is_here(start + Duration::from_mins(2) + GONE_AFTER));
        assert!(at(&mut other, start, 600, "a", 1100));
    }

    #[test]
    fn what_an_earlier_run_left_is_no_bridge() {
        let (mut other, start) = (OtherBridge::default(), Instant::now());
        for second in [0, 1, 9, 60, 500] {
            assert!(!at(&mut other, start, second, "earlier", 500), "repeated");
        }
        for minute in 0..9 {
            assert!(!at(&mut other, start, 1, "queued", 60 * minute), "at once");
        }
        assert!(!other.is_here(start + Duration::from_mins(9)));
    }

    #[test]
    fn two_others_are_told_apart_and_few_are_remembered() {
        let (mut other, start) = (OtherBridge::default(), Instant::now());
        at(&mut other, start, 0, "a", 10);
        at(&mut other, start, 1, "b", 900);
        assert!(at(&mut other, start, 60, "a", 70));
        for n in 0..20 {
            at(&mut other, start, 61, &n.to_string(), n);
        }
        assert_eq!(other.instances.len(), INSTANCES_MAX);
    }
}
