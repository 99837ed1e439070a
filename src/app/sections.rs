//! The state file: which part of the bridge keeps what in it.

use std::path::PathBuf;

use crate::{
    config::INVENTORY,
    devices::DeviceSections,
    domain::{
        energy_history::{EnergyHistory, KeptHistories},
        inventory::Inventory,
    },
    mqtt::DeletedEntities,
    notify::KeptNotifications,
    scheduler::PersistedScheduler,
    store::{Loaded, Section, StateFile, StateFileError, StateFileStatus, StateLocation, Writer},
    system::clock::Clock,
    weather::KeptWeather,
    web::Sessions,
};

/// The parts of the file.
#[derive(Debug)]
pub(super) struct Sections {
    pub(super) scheduler: Section<PersistedScheduler>,
    pub(super) devices: DeviceSections,
    pub(super) inventory: Section<Inventory>,
    pub(super) deleted: DeletedEntities,
    pub(super) sessions: Section<Sessions>,
    pub(super) notifications: Section<KeptNotifications>,
    pub(super) weather: Section<KeptWeather>,
    pub(super) status: StateFileStatus,
}

/// The energy history, in a file of its own.
#[derive(Debug)]
pub(super) struct HistoryFile {
    pub(super) kept: Section<KeptHistories>,
    pub(super) writer: Writer,
    /// What is wrong with it.
    pub(super) finding: Option<String>,
}

/// Reads the file, if one is configured.
///
/// # Errors
/// If going on would overwrite what cannot be read or belongs to another bridge.
pub(super) fn open(
    location: Option<StateLocation>,
    clock: &Clock,
    history: EnergyHistory,
) -> Result<(Sections, Writer, Loaded), StateFileError> {
    let mut file = StateFile::open(location, clock)?;
    let scheduler: Section<PersistedScheduler> = file.section("scheduler");
    if file.is_restored() {
        let mut kept = scheduler.get();
        kept.mark_from_backup();
        scheduler.set(kept);
    }
    let devices = DeviceSections {
        energy: file.section("energy"),
        history,
        countdowns: file.section("countdowns"),
        identities: file.section("identities"),
    };
    let inventory = file.section(INVENTORY);
    let deleted = DeletedEntities {
        devices: file.section("deleted_in_home_assistant"),
        groups: file.section("groups_deleted_in_home_assistant"),
        children: file.section("hub_children_deleted_in_home_assistant"),
    };
    let sessions = file.section("web_sessions");
    let notifications = file.section("notifications");
    let weather = file.section("weather");
    let (status, writer, loaded) = file.finish()?;
    let sections = Sections {
        scheduler,
        devices,
        inventory,
        deleted,
        sessions,
        notifications,
        weather,
        status,
    };
    Ok((sections, writer, loaded))
}

