//! Every profile: log in, list, switch, read back.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use tapo_simulator::{Cause, Profile, Simulator, SimulatorError};

use crate::support::{SOON, kind, plug, strip};

const PLUGS: [Profile; 3] = [Profile::P100, Profile::P110, Profile::P110Old];
const STRIPS: [Profile; 4] = [Profile::P300, Profile::P304M, Profile::P316M, Profile::EP40M];

#[tokio::test]
async fn a_plug_of_each_profile_is_read_and_switched() {
    for profile in PLUGS {
        let device = Simulator::plug(profile).nickname("Küche").start().await.unwrap();
        let handler = plug(&device).await.unwrap();

        let info = handler.get_device_info_json().await.unwrap();
        assert_eq!(info["device_id"], device.device_id(), "{profile}");
        assert_eq!(
            STANDARD.decode(info["nickname"].as_str().unwrap()).unwrap(),
            "Küche".as_bytes()
        );
        assert_eq!(
            (&info["device_on"], device.relay(1)),
            (&Value::Bool(false), false)
        );

        handler.on().await.unwrap();
        assert!(device.relay(1), "{profile}");
        assert_eq!(handler.get_device_info_json().await.unwrap()["device_on"], true);
        handler.off().await.unwrap();
        assert!(!device.relay(1), "{profile}");

        let components = handler.get_component_list().await.unwrap();
        let has_energy = components
            .iter()
            .any(|component| component.id == "energy_monitoring");
        assert_eq!(has_energy, profile.has_energy(), "{profile}");

        let counters = device.counters();
        assert_eq!(
            (
                counters.logins,
                counters.sequence_violations,
                counters.max_in_flight
            ),
            (1, 0, 1)
        );
        assert_eq!(counters.requests_of("set_device_info"), 2);
        let causes: Vec<_> = counters
            .relay_changes
            .iter()
            .map(|change| (change.on, change.cause))
            .collect();
        assert_eq!(causes, [(true, Cause::Request), (false, Cause::Request)]);
    }
}

#[tokio::test]
async fn each_outlet_of_a_strip_is_switched_alone() {
    for profile in STRIPS {
        let device = Simulator::strip(profile).start().await.unwrap();
        let handler = strip(&device).await.unwrap();
        let list = handler.get_child_device_list_json().await.unwrap();
        let children = list["child_device_list"].as_array().unwrap();
        assert_eq!(children.len(), usize::from(profile.outlets()), "{profile}");

        for (position, id) in (1..).zip(device.child_ids()) {
            let child = children
                .iter()
                .find(|child| child["device_id"] == id.as_str())
                .unwrap();
            assert_eq!(child["position"], position, "{profile}");
            assert_eq!(child["device_on"], false, "{profile}");

            device.reset_counters();
            let outlet = handler.plug_unchecked(id.clone());
            outlet.on().await.unwrap();
            let on: Vec<u8> = (1..=profile.outlets())
                .filter(|position| device.relay(*position))
                .collect();
            assert_eq!(on, [position], "{profile}");
            assert_eq!(
                outlet.get_device_info_json().await.unwrap()["device_on"],
                true,
                "{profile}"
            );
            outlet.off().await.unwrap();
            let changes = device.counters().relay_changes;
            assert!(
                changes.iter().all(|change| change.child_id.as_ref() == Some(&id)),
                "{profile}"
            );
            assert_eq!(changes.len(), 2, "{profile}");
        }
    }
}

#[tokio::test]
async fn models_list_their_outlets_in_their_own_order() {
    let expected = [
        (Profile::P300, vec![3, 2, 1]),
        (Profile::P304M, vec![1, 2, 3, 4]),
        (Profile::EP40M, vec![2, 1]),
    ];
    for (profile, positions) in expected {
        let device = Simulator::strip(profile)
            .outlet_nicknames(["left", "right"])
            .start()
            .await
            .unwrap();
        let handler = strip(&device).await.unwrap();
        let list = handler.get_child_device_list_json().await.unwrap();
        let children = list["child_device_list"].as_array().unwrap();
        let listed: Vec<u64> = children
            .iter()
            .map(|child| child["position"].as_u64().unwrap())
            .collect();
        assert_eq!(listed, positions, "{profile}");
        let first = children.iter().find(|child| child["position"] == 1).unwrap();
        assert_eq!(first["nickname"], STANDARD.encode("left"));
        let components = handler.get_child_device_component_list().await.unwrap();
        assert_eq!(components.len(), positions.len(), "{profile}");
    }
}

