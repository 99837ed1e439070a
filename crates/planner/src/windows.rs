//! The coming windows of the schedules of a group, whether or not conditions, overrides and limits let them decide.

use jiff::Timestamp;

use super::{
    ScheduleId,
    location::Location,
    plan::Vacation,
    rules::{Group, Schedule},
};

/// One run of the window of a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedWindow {
    /// The schedule.
    pub schedule: ScheduleId,
    /// When it starts.
    pub from: Timestamp,
    /// When it ends.
    pub to: Timestamp,
    /// Whether conditions decide too.
    pub conditional: bool,
    /// Whether vacation suspends it, as far as is known now.
    pub suspended: bool,
}

impl PlannedWindow {
    /// The windows of enabled schedules that touch `from..until`, by their start.
    pub fn of(
        group: &Group,
        location: &Location,
        vacation: Vacation,
        from: Timestamp,
        until: Timestamp,
    ) -> Vec<Self> {
        let suspended = vacation.suspends(group);
        let of_schedule = |schedule: &Schedule| {
            let (id, conditional) = (schedule.id.clone(), !schedule.conditions.is_empty());
            let occurrences = schedule.calendar(&group.id, location).between(from, until);
            occurrences.into_iter().map(move |occurrence| Self {
                schedule: id.clone(),
                from: occurrence.start,
                to: occurrence.end,
                conditional,
                suspended,
            })
        };
        let enabled = group.schedules.iter().filter(|schedule| schedule.enabled);
        let mut windows: Vec<Self> = enabled.flat_map(of_schedule).collect();
        windows.sort_by_key(|window| window.from);
        windows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        condition::WhenUnknown,
        rules::InVacation,
        testing::{Site, freezing, group, schedule},
    };

    #[test]
    fn windows_are_those_of_enabled_schedules() {
        let mut late = schedule("late", "22:00", "01:00");
        late.conditions = vec![freezing(WhenUnknown::Off)];
        let mut off = schedule("off", "12:00", "13:00");
        off.enabled = false;
        let mut site = Site::new(group(vec![late, schedule("noon", "12:00", "13:00"), off]), "UTC");
        let windows = |site: &Site, vacation| {
            let (from, until) = (site.wall("2024-06-21T00:00"), site.wall("2024-06-22T00:00"));
            PlannedWindow::of(site.group(), &site.rules.location, vacation, from, until)
        };
        let found = windows(&site, Vacation::Off);
        let shown: Vec<String> = found
            .iter()
            .map(|one| format!("{} {} {} {}", one.schedule, one.from, one.to, one.conditional))
            .collect();
        assert_eq!(
            shown,
            [
                "late 2024-06-20T22:00:00Z 2024-06-21T01:00:00Z true",
                "noon 2024-06-21T12:00:00Z 2024-06-21T13:00:00Z false",
                "late 2024-06-21T22:00:00Z 2024-06-22T01:00:00Z true",
            ]
        );
        assert!(found.iter().all(|one| !one.suspended));
        let away = Vacation::Since(site.wall("2024-06-20T00:00"));
        assert!(windows(&site, away).iter().all(|one| one.suspended));
        site.rules.groups[0].in_vacation = InVacation::Run;
        assert!(windows(&site, away).iter().all(|one| !one.suspended));
    }
}
