//! Which OFF rules of the bridge are on an outlet, and the next request towards the wanted ones. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::domain::{
    off_rules::{OffRulesStatus, OurRules, WantedOffRules, WeeklyOff},
    report::DeviceRule,
};

/// The wanted OFF rules and those on the outlet.
#[derive(Debug, Default)]
pub(super) struct OffRulePlan {
    wanted: Option<Arc<WantedOffRules>>,
    ours: OurRules,
    /// Whether the rules were read since they may have changed.
    is_read: bool,
    /// How many rules the outlet holds at most; `None` until it was asked.
    capacity: Option<usize>,
    /// The last rule that was sent without an answer, and the ids that existed before.
    adding: Option<(WeeklyOff, BTreeSet<String>)>,
    /// The rules that the outlet refused, and why. Each is sent once for each request of the scheduler.
    refused: BTreeMap<WeeklyOff, String>,
    /// Whether requests are to be sent.
    is_pending: bool,
}

/// The next request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Read the rules.
    Read,
    /// Read how many rules the outlet holds at most.
    ReadCapacity,
    /// Remove a rule of the bridge.
    Remove(String, WeeklyOff),
    /// Replace the content of a rule of the bridge.
    Change(String, WeeklyOff),
    /// Add a rule.
    Add(WeeklyOff),
    /// None.
    Done,
}

impl OffRulePlan {
    /// The scheduler wants these rules.
    pub(super) fn set_wanted(&mut self, wanted: Arc<WantedOffRules>) {
        self.ours.extend(wanted.ours.clone());
        self.refused.clear();
        self.is_read = false;
        self.is_pending = true;
        self.wanted = Some(wanted);
    }

    /// The rules of the bridge on the outlet.
    pub(super) fn ours(&self) -> &OurRules {
        &self.ours
    }

    /// Whether requests are to be sent.
    pub(super) fn is_pending(&self) -> bool {
        self.is_pending
    }

    /// No more requests for now.
    pub(super) fn stop(&mut self) {
        self.is_pending = false;
    }

    /// A new connection: a request in flight may have been carried out or not.
    pub(super) fn mark_stale(&mut self) {
        self.is_read = false;
        self.capacity = None;
    }

    pub(super) fn set_capacity(&mut self, capacity: usize) {
        self.capacity = Some(capacity);
    }

    /// A rule is about to be sent; the answer may not arrive.
    pub(super) fn on_adding(&mut self, wanted: WeeklyOff, rules: &[DeviceRule]) {
        let before = rules.iter().map(|rule| rule.id.clone()).collect();
        self.adding = Some((wanted, before));
    }

    /// The outlet accepted a rule under this id.
    pub(super) fn on_written(&mut self, id: &str, rule: WeeklyOff) {
        self.adding = None;
        self.ours.insert(id.to_owned(), rule);
    }

    /// The outlet removed a rule.
    pub(super) fn on_removed(&mut self, id: &str) {
        self.ours.remove(id);
    }

    /// The outlet refused a rule.
    pub(super) fn on_refused(&mut self, rule: WeeklyOff, reason: String) {
        self.refused.insert(rule, reason);
        self.is_read = false;
    }

    /// The rules were read. Those of the bridge have both a known id and the content that was written.
    pub(super) fn compare(&mut self, rules: &[DeviceRule]) {
        if let Some((wanted, before)) = self.adding.take() {
            let new = rules
                .iter()
                .find(|rule| wanted.is(rule) && !before.contains(&rule.id));
            self.ours.extend(new.map(|rule| (rule.id.clone(), wanted)));
        }
        self.ours
            .retain(|id, ours| rules.iter().any(|rule| rule.id == *id && ours.is(rule)));
        self.is_read = true;
    }

    /// A wanted rule was removed externally, or there is room for it now.
    pub(super) fn repair(&mut self, rules: &[DeviceRule]) {
        if self.step(rules) != Step::Done {
            self.is_pending = true;
        }
    }