#[tokio::test]
async fn fields_differ_by_model_as_they_do_on_real_ones() {
    let old = Simulator::plug(Profile::P110Old).start().await.unwrap();
    let info = plug(&old).await.unwrap().get_device_info_json().await.unwrap();
    assert_eq!(info["overheated"], false);
    assert_eq!(
        (info.get("charging_status"), info.get("overheat_status")),
        (None, None)
    );

    let new = Simulator::plug(Profile::P110).start().await.unwrap();
    let info = plug(&new).await.unwrap().get_device_info_json().await.unwrap();
    assert_eq!(info["charging_status"], "normal");
    assert_eq!(info.get("overheated"), None);

    let kasa = Simulator::strip(Profile::EP40M).start().await.unwrap();
    let list = strip(&kasa)
        .await
        .unwrap()
        .get_child_device_list_json()
        .await
        .unwrap();
    assert_eq!(list["child_device_list"][0].get("auto_off_status"), None);
}

/// The typed structs of the crate know these models on these firmwares.
#[tokio::test]
async fn typed_readings_parse() {
    let device = Simulator::plug(Profile::P110).start().await.unwrap();
    let handler = plug(&device).await.unwrap();
    handler.get_device_info().await.unwrap();
    handler.get_device_usage().await.unwrap();
    handler.get_timezone().await.unwrap();
    let device = Simulator::strip(Profile::P304M).start().await.unwrap();
    let handler = strip(&device).await.unwrap();
    handler.get_device_info().await.unwrap();
    assert_eq!(handler.get_child_device_list().await.unwrap().len(), 4);
}

#[tokio::test]
async fn the_button_toggles_and_the_load_is_metered() {
    let device = Simulator::plug(Profile::P110).start().await.unwrap();
    let handler = plug(&device).await.unwrap();
    device.set_watts(1, 115.0).unwrap();
    device.press(1).unwrap();
    device.wait_relay(1, true, SOON).await.unwrap();
    assert_eq!(device.counters().relay_changes[0].cause, Cause::Button);

    let meter = handler.get_energy_meter_data().await.unwrap();
    assert_eq!(
        (meter.power_mw, meter.current_ma, meter.voltage_mv),
        (115_000, 500, 230_000)
    );
    assert_eq!(handler.get_current_power().await.unwrap().current_power, 115);
    let usage = handler.get_energy_usage().await.unwrap();
    assert_eq!(usage.current_power, Some(115_000));

    device.press(1).unwrap();
    assert_eq!(handler.get_energy_meter_data().await.unwrap().power_mw, 0);
    assert!(matches!(device.press(2), Err(SimulatorError::NoSuchOutlet(2))));
}

#[tokio::test]
async fn children_meter_alone_and_leave_out_the_power_in_their_usage() {
    let device = Simulator::strip(Profile::P304M).start().await.unwrap();
    let handler = strip(&device).await.unwrap();
    device.set_watts(2, 46.0).unwrap();
    device.press(2).unwrap();
    let ids = device.child_ids();
    let outlet = handler.plug_unchecked(ids[1].clone());
    assert_eq!(outlet.get_energy_meter_data().await.unwrap().power_mw, 46_000);
    assert_eq!(outlet.get_energy_usage().await.unwrap().current_power, None);
    let other = handler.plug_unchecked(ids[0].clone());
    assert_eq!(other.get_energy_meter_data().await.unwrap().power_mw, 0);
}

#[tokio::test]
async fn what_a_model_lacks_is_an_unknown_method() {
    let device = Simulator::plug(Profile::P110Old).start().await.unwrap();
    let handler = plug(&device).await.unwrap();
    assert_eq!(kind(&handler.get_energy_meter_data().await.unwrap_err()), "-1002");
    handler.get_energy_usage().await.unwrap();

    let device = Simulator::plug(Profile::P100).start().await.unwrap();
    let handler = plug(&device).await.unwrap();
    assert_eq!(kind(&handler.get_current_power().await.unwrap_err()), "-1002");
    handler.on().await.unwrap();

    let device = Simulator::strip(Profile::P300).start().await.unwrap();
    let handler = strip(&device).await.unwrap();
    let unknown = handler.plug_unchecked("nobody");
    assert_eq!(kind(&unknown.on().await.unwrap_err()), "-1008");
}

#[tokio::test]
async fn a_profile_of_the_other_kind_does_not_start() {
    let error = Simulator::plug(Profile::P304M).start().await.unwrap_err();
    assert!(matches!(error, SimulatorError::WrongKind(Profile::P304M, "plug")));
    let error = Simulator::strip(Profile::P110).start().await.unwrap_err();
    assert!(matches!(error, SimulatorError::WrongKind(Profile::P110, "strip")));
    assert_eq!(
        Simulator::device(Profile::EP40M)
            .start()
            .await
            .unwrap()
            .child_ids()
            .len(),
        2
    );
}
