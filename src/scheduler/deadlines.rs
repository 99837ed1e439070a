//! What happens later, in order.

use std::collections::{BTreeMap, BTreeSet};

use planner::{GroupId, Steady};

use super::relays::RelayId;

/// What a deadline concerns.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A group and all its members.
    Group(GroupId),
    /// An outlet that is in no group.
    Outlet(RelayId),
    /// The sensors that conditions use.
    Sensors,
}

/// The next deadline of each subject.
#[derive(Debug, Default)]
pub struct Deadlines {
    queue: BTreeSet<(Steady, Subject)>,
    of: BTreeMap<Subject, Steady>,
}

impl Deadlines {
    /// Sets the next deadline of a subject, instead of the one before.
    pub fn set(&mut self, subject: Subject, at: Option<Steady>) {
        if let Some(before) = self.of.remove(&subject) {
            self.queue.remove(&(before, subject.clone()));
        }
        if let Some(at) = at {
            self.queue.insert((at, subject.clone()));
            self.of.insert(subject, at);
        }
    }

    /// A subject is looked at at this time at the latest.
    pub fn set_latest(&mut self, subject: Subject, at: Steady) {
        if self.of.get(&subject).is_none_or(|known| *known > at) {
            self.set(subject, Some(at));
        }
    }

    /// The deadline of a subject.
    #[cfg(test)]
    pub fn of(&self, subject: &Subject) -> Option<Steady> {
        self.of.get(subject).copied()
    }

    /// The first deadline of all.
    pub fn next(&self) -> Option<Steady> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// Takes a subject whose deadline is over.
    pub fn take_due(&mut self, now: Steady) -> Option<Subject> {
        let (at, subject) = self.queue.first().filter(|(at, _)| *at <= now)?.clone();
        self.queue.remove(&(at, subject.clone()));
        self.of.remove(&subject);
        Some(subject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_deadline_of_a_subject_counts() {
        let at = |second| Steady::at(jiff::Timestamp::from_second(second).unwrap());
        let group = |id: &str| Subject::Group(id.parse().unwrap());
        let mut deadlines = Deadlines::default();
        deadlines.set(group("a"), Some(at(5)));
        deadlines.set(group("b"), Some(at(3)));
        deadlines.set(group("a"), Some(at(2)));
        assert_eq!(deadlines.next(), Some(at(2)));
        assert_eq!(deadlines.take_due(at(1)), None);
        assert_eq!(deadlines.take_due(at(4)), Some(group("a")));
        assert_eq!(deadlines.take_due(at(4)), Some(group("b")));
        assert_eq!(deadlines.take_due(at(9)), None);
        deadlines.set(group("b"), Some(at(3)));
        deadlines.set_latest(group("b"), at(4));
        assert_eq!(deadlines.next(), Some(at(3)));
        deadlines.set_latest(group("b"), at(2));
        assert_eq!(deadlines.next(), Some(at(2)));
        deadlines.set(group("b"), None);
        assert_eq!(deadlines.next(), None);
    }
}