    /// The next request, with these rules on the outlet.
    pub(super) fn step(&self, rules: &[DeviceRule]) -> Step {
        let Some(wanted) = &self.wanted else {
            return Step::Done;
        };
        if !self.is_read {
            return Step::Read;
        }
        let external = |rule: &&DeviceRule| !self.ours.contains_key(&rule.id);
        let is_missing = |wanted: &&WeeklyOff| {
            !self.ours.values().any(|ours| ours == *wanted)
                && !self.refused.contains_key(wanted)
                && !rules
                    .iter()
                    .filter(external)
                    .any(|rule| wanted.is_covered_by(rule))
        };
        let missing: Vec<WeeklyOff> = wanted.wanted.iter().filter(is_missing).copied().collect();
        let is_surplus = |ours: &WeeklyOff| !wanted.wanted.contains(ours) && !self.refused.contains_key(ours);
        let surplus = self.ours.iter().find(|(_, ours)| is_surplus(ours));
        if let Some((id, ours)) = surplus {
            // A rule of the same minute is changed: two of them collide, and without one an OFF could be missed.
            let instead = missing.iter().find(|wanted| wanted.minute == ours.minute);
            return match instead {
                Some(wanted) => Step::Change(id.clone(), *wanted),
                None => Step::Remove(id.clone(), *ours),
            };
        }
        match (missing.first(), self.capacity) {
            (None, _) => Step::Done,
            (Some(_), None) => Step::ReadCapacity,
            (Some(_), Some(capacity)) if rules.len() >= capacity => Step::Done,
            (Some(wanted), Some(_)) => Step::Add(*wanted),
        }
    }

