//! Whether a schedule is active: its window is open, and all its conditions hold.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    GroupId, SensorId, Steady,
    condition::{Condition, WhenUnknown},
    evaluate::{ConditionMemory, ConditionResult, Evaluation, Sensors, evaluate, is_settled},
    location::Location,
    occurrence::Occurrence,
    rules::Schedule,
};

/// How long after its start the bridge waits for the first value of a sensor before it takes it for unknown.
pub const BOOT_GRACE: SignedDuration = SignedDuration::from_mins(5);

/// Whether a schedule is active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// It turns its group on.
    Active,
    /// It does not.
    Inactive,
    /// Not known yet. Each outlet stays as it is.
    Undecided,
}

/// What a schedule remembers between two looks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScheduleMemory {
    conditions: Vec<Option<ConditionMemory>>,
    /// What it was last time; `None` before the first time it was known.
    was: Option<Was>,
}

impl ScheduleMemory {
    /// Whether each condition that uses one of these sensors has surely the same result as before.
    pub(super) fn is_settled(&self, schedule: &Schedule, of: &[SensorId], sensors: Sensors<'_>) -> bool {
        let memories = self.conditions.iter().copied().chain(std::iter::repeat(None));
        let uses = |condition: &Condition| condition.test.sensors().into_iter().any(|id| of.contains(id));
        let conditions = schedule.conditions.iter().zip(memories);
        let mut concerned = conditions.filter(|(condition, _)| uses(condition));
        concerned.all(|(condition, memory)| is_settled(condition, sensors, memory))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Was {
    Active,
    Inactive,
}

/// Whether conditions are evaluated at all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Conditions {
    /// Yes.
    #[default]
    Asked,
    /// No: all are taken to hold, to see what would happen then.
    TakenToHold,
}

/// What a schedule is looked at with.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The group of the schedules.
    pub group: &'a GroupId,
    /// Where.
    pub location: &'a Location,
    /// The sensors, and now.
    pub sensors: Sensors<'a>,
    /// Whether they are evaluated.
    pub conditions: Conditions,
    /// Since when all sensors are listened to.
    pub listening_since: Steady,
    /// Whether a member of the group is on.
    pub running: bool,
}

/// A schedule at one instant.
#[derive(Debug, Clone, PartialEq)]
pub struct State<'a> {
    /// The schedule.
    pub schedule: &'a Schedule,
    /// Whether it is active.
    pub activity: Activity,
    /// The window that is open.
    pub occurrence: Option<Occurrence>,
    /// The condition that decided against it, or whose result is unknown.
    pub decided_by: Option<&'a Condition>,
    /// When time alone may change any of this.
    pub wake: Option<Timestamp>,
    /// What to hand in next time.
    pub memory: ScheduleMemory,
}

/// Looks at a schedule.
pub fn look<'a>(schedule: &'a Schedule, memory: &ScheduleMemory, view: View<'_>) -> State<'a> {
    if !schedule.enabled {
        return State {
            schedule,
            activity: Activity::Inactive,
            occurrence: None,
            decided_by: None,
            wake: None,
            memory: ScheduleMemory::default(),
        };
    }
    let now = view.sensors.now;
    let calendar = schedule.calendar(view.group, view.location);
    let occurrence = calendar.open_at(now.wall);
    let evaluated = evaluate_all(schedule, memory, view, occurrence.is_some());
    let (activity, decided_by) = match occurrence {
        None => (Activity::Inactive, None),
        Some(_) => weigh(schedule, &evaluated, memory.was, view),
    };
    let edge = calendar.next_edge(now.wall);
    let sensors = evaluated.iter().filter_map(|evaluation| evaluation.wake);
    let grace = view.listening_since.after(BOOT_GRACE);
    let grace = Some(grace).filter(|end| *end > now.steady && !evaluated.is_empty());
    let inside = sensors.chain(grace).filter(|_| occurrence.is_some());
    let inside = inside.map(|at| now.wall_at(at));
    let was = match activity {
        Activity::Active => Some(Was::Active),
        Activity::Inactive => Some(Was::Inactive),
        Activity::Undecided => memory.was,
    };
    State {
        schedule,
        activity,
        occurrence,
        decided_by,
        wake: edge.into_iter().chain(inside).min(),
        memory: ScheduleMemory {
            conditions: evaluated
                .into_iter()
                .map(|evaluation| evaluation.memory)
                .collect(),
            was,
        },
    }
}

/// Whether each condition of a schedule is met now; `None`: not known.
pub(crate) fn met(schedule: &Schedule, memory: &ScheduleMemory, view: View<'_>) -> Vec<Option<bool>> {
    let open = schedule
        .calendar(view.group, view.location)
        .open_at(view.sensors.now.wall);
    let evaluated = evaluate_all(schedule, memory, view, open.is_some());
    let is_met = |evaluation: Evaluation| match evaluation.answer {
        ConditionResult::Holds => Some(true),
        ConditionResult::Fails => Some(false),
        ConditionResult::Stale | ConditionResult::NoValue => None,
    };
    evaluated.into_iter().map(is_met).collect()
}

fn evaluate_all(schedule: &Schedule, memory: &ScheduleMemory, view: View<'_>, open: bool) -> Vec<Evaluation> {
    if view.conditions == Conditions::TakenToHold {
        return Vec::new();
    }
    // Outlets that run outside the window do not run because of it.
    let running = view.running && open;
    let memories = memory.conditions.iter().copied().chain(std::iter::repeat(None));
    let conditions = schedule.conditions.iter().zip(memories);
    conditions
        .map(|(condition, memory)| evaluate(condition, view.sensors, memory, running))
        .collect()
}

/// All conditions must hold. One that fails decides; then one whose result is unknown.
fn weigh<'a>(
    schedule: &'a Schedule,
    evaluated: &[Evaluation],
    was: Option<Was>,
    view: View<'_>,
) -> (Activity, Option<&'a Condition>) {
    let in_grace = view.sensors.now.steady < view.listening_since.after(BOOT_GRACE);
    let mut undecided = None;
    for (condition, evaluation) in schedule.conditions.iter().zip(evaluated) {
        match verdict(condition, evaluation.answer, was, in_grace) {
            Activity::Active => {}
            Activity::Inactive => return (Activity::Inactive, Some(condition)),
            Activity::Undecided => undecided = undecided.or(Some(condition)),
        }
    }
    match undecided {
        None => (Activity::Active, None),
        Some(condition) => (Activity::Undecided, Some(condition)),
    }
}

fn verdict(condition: &Condition, answer: ConditionResult, was: Option<Was>, in_grace: bool) -> Activity {
    match (answer, condition.when_unknown) {
        (ConditionResult::Holds, _)
        | (ConditionResult::Stale | ConditionResult::NoValue, WhenUnknown::On) => Activity::Active,
        (ConditionResult::NoValue, WhenUnknown::Off) if in_grace => Activity::Undecided,
        (ConditionResult::Fails, _)
        | (ConditionResult::Stale | ConditionResult::NoValue, WhenUnknown::Off) => Activity::Inactive,
        (ConditionResult::Stale | ConditionResult::NoValue, WhenUnknown::Hold) => match was {
            Some(Was::Active) => Activity::Active,
            Some(Was::Inactive) => Activity::Inactive,
            None => Activity::Undecided,
        },
    }
}
