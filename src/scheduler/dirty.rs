//! What is to be looked at after an event.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use planner::OutletPath;

use super::deadlines::Subject;

/// The subjects that something happened to.
#[derive(Debug, Default)]
pub(super) struct Dirty(BTreeMap<Subject, LookScope>);

/// What of a subject is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LookScope {
    /// All of it.
    Whole,
    /// Of a group these members, and what follows for the group as a whole. The others are as they were left.
    Members(BTreeSet<OutletPath>),
}

impl LookScope {
    /// Whether a member is looked at.
    pub fn has(&self, path: &OutletPath) -> bool {
        match self {
            Self::Whole => true,
            Self::Members(paths) => paths.contains(path),
        }
    }
}

impl Dirty {
    /// All of a subject.
    pub(super) fn insert(&mut self, subject: Subject) {
        self.0.insert(subject, LookScope::Whole);
    }

    /// One member of a group.
    pub(super) fn insert_member(&mut self, group: Subject, path: &OutletPath) {
        match self.0.entry(group) {
            Entry::Vacant(entry) => {
                entry.insert(LookScope::Members([path.clone()].into()));
            }
            Entry::Occupied(mut entry) => {
                if let LookScope::Members(paths) = entry.get_mut() {
                    paths.insert(path.clone());
                }
            }
        }
    }

    /// Whether there is none.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes a subject.
    pub(super) fn pop(&mut self) -> Option<(Subject, LookScope)> {
        self.0.pop_first()
    }
}

impl Extend<Subject> for Dirty {
    fn extend<T: IntoIterator<Item = Subject>>(&mut self, subjects: T) {
        for subject in subjects {
            self.insert(subject);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_a_group_is_more_than_its_members() {
        let subject = || Subject::Group("mats".parse().unwrap());
        let path = |text: &str| text.parse::<OutletPath>().unwrap();
        let mut dirty = Dirty::default();
        dirty.insert_member(subject(), &path("a"));
        dirty.insert_member(subject(), &path("b"));
        let (_, scope) = dirty.pop().unwrap();
        assert!(scope.has(&path("a")) && scope.has(&path("b")) && !scope.has(&path("c")));
        for whole_first in [false, true] {
            if whole_first {
                dirty.insert(subject());
            }
            dirty.insert_member(subject(), &path("a"));
            dirty.insert(subject());
            assert_eq!(dirty.pop(), Some((subject(), LookScope::Whole)));
            assert_eq!(dirty.pop(), None);
        }
    }
}