    /// What became of the wanted rules; `None` before the rules were read.
    pub(super) fn outcome(&self, rules: &[DeviceRule]) -> Option<OffRulesStatus> {
        let wanted = &self.wanted.as_ref()?.wanted;
        if !self.is_read {
            return None;
        }
        let is_full = self.capacity.is_some_and(|capacity| rules.len() >= capacity);
        let is_missing = |wanted: &WeeklyOff| {
            let ours = self.ours.values().any(|ours| ours == wanted);
            !ours && !rules.iter().any(|rule| wanted.is_covered_by(rule))
        };
        let refused = self.refused.values().next().cloned();
        let error = refused.or_else(|| {
            let no_room = is_full && wanted.iter().any(is_missing);
            no_room.then(|| format!("all {} places for rules are taken", rules.len()))
        });
        Some(OffRulesStatus {
            wanted: (!self.is_pending()).then(|| wanted.clone()),
            ours: self.ours.clone(),
            error,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::report::{RuleTime, Weekdays};
    use planner::Power;

    const ALL: u8 = 0x7f;

    fn off(minute: u16, days: u8) -> WeeklyOff {
        WeeklyOff {
            minute,
            days: Weekdays::from_bits(days),
        }
    }

    fn plan(wanted: &[WeeklyOff], ours: &[(&str, WeeklyOff)], rules: &[DeviceRule]) -> OffRulePlan {
        let mut plan = OffRulePlan::default();
        plan.set_wanted(Arc::new(WantedOffRules {
            wanted: wanted.iter().copied().collect(),
            ours: ours.iter().map(|(id, rule)| ((*id).to_owned(), *rule)).collect(),
        }));
        assert_eq!(plan.step(rules), Step::Read);
        plan.compare(rules);
        plan
    }

    fn rule(id: &str, rule: WeeklyOff) -> DeviceRule {
        rule.as_rule(id.to_owned())
    }

    #[test]
    fn a_missing_rule_is_added_once_there_is_room() {
        let wanted = off(481, ALL);
        let mut plan = plan(&[wanted], &[], &[]);
        assert_eq!(plan.step(&[]), Step::ReadCapacity);
        plan.capacity = Some(1);
        assert_eq!(plan.step(&[]), Step::Add(wanted));
        let external = [rule("S1", off(5, ALL))];
        assert_eq!(plan.step(&external), Step::Done);
        let error = plan.outcome(&external).unwrap().error.unwrap();
        assert!(error.contains("all 1 places"), "{error}");
    }

    #[test]
    fn only_ours_are_removed_and_changed() {
        let (old, new) = (off(481, ALL), off(481, 0b10));
        let rules = [
            rule("S1", old),
            rule("S2", off(600, ALL)),
            rule("S3", off(700, ALL)),
        ];
        let ours = [("S1", old), ("S3", off(700, ALL)), ("S9", off(9, ALL))];
        let mut plan = plan(&[new], &ours, &rules);
        assert_eq!(plan.ours.len(), 2, "one is not there any more");
        assert_eq!(plan.step(&rules), Step::Change("S1".to_owned(), new));
        plan.ours.insert("S1".to_owned(), new);
        assert_eq!(plan.step(&rules), Step::Remove("S3".to_owned(), off(700, ALL)));
        plan.ours.remove("S3");
        assert_eq!(plan.step(&rules[..2]), Step::Done);
    }

    #[test]
    fn a_rule_that_was_changed_externally_is_external() {
        let ours = off(481, ALL);
        for change in [
            |rule: &mut DeviceRule| rule.enabled = false,
            |rule: &mut DeviceRule| rule.to = Power::On,
            |rule: &mut DeviceRule| rule.days = None,
            |rule: &mut DeviceRule| rule.time = RuleTime::Clock { minute: 500 },
        ] {
            let mut changed = rule("S1", ours);
            change(&mut changed);
            let rules = [changed];
            let plan = plan(&[], &[("S1", ours)], &rules);
            assert_eq!(plan.step(&rules), Step::Done);
        }
    }

    #[test]
    fn a_rule_of_the_app_with_the_same_effect_is_enough() {
        let rules = [rule("S1", off(481, ALL))];
        let plan = plan(&[off(481, 0b110)], &[], &rules);
        assert_eq!(plan.step(&rules), Step::Done);
        assert_eq!(plan.outcome(&rules).unwrap().error, None);
        assert!(plan.outcome(&rules).unwrap().ours.is_empty());
    }

    #[test]
    fn a_rule_whose_answer_was_lost_is_recognized() {
        let wanted = off(481, ALL);
        let before = [rule("S1", off(5, ALL))];
        let mut plan = plan(&[wanted], &[], &before);
        plan.adding = Some((wanted, ["S1".to_owned()].into()));
        plan.mark_stale();
        let after = [rule("S1", off(5, ALL)), rule("S2", wanted)];
        assert_eq!(plan.step(&after), Step::Read);
        plan.compare(&after);
        assert!(plan.ours.contains_key("S2"));
        assert_eq!(plan.step(&after), Step::Done);
    }

    #[test]
    fn a_rule_that_was_removed_externally_is_added_again() {
        let wanted = off(481, ALL);
        let there = [rule("S1", wanted)];
        let mut plan = plan(&[wanted], &[("S1", wanted)], &there);
        plan.is_pending = false;
        plan.repair(&there);
        assert!(!plan.is_pending());
        plan.compare(&[]);
        plan.repair(&[]);
        assert!(plan.is_pending());
        plan.capacity = Some(32);
        assert_eq!(plan.step(&[]), Step::Add(wanted));
    }

    #[test]
    fn a_refused_rule_is_sent_once() {
        let wanted = off(481, ALL);
        let mut plan = plan(&[wanted], &[], &[]);
        plan.capacity = Some(32);
        plan.refused.insert(wanted, "no".to_owned());
        assert_eq!(plan.step(&[]), Step::Done);
        assert_eq!(plan.outcome(&[]).unwrap().error.as_deref(), Some("no"));
        plan.set_wanted(Arc::new(WantedOffRules::default()));
        assert!(plan.refused.is_empty());
    }

    #[test]
    fn a_rule_that_cannot_be_removed_stays_ours() {
        let old = off(481, ALL);
        let rules = [rule("S1", old)];
        let mut plan = plan(&[], &[("S1", old)], &rules);
        assert_eq!(plan.step(&rules), Step::Remove("S1".to_owned(), old));
        plan.refused.insert(old, "no".to_owned());
        assert_eq!(plan.step(&rules), Step::Done);
        assert!(plan.outcome(&rules).unwrap().ours.contains_key("S1"));
    }
}
