//! Groups of which at most one outlet may be on: the others go off and are confirmed off before one goes on.

use super::{Look, Scheduler, errand::Deferred, outlet::Live};
use crate::domain::report::EventKind;
use planner::{
    OutletPath, Power,
    interlock::{InterlockClaim, InterlockOwners},
    plan::Rule,
    rules::Interlock,
};

impl Scheduler {
    /// Who holds each interlock now.
    pub(super) fn find_holders(&mut self) {
        self.book.holders = InterlockOwners::find(&self.book.rules, |path| self.claim(path));
    }

    fn claim(&self, path: &OutletPath) -> Option<InterlockClaim> {
        if let Some(wanted) = self.desk.wanted_on(path) {
            return Some(InterlockClaim::Came(wanted));
        }
        let live = self.live.get(path).filter(|live| live.power == Some(Power::On))?;
        Some(
            live.went_on
                .map_or(InterlockClaim::Found(live.on_since), InterlockClaim::Came),
        )
    }

    /// The other members of an interlocked group; none of a group that is not.
    pub(super) fn rivals<'a>(&'a self, path: &'a OutletPath) -> impl Iterator<Item = &'a OutletPath> {
        let group = self.book.rules.group_of(path);
        let interlocked = group.filter(|group| group.interlock == Interlock::OneOn);
        let members = interlocked.into_iter().flat_map(|group| &group.outlets);
        members.filter(move |other| *other != path)
    }

    /// A rival that is not surely off.
    pub(super) fn in_its_way<'a>(&'a self, path: &'a OutletPath) -> Option<&'a OutletPath> {
        let may_be_on = |rival: &&OutletPath| self.live.get(*rival).is_none_or(Live::may_be_on);
        self.rivals(path).find(may_be_on)
    }

    /// Whether one command would turn on two of which at most one may be on.
    pub(super) fn are_rivals(&self, paths: &[OutletPath]) -> bool {
        paths
            .iter()
            .any(|path| self.rivals(path).any(|rival| paths.contains(rival)))
    }

    /// Says that an outlet goes off to make room for another.
    pub(super) fn tell_interlocked(&mut self, path: &OutletPath, look: Look) {
        let Some(plan) = self.book.plan.outlets.get(path) else {
            return;
        };
        if plan.rule == Some(Rule::Interlock) {
            let (group, message) = (
                plan.group.clone(),
                format!("{path} is switched off: {}", plan.reason),
            );
            self.tell_event(EventKind::Interlock, Some(path), Some(group), message, look);
        }
    }

    /// The time of a command is over, and a rival did not go off.
    pub(super) fn give_way(&mut self, deferred: &Deferred, rival: &OutletPath, look: Look) {
        let path = &deferred.path;
        let message = format!(
            "{path} was not switched on: at most one outlet of its group may be on, and {rival} is not confirmed off"
        );
        self.refuse_for_safety(deferred.errand, path, message, look);
    }
}