/// Reads the history. One that cannot be read costs no start: it is kept in memory, and the file stays as it is.
///
/// # Errors
/// The system has no thread left.
pub(super) fn open_history(
    location: Option<&StateLocation>,
    clock: &Clock,
) -> Result<HistoryFile, StateFileError> {
    let location = location.map(StateLocation::of_history);
    let path = location
        .as_ref()
        .map_or(PathBuf::new(), |location| location.file.clone());
    let (mut file, mut finding) = match StateFile::open(location, clock) {
        Ok(file) => (file, None),
        Err(error) => {
            let finding = format!("the energy history is not stored: {error}");
            (StateFile::open(None, clock)?, Some(finding))
        }
    };
    let kept = file.section("energy");
    let (_, writer, loaded) = file.finish()?;
    if let Loaded::Damaged { why, kept } = loaded {
        let kept = match kept {
            Ok(to) => format!("it is kept as {}", to.display()),
            Err(error) => format!("it cannot be renamed ({error}), so nothing is written yet"),
        };
        finding = Some(format!(
            "the energy history {} could not be read ({why}): what is damaged of it is lost; {kept}",
            path.display()
        ));
    }
    Ok(HistoryFile {
        kept,
        writer,
        finding,
    })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::{Value, json};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::devices::energy::{Counters, EnergyCounter};
    use planner::units::{MilliWattHours, WattHours};

    const SCHEDULER: &str = r#"{
        "relays": {"8022/1": {
            "name": "mats/1",
            "run": {"on_since": "2024-06-21T08:00:00Z"},
            "timer": {"set_at": "2024-06-21T08:00:00Z", "ends": {"steady": "2024-06-21T09:00:00Z"}, "seconds": 3600, "to": "OFF"},
            "override": {"stance": "on", "set_at": "2024-06-21T08:00:00Z", "since": "2024-06-21T08:00:00Z", "ends": "at_edge", "origin": "device"}
        }},
        "devices": {"mats": {"hardware": "8022", "positions": [1, 2]}},
        "vacation": {"since": "2024-06-21T08:00:00Z"},
        "schedule_changes": {"driveway": {"noon": {"set": {"id": "noon", "start": "12:00", "for": "1h"}}, "old": "removed"}},
        "groups": {"driveway": {"memory": {"noon": {"at": "2024-06-21T08:00:00Z", "memory": {"was": "active"}}}}},
        "workdays": {"2024-06-21": false}
    }"#;

    /// With all that an energy counter may have.
    fn counter() -> EnergyCounter {
        let now = Timestamp::UNIX_EPOCH;
        let mut counter = EnergyCounter::new("8022-02", now);
        let shown = Counters {
            month: Some(("2026-11-21T08:00:00".parse().unwrap(), WattHours::new(7))),
            since_restart: Some(MilliWattHours::new(9)),
        };
        counter.read("8022-02", shown, now);
        counter
    }

    #[tokio::test]
    async fn every_part_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let location = StateLocation {
            file: path.clone(),
            earlier: None,
            base_topic: "tapo2mqtt".to_owned(),
        };
        let scheduler: PersistedScheduler = serde_json::from_str(SCHEDULER).unwrap();
        let (sections, writer, _) =
            open(Some(location.clone()), &Clock::system(), EnergyHistory::default()).unwrap();
        sections.scheduler.set(scheduler.clone());
        sections
            .devices
            .energy
            .set([("mats/2".to_owned(), counter())].into());
        sections
            .devices
            .countdowns
            .set([("8022".to_owned(), vec![Timestamp::UNIX_EPOCH])].into());
        let identities =
            r#"{"mats": {"address": "192.0.2.1", "mac": "aa:bb:cc:dd:ee:ff", "device_id": "8022"}}"#;
        sections
            .devices
            .identities
            .set(serde_json::from_str(identities).unwrap());
        let inventory = r#"{"aa:bb:cc:dd:ee:ff": {"address": "192.0.2.1", "usage": "added", "id": "lamp"}}"#;
        sections.inventory.set(serde_json::from_str(inventory).unwrap());
        sections.deleted.devices.set(["heater".parse().unwrap()].into());
        sections.deleted.groups.set(["driveway".parse().unwrap()].into());
        let hall = ("hub".parse().unwrap(), "802e".to_owned());
        sections.deleted.children.set([hall].into());
        sections
            .sessions
            .set(serde_json::from_str(r#"{"00": "2024-06-21T08:00:00Z"}"#).unwrap());
        let stop = CancellationToken::new();
        stop.cancel();
        writer.run(stop).await;

        let text: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(text["deleted_in_home_assistant"], json!(["heater"]));
        assert_eq!(text["groups_deleted_in_home_assistant"], json!(["driveway"]));
        assert_eq!(text["countdowns"], json!({"8022": ["1970-01-01T00:00:00Z"]}));
        let (again, _, loaded) = open(Some(location), &Clock::system(), EnergyHistory::default()).unwrap();
        assert!(matches!(loaded, Loaded::Read), "{loaded:?}");
        assert_eq!(again.scheduler.get(), scheduler);
        assert_eq!(again.devices.energy.get(), sections.devices.energy.get());
        assert_eq!(again.devices.countdowns.get(), sections.devices.countdowns.get());
        assert_eq!(again.devices.identities.get(), sections.devices.identities.get());
        assert_eq!(again.inventory.get(), sections.inventory.get());
        assert_eq!(again.sessions.get(), sections.sessions.get());
        assert_eq!(again.deleted.devices.get(), sections.deleted.devices.get());
        assert_eq!(again.deleted.groups.get(), sections.deleted.groups.get());
        assert_eq!(again.deleted.children.get(), sections.deleted.children.get());
    }
}
