//! Subscriptions that the broker denied on a connection, and when to try them again. No I/O.

use std::time::Duration;

use tokio::time::Instant;

use crate::Filter;

/// The first wait. A cluster that lost a node may deny subscriptions until it has elected a new leader.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The longest wait: access rules that deny a topic rarely change.
const LONGEST_WAIT: Duration = Duration::from_mins(5);
/// Far away, for when there is nothing to try.
const NEVER: Duration = Duration::from_hours(24);

/// The denied filters of one connection.
#[derive(Debug)]
pub(crate) struct RefusedFilters {
    filters: Vec<Filter>,
    wait: Duration,
    retry_at: Option<Instant>,
}

impl Default for RefusedFilters {
    fn default() -> Self {
        Self {
            filters: Vec::new(),
            wait: FIRST_WAIT,
            retry_at: None,
        }
    }
}

impl RefusedFilters {
    /// The broker denied this one. Returns whether that is new.
    pub(crate) fn add(&mut self, filter: &Filter, now: Instant) -> bool {
        self.retry_at.get_or_insert(now + self.wait);
        let is_new = !self.filters.contains(filter);
        if is_new {
            self.filters.push(filter.clone());
        }
        is_new
    }

    /// The broker granted this one, or it is not wanted any more. Returns whether it was denied.
    pub(crate) fn remove(&mut self, filter: &Filter) -> bool {
        let before = self.filters.len();
        self.filters.retain(|refused| refused != filter);
        self.filters.len() < before
    }

    /// When to try all of them again.
    pub(crate) fn retry_at(&self) -> Instant {
        self.retry_at.unwrap_or_else(|| Instant::now() + NEVER)
    }

    /// Those that are tried again now. Each time that does not help, the next one waits longer.
    pub(crate) fn on_retry(&mut self, now: Instant) -> &[Filter] {
        self.retry_at = None;
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        if !self.filters.is_empty() {
            // Also if the broker does not answer.
            self.retry_at = Some(now + self.wait);
        }
        &self.filters
    }

    /// Whether the broker denied all of these.
    pub(crate) fn has_all(&self, filters: &[Filter]) -> bool {
        filters.iter().all(|filter| self.filters.contains(filter))
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.filters.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denied_filter_is_new_once_and_tried_later_and_later() {
        let (mut refused, now) = (RefusedFilters::default(), Instant::now());
        let filter: Filter = "a/+/set".parse().unwrap();
        assert!(refused.add(&filter, now));
        assert!(!refused.add(&filter, now));
        let mut waits = Vec::new();
        for _ in 0..11 {
            let at = refused.retry_at();
            waits.push((at - now).as_secs_f32());
            assert_eq!(refused.on_retry(now).len(), 1);
            assert!(!refused.add(&filter, now), "denied again");
        }
        assert_eq!(
            waits,
            [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 300.0]
        );
    }

    #[test]
    fn a_granted_filter_is_not_tried_again() {
        let (mut refused, now) = (RefusedFilters::default(), Instant::now());
        let filter: Filter = "a/+/set".parse().unwrap();
        refused.add(&filter, now);
        assert!(refused.remove(&filter));
        assert!(!refused.remove(&filter));
        assert!(refused.on_retry(now).is_empty());
        assert_eq!(refused.len(), 0);
        assert!(refused.retry_at() > now + LONGEST_WAIT);
    }
}
