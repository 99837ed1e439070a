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
    plan.set_wanted(Arc::new(Mirror {
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
    let trouble = plan.outcome(&external).unwrap().trouble.unwrap();
    assert!(trouble.contains("all 1 places"), "{trouble}");
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
    assert_eq!(plan.outcome(&rules).unwrap().trouble, None);
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
    plan.pending = Pending::Nothing;
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
    assert_eq!(plan.outcome(&[]).unwrap().trouble.as_deref(), Some("no"));
    plan.set_wanted(Arc::new(Mirror::default()));
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
