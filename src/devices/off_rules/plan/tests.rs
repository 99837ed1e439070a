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

fn task(wanted: &[WeeklyOff], ours: &[(&str, WeeklyOff)], rules: &[DeviceRule]) -> OffRulePlan {
    let mut task = OffRulePlan::default();
    task.wish(Arc::new(Mirror {
        wanted: wanted.iter().copied().collect(),
        ours: ours.iter().map(|(id, rule)| ((*id).to_owned(), *rule)).collect(),
    }));
    assert_eq!(task.step(rules), Step::Read);
    task.compare(rules);
    task
}

fn rule(id: &str, rule: WeeklyOff) -> DeviceRule {
    rule.as_rule(id.to_owned())
}

#[test]
fn what_is_missing_is_added_once_there_is_room() {
    let wanted = off(481, ALL);
    let mut task = task(&[wanted], &[], &[]);
    assert_eq!(task.step(&[]), Step::AskForRoom);
    task.room = Some(1);
    assert_eq!(task.step(&[]), Step::Add(wanted));
    let foreign = [rule("S1", off(5, ALL))];
    assert_eq!(task.step(&foreign), Step::Applied);
    let trouble = task.outcome(&foreign).trouble.unwrap();
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
    let mut task = task(&[new], &ours, &rules);
    assert_eq!(task.ours.len(), 2, "one is not there any more");
    assert_eq!(task.step(&rules), Step::RelayChange("S1".to_owned(), new));
    task.ours.insert("S1".to_owned(), new);
    assert_eq!(task.step(&rules), Step::Remove("S3".to_owned()));
    task.ours.remove("S3");
    assert_eq!(task.step(&rules[..2]), Step::Applied);
}

#[test]
fn a_rule_that_somebody_changed_is_theirs() {
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
        let task = task(&[], &[("S1", ours)], &rules);
        assert_eq!(task.step(&rules), Step::Applied);
    }
}

#[test]
fn a_rule_of_the_app_that_does_the_same_is_enough() {
    let rules = [rule("S1", off(481, ALL))];
    let task = task(&[off(481, 0b110)], &[], &rules);
    assert_eq!(task.step(&rules), Step::Applied);
    assert_eq!(task.outcome(&rules).trouble, None);
    assert!(task.outcome(&rules).ours.is_empty());
}

#[test]
fn a_rule_whose_answer_was_lost_is_known_again() {
    let wanted = off(481, ALL);
    let before = [rule("S1", off(5, ALL))];
    let mut task = task(&[wanted], &[], &before);
    task.adding = Some((wanted, ["S1".to_owned()].into()));
    task.doubt();
    let after = [rule("S1", off(5, ALL)), rule("S2", wanted)];
    assert_eq!(task.step(&after), Step::Read);
    task.compare(&after);
    assert!(task.ours.contains_key("S2"));
    assert_eq!(task.step(&after), Step::Applied);
}

#[test]
fn what_somebody_removed_is_put_back() {
    let wanted = off(481, ALL);
    let there = [rule("S1", wanted)];
    let mut task = task(&[wanted], &[("S1", wanted)], &there);
    task.pending = Pending::Nothing;
    task.repair(&there);
    assert!(!task.is_pending());
    task.compare(&[]);
    task.repair(&[]);
    assert!(task.is_pending());
    task.room = Some(32);
    assert_eq!(task.step(&[]), Step::Add(wanted));
}

#[test]
fn what_is_refused_is_asked_once() {
    let wanted = off(481, ALL);
    let mut task = task(&[wanted], &[], &[]);
    task.room = Some(32);
    task.refused.insert(wanted, "no".to_owned());
    assert_eq!(task.step(&[]), Step::Applied);
    assert_eq!(task.outcome(&[]).trouble.as_deref(), Some("no"));
    task.wish(Arc::new(Mirror::default()));
    assert!(task.refused.is_empty());
}

#[test]
fn what_cannot_be_removed_stays_ours() {
    let old = off(481, ALL);
    let rules = [rule("S1", old)];
    let mut task = task(&[], &[("S1", old)], &rules);
    assert_eq!(task.step(&rules), Step::Remove("S1".to_owned()));
    task.refused.insert(old, "no".to_owned());
    assert_eq!(task.step(&rules), Step::Applied);
    assert!(task.outcome(&rules).ours.contains_key("S1"));
}
