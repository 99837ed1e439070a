//! The log of a button at a hub, in which each press is an entry. Pure.
//!
//! Sources: the `tapo` crate 0.12.2 (`TriggerLogsResult`, `S200Event`), python-kasa 0.12 (`triggerlogs.py`).

use serde_json::Value;

use crate::domain::button_action::ButtonAction;

/// A page of `get_trigger_logs`: the newest entry first.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::devices) struct TriggerLogs {
    /// The number of the newest entry; 0 of an empty log. The hub numbers the entries of all its devices in one row.
    pub(in crate::devices) newest: u64,
    /// The presses in the order in which they happened, each with its number.
    pub(in crate::devices) presses: Vec<(u64, ButtonAction)>,
}

impl TriggerLogs {
    /// Entries that are no press, and those that cannot be read, are left out. `None` without a list.
    pub(in crate::devices) fn of(page: &Value) -> Option<Self> {
        let mut logs = Self::default();
        for entry in page.get("logs")?.as_array()?.iter().take(ENTRIES_MAX) {
            let Some(id) = entry.get("id").and_then(Value::as_u64) else {
                continue;
            };
            logs.newest = logs.newest.max(id);
            logs.presses.extend(action(entry).map(|action| (id, action)));
        }
        logs.presses.sort_by_key(|(id, _)| *id);
        Some(logs)
    }

    /// The presses after this entry.
    pub(in crate::devices) fn after(self, last: u64) -> impl Iterator<Item = ButtonAction> {
        let new = self.presses.into_iter().filter(move |(id, _)| *id > last);
        new.map(|(_, action)| action)
    }
}

/// So many presses between two polls are reported at most.
pub(in crate::devices) const ENTRIES_MAX: usize = 20;

fn action(entry: &Value) -> Option<ButtonAction> {
    match entry.get("event")?.as_str()? {
        "singleClick" => Some(ButtonAction::Single),
        "doubleClick" => Some(ButtonAction::Double),
        "rotation" => Some(ButtonAction::Rotate),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn each_press_is_read_in_its_order() {
        let page = json!({ "start_id": 12, "sum": 40, "logs": [
            { "id": 12, "timestamp": 1_758_400_000, "event": "rotation", "params": { "rotate_deg": -90 } },
            { "id": 11, "timestamp": 1_758_399_990, "event": "singleClick", "eventId": "b4" },
            { "id": 10, "timestamp": 1_758_399_980, "event": "doubleClick" },
            { "id": 9, "timestamp": 1_758_399_970, "event": "lowBattery" },
            { "id": 8, "event": "novel" }, { "event": "singleClick" }, 7, null,
        ] });
        let after = |last| TriggerLogs::of(&page).unwrap().after(last).collect::<Vec<_>>();
        assert_eq!(
            after(0),
            [ButtonAction::Double, ButtonAction::Single, ButtonAction::Rotate]
        );
        assert_eq!(after(11), [ButtonAction::Rotate]);
        assert_eq!(after(12), []);
        assert_eq!(TriggerLogs::of(&page).unwrap().newest, 12);
        let empty = json!({ "start_id": 0, "sum": 0, "logs": [] });
        assert_eq!(TriggerLogs::of(&empty), Some(TriggerLogs::default()));
        for odd in [json!({}), json!(7), json!({ "logs": null })] {
            assert_eq!(TriggerLogs::of(&odd), None);
        }
    }

    proptest! {
        #[test]
        fn no_log_panics(page in test_inputs::json(&["logs", "id", "event", "start_id"])) {
            prop_assert!(TriggerLogs::of(&page).is_none_or(|logs| logs.presses.len() <= ENTRIES_MAX));
        }
    }
}
