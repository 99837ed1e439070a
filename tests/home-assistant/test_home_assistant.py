"""One story in order: what Home Assistant shows, and what it still shows after everything that can happen."""

import json
import re
import signal
import threading
import time
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

import expected
from expected import BRIDGE, COUNT, GROUP, HUB, LAMP, MEMBERS, OUTLETS, PLUG, STRIP, SWITCHES, outlet
from processes import Device, eventually

AVAILABLE = f"{PLUG}_switch"
# What Home Assistant's own connection says when these tests take the broker away. Nothing that is published is
# judged there: that is done in its `mqtt.discovery`, `mqtt.entity`, `mqtt.models` and the platforms.
BROKER_WENT = re.compile(
    r"\[(paho\.mqtt|homeassistant\.components\.mqtt)\.client\]|The client is not currently connected"
)
# The buttons that offer devices which are not used.
OFFER = "tapo2mqtt-bridge_add_"
# When a device is deleted in it, it empties the topic once for each entity, and warns of its own messages.
DELETED = re.compile(f"No device components to cleanup for {PLUG}, ")


@pytest.fixture
def home(lab):
    return lab.home


def shown(home) -> dict[str, str]:
    """The state of every entity by unique id."""
    states = {it["entity_id"]: it["state"] for it in home.get("states")}
    return {key: states.get(it["entity_id"]) for key, it in home.entities().items()}


def switch_states(home) -> dict[str, str]:
    return {key: state for key, state in shown(home).items() if key in SWITCHES}


def relays(lab) -> dict[str, str]:
    """What the switches should show, by the devices themselves."""
    on = {True: "on", False: "off"}
    return {key: on[lab.devices[profile].relay(position)] for key, (profile, position) in SWITCHES.items()}


def everything_is_back(lab):
    """Every expected entity is there, available, and its switch shows the relay."""

    def back():
        # A device that a test took out of the settings is offered by a button.
        states = {key: state for key, state in shown(lab.home).items() if not key.startswith(OFFER)}
        assert set(states) == set(expected.entities(lab.child_devices))
        assert None not in states.values() and "unavailable" not in states.values(), states
        assert switch_states(lab.home) == relays(lab)
        return True

    eventually(back, "everything is back")


def set_all(lab, service: str):
    for key in SWITCHES:
        lab.home.service(service, lab.home.entity(key))


def mixed(lab):
    """A pattern that no default shows."""
    set_all(lab, "switch.turn_off")
    for key in (f"{PLUG}_switch", f"{outlet(2)}_switch"):
        lab.home.service("switch.turn_on", lab.home.entity(key))
    eventually(lambda: switch_states(lab.home) == relays(lab), "the switches show the relays")


def unavailable(home, keys):
    def gone():
        states = shown(home)
        return {states[key] for key in keys} == {"unavailable"}

    eventually(gone, f"{keys} are unavailable")


# What needs only the bridge.
DIAGNOSIS = ("status", "error", "command_failed")


def of_device(lab, device: str) -> list[str]:
    keys = [key for key in expected.entities(lab.child_devices) if key.startswith(device)]
    return [key for key in keys if key.removeprefix(f"{device}_") not in DIAGNOSIS]


def test_exactly_the_expected_entities(lab, home):
    wanted = expected.entities(lab.child_devices)
    eventually(lambda: set(home.entities()) >= set(wanted), f"entities, of which are there: {set(home.entities())}")
    found = home.entities()
    assert set(found) == set(wanted), set(found) ^ set(wanted)
    for key, entity in wanted.items():
        assert found[key]["entity_category"] == (entity.row["category"] or None), key
        assert (found[key]["disabled_by"] is None) == (entity.row["shown"] == "yes"), key
        assert found[key]["entity_id"].startswith(entity.row["platform"] + "."), key


def test_devices(lab, home):
    devices = home.devices()
    children = {outlet(n): {"name": name} for n, name in OUTLETS.items()} if lab.child_devices else {}
    wanted = expected.devices() | children
    assert set(devices) == set(wanted)
    for identifier, fields in wanted.items():
        assert {field: devices[identifier][field] for field in fields} == fields
    entries, ids = home.entities(), {it["id"]: identifier for identifier, it in devices.items()}
    for key, entity in expected.entities(lab.child_devices).items():
        assert ids[entries[key]["device_id"]] == entity.device, key
    for identifier in (PLUG, STRIP, LAMP, HUB, GROUP):
        assert ids[devices[identifier]["via_device_id"]] == BRIDGE
    for identifier in expected.CHILDREN.values():
        assert ids[devices[identifier]["via_device_id"]] == HUB
    for identifier in (PLUG, STRIP, LAMP, HUB):
        assert devices[identifier]["connections"] == []
        assert devices[identifier]["serial_number"] and devices[identifier]["sw_version"]


def test_hidden_entities_can_be_enabled(lab, home):
    """Home Assistant loads MQTT anew by itself, half a minute after the last of them."""
    unloads = lambda: sum("Disconnected from MQTT server" in line for line in home.log_lines())
    before, entities = unloads(), home.entities()
    hidden = [key for key in expected.entities(lab.child_devices) if entities[key]["disabled_by"]]
    for key in hidden:
        home.ask("config/entity_registry/update", entity_id=entities[key]["entity_id"], disabled_by=None)
    # A device that comes back has them enabled already, in some versions.
    if hidden:
        eventually(lambda: unloads() > before, "MQTT is loaded anew", 120)
        home.wait_until_running()
    everything_is_back(lab)


def test_names_classes_units_and_states(lab, home, capsys):
    wanted, found = expected.entities(lab.child_devices), home.entities()

    def settled():
        states = shown(home)
        odd = {key: states[key] for key, it in wanted.items() if not re.fullmatch(it.row["state"], states[key])}
        assert odd == {}
        return True

    eventually(settled, "every entity has its first state")
    states = {it["entity_id"]: it for it in home.get("states")}
    table, odd = [], {}
    for key, entity in sorted(wanted.items()):
        state = states[found[key]["entity_id"]]
        attributes = state["attributes"]
        seen = (
            attributes["friendly_name"],
            attributes.get("device_class"),
            attributes.get("unit_of_measurement"),
            attributes.get("state_class"),
        )
        row = entity.row
        should = (entity.full_name, row["class"] or None, row["unit"] or None, row["state_class"] or None)
        if seen != should:
            odd[key] = (seen, should)
        words = [found[key]["entity_id"], *seen, row["category"], row["shown"], state["state"]]
        table.append(" | ".join(word or "-" for word in words))
    with capsys.disabled():
        print("\n" + "\n".join(table))
    assert odd == {}


def test_switches_follow_and_lead(lab, home):
    for key, (profile, position) in SWITCHES.items():
        device = lab.devices[profile]
        for service, on in [("turn_on", True), ("turn_off", False), ("toggle", True), ("toggle", False)]:
            before = device.relay_changes()
            home.service(f"switch.{service}", home.entity(key))
            home.expect(key, "on" if on else "off")
            assert device.relay(position) is on
            assert device.relay_changes() == before + 1, "one change, and no outlet beside"
        device.press(position)
        home.expect(key, "on")
        assert device.relay_changes() == before + 2
    eventually(lambda: "unknown" not in [shown(home)[f"{PLUG}_on_since"]], "it is known since when")
    set_all(lab, "switch.turn_off")


def test_a_lamp_is_switched_and_dimmed(lab, home):
    lamp, light = lab.devices["L510"], f"{LAMP}_light"
    entity, state = home.entity(light), lambda: json.loads(lab.retained("lamp"))
    attributes = lambda: home.get(f"states/{entity}")["attributes"]
    assert attributes()["supported_color_modes"] == ["brightness"]
    home.service("light.turn_on", entity, brightness_pct=40)
    home.expect(light, "on")
    eventually(lambda: state()["brightness"] == 40, "the lamp has that brightness")
    eventually(lambda: attributes()["brightness"] == 102, "and it is shown")
    assert lamp.relay(1)
    before = lamp.relay_changes()
    home.service("light.turn_on", entity, brightness_pct=75)
    eventually(lambda: attributes()["brightness"] == 191, "it is brighter")
    assert lamp.relay_changes() == before, "which switches nothing"
    for service, on in [("turn_off", False), ("toggle", True)]:
        home.service(f"light.{service}", entity)
        home.expect(light, "on" if on else "off")
        assert lamp.relay(1) is on
    assert state()["brightness"] == 75
    lamp.press(1)
    home.expect(light, "off")


def test_a_thermostat_is_set_and_read_back(lab, home):
    hub, climate = lab.devices["H100"], f"{expected.CHILDREN['KE100']}_climate"
    entity, valve = home.entity(climate), lambda: hub.sensor("KE100")
    attributes = lambda: home.get(f"states/{entity}")["attributes"]
    at_first = attributes()
    assert (at_first["temperature"], at_first["min_temp"], at_first["max_temp"]) == (21, 5, 30)
    assert at_first["hvac_modes"] == ["heat", "off"] and at_first["hvac_action"] == "heating"
    home.service("climate.set_temperature", entity, temperature=17.5)
    eventually(lambda: attributes()["temperature"] == 17.5, "the target is confirmed")
    assert valve()["target_temp"] == 17.5
    eventually(lambda: attributes()["hvac_action"] == "idle", "it is warm enough")
    home.service("climate.set_hvac_mode", entity, hvac_mode="off")
    home.expect(climate, "off")
    assert valve()["frost_protection_on"] is True
    # Somebody turns the ring of the valve.
    hub.measure("KE100", target_temp=23, current_temp=18.5, frost_protection_on=False)
    home.expect(climate, "heat")
    eventually(lambda: (attributes()["temperature"], attributes()["current_temperature"]) == (23, 18.5), "it follows")


def test_the_sensors_of_a_hub_follow(lab, home):
    hub = lab.devices["H100"]
    key = lambda model, value: f"{expected.CHILDREN[model]}_{value}"
    for model, fields, value, shows in [
        ("T315", {"current_temp": -3.5}, "temperature", "-3.5"),
        ("T100", {"detected": True}, "motion", "on"),
        ("T110", {"open": True}, "open", "on"),
        ("T300", {"water_leak_status": "water_leak"}, "water_leak", "on"),
    ]:
        hub.measure(model, **fields)
        home.expect(key(model, value), shows)
    hub.measure("T315", status="offline")
    home.expect(key("T315", "temperature"), "unavailable")
    assert shown(home)[key("T310", "temperature")] != "unavailable"
    hub.measure("T315", status="online")
    home.expect(key("T315", "temperature"), "-3.5")


def test_a_button_of_a_hub_is_an_event(lab, home):
    entity = home.entity(f"{expected.CHILDREN['S200B']}_action")
    before = home.state(entity)
    for event, action in [("singleClick", "single"), ("doubleClick", "double"), ("rotation", "rotate")]:
        lab.devices["H100"].log("S200B", event)
        eventually(lambda: home.get(f"states/{entity}")["attributes"].get("event_type") == action, f"it was {action}")
    assert home.state(entity) not in (before, "unknown", "unavailable")


def test_bridge_entities_work(lab, home):
    home.service("select.select_option", home.entity(f"{BRIDGE}_log_level"), option="debug")
    home.expect(f"{BRIDGE}_log_level", "debug")
    home.service("button.press", home.entity(f"{BRIDGE}_rescan"))
    before = json.loads(lab.retained("bridge/info"))["started_at"]
    home.service("button.press", home.entity(f"{BRIDGE}_restart"))
    eventually(lambda: json.loads(lab.retained("bridge/info"))["started_at"] != before, "the bridge started anew")
    everything_is_back(lab)


def test_energy_is_shown(lab, home):
    """Two kilowatts for a little while, on a plug and on an outlet of a strip."""
    for profile, prefix, topic in [("P110", PLUG, "heater"), ("P304M", outlet(1), "mats/left")]:
        value = lambda key: float(shown(home)[f"{prefix}_{key}"])
        device, before = lab.devices[profile], value("energy_total")
        device.draw(1, 2000)
        home.service("switch.turn_on", home.entity(f"{prefix}_switch"))
        eventually(lambda: value("power") == pytest.approx(2000, rel=0.01), "the power is shown")
        eventually(lambda: value("current") == pytest.approx(2000 / value("voltage"), rel=0.02), "and the current")
        device.advance(1800)
        lab.broker.publish(f"tapo2mqtt/{topic}/get", "{}")
        eventually(lambda: value("energy_total") == pytest.approx(before + 1, abs=0.05), "a kilowatt-hour more")
        # In its last half hour a month ends with the device's clock, and the next one has used nothing.
        if time.gmtime(time.time() + 1800).tm_mon == time.gmtime().tm_mon:
            eventually(lambda: value("energy_month") >= 0.95, "also this month")
        home.service("switch.turn_off", home.entity(f"{prefix}_switch"))
        eventually(lambda: value("power") == 0, "nothing is drawn")


def test_a_countdown_switches_off(lab, home):
    """At a plug and at an outlet of a strip, which count by themselves: for 0.1 minutes."""
    for prefix, profile in [(PLUG, "P110"), (outlet(1), "P304M")]:
        switch, countdown, until = (f"{prefix}_{key}" for key in ("switch", "countdown", "timer_until"))
        home.service("switch.turn_on", home.entity(switch))
        home.expect(switch, "on")
        home.service("number.set_value", home.entity(countdown), value=0.1)
        eventually(lambda: re.match(r"\d{4}-", shown(home)[until]), "it is known when it ends")
        home.expect(switch, "off")
        home.expect(until, "unknown")
        eventually(lambda: float(shown(home)[countdown]) == 0, "none runs")
        assert lab.devices[profile].relay(1) is False


def test_a_press_is_an_event(lab, home):
    entity = home.entity(f"{outlet(1)}_switched")
    before = home.state(entity)
    lab.devices["P304M"].press(1)
    eventually(lambda: home.state(entity) not in (before, "unknown"), "the event is there")
    event = home.get(f"states/{entity}")["attributes"]
    assert event["event_type"] == ("ON" if lab.devices["P304M"].relay(1) else "OFF")
    assert event["message"].startswith("Left mat changed"), event
    assert "unknown" == shown(home)[f"{PLUG}_protection_event"]
    set_all(lab, "switch.turn_off")


def test_protection_is_shown(lab, home):
    lab.home.service("switch.turn_on", home.entity(f"{PLUG}_switch"))
    home.expect(f"{PLUG}_switch", "on")
    lab.devices["P110"].overload(1)
    home.expect(f"{PLUG}_overloaded", "on")
    home.expect(f"{PLUG}_switch", "off")
    eventually(lambda: shown(home)[f"{PLUG}_protection_event"] != "unknown", "the event is there")
    home.service("switch.turn_on", home.entity(f"{PLUG}_switch"))
    home.expect(f"{PLUG}_overloaded", "off")
    set_all(lab, "switch.turn_off")


def test_group_leads_and_follows(lab, home):
    switch, mode, until = (f"{GROUP}_{key}" for key in ("switch", "mode", "override_until"))
    strip = lab.devices["P304M"]
    members = lambda: {strip.relay(position) for position in MEMBERS}
    for service, on in [("turn_on", True), ("turn_off", False)]:
        before = strip.relay_changes()
        home.service(f"switch.{service}", home.entity(switch))
        home.expect(switch, "on" if on else "off")
        eventually(lambda: members() == {on}, "every member follows")
        assert strip.relay_changes() == before + len(MEMBERS), "and nothing else"
        home.expect(mode, "on" if on else "off")
    home.service("select.select_option", home.entity(mode), option="on")
    home.expect(mode, "on")
    home.expect(switch, "on")
    assert members() == {True}
    eventually(lambda: re.match(r"\d{4}-", shown(home)[until]), "it is known how long")
    home.service("select.select_option", home.entity(mode), option="auto")
    home.expect(mode, "auto")
    home.expect(switch, "off")
    home.expect(until, "unknown")
    assert members() == {False}
    # A member that is switched on its own is seen.
    strip.press(MEMBERS[0])
    home.expect(switch, "on")
    home.service("select.select_option", home.entity(mode), option="auto")
    home.expect(switch, "off")


def test_schedules_can_be_disabled(lab, home):
    schedule, next_change = f"{GROUP}_schedule_night", f"{GROUP}_next_change"
    home.service("switch.turn_off", home.entity(schedule))
    home.expect(schedule, "off")
    home.expect(next_change, "unknown")
    lab.bridge.restart(lab.settings)
    everything_is_back(lab)
    home.expect(schedule, "off")
    home.service("switch.turn_on", home.entity(schedule))
    home.expect(schedule, "on")
    eventually(lambda: shown(home)[next_change].startswith("20"), "the schedule is due again")


def test_the_times_of_a_schedule_can_be_edited(lab, home):
    start, switch = f"{GROUP}_start_of_night", f"{GROUP}_switch"
    before, text = shown(home)[start], home.entity(start)
    now = datetime.now(timezone.utc)
    home.service("text.set_value", text, value=f"{now:%H:%M}")
    home.expect(start, f"{now:%H:%M}")
    home.expect(switch, "on")
    home.service("text.set_value", text, value="noon")
    home.service("text.set_value", text, value=before)
    home.expect(start, before)
    home.expect(switch, "off")
    lab.broker.publish("tapo2mqtt/bridge/request/schedule/reset", '{"group":"path"}')


def test_vacation(lab, home):
    """A schedule that is active all day rests in vacation, and not after it."""
    vacation, switch = f"{BRIDGE}_vacation", f"{GROUP}_switch"
    all_day = {"group": "path", "schedule": {"id": "night", "all_day": True}}
    lab.broker.publish("tapo2mqtt/bridge/request/schedule/set", json.dumps(all_day))
    home.expect(switch, "on")
    home.service("switch.turn_on", home.entity(vacation))
    home.expect(vacation, "on")
    home.expect(switch, "off")
    home.expect(f"{GROUP}_reason", "night suspended (vacation)")
    home.service("switch.turn_off", home.entity(vacation))
    home.expect(vacation, "off")
    home.expect(switch, "on")
    lab.broker.publish("tapo2mqtt/bridge/request/schedule/reset", '{"group":"path"}')
    home.expect(switch, "off")


@pytest.mark.parametrize("profile, device", [("P110", PLUG), ("P304M", STRIP)])
def test_a_device_that_goes_is_unavailable(lab, home, profile, device):
    mixed(lab)
    lab.devices[profile].go_away(12)
    unavailable(home, of_device(lab, device))
    others = [key for key in SWITCHES if not key.startswith(device)]
    assert "unavailable" not in [shown(home)[key] for key in others]
    eventually(lambda: shown(home)[f"{BRIDGE}_devices_online"] == str(COUNT - 1), "one device less")
    now = shown(home)
    assert now[f"{BRIDGE}_devices"] == str(COUNT)
    assert now[f"{BRIDGE}_last_error"].startswith(expected.DEVICES[device]["name"])
    assert (now[f"{device}_status"], now[f"{device}_error"]) != ("ready", "No error"), "the reason is on its page"
    home.expect(f"{device}_status", "unreachable")
    everything_is_back(lab)
    home.expect(f"{device}_error", "No error")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_bridge_that_goes_takes_everything_along(lab, home, how):
    mixed(lab)
    lab.bridge.end(how)
    home.expect(f"{BRIDGE}_connection", "off")
    diagnosis = [f"{device}_{key}" for device in (PLUG, STRIP) for key in DIAGNOSIS]
    unavailable(home, of_device(lab, PLUG) + of_device(lab, STRIP) + diagnosis)
    lab.bridge.start(lab.settings)
    everything_is_back(lab)


def test_a_restart_of_the_bridge_changes_no_entity(lab, home, capsys):
    """Neither it nor a reload removes or creates any. How long they are unavailable is printed."""
    mixed(lab)
    before = shown(home)
    unknown = {key for key, state in before.items() if state == "unknown"}
    with home.watch("entity_registry_updated", "device_registry_updated", "state_changed") as seen:
        lab.bridge.restart(lab.settings)
        eventually(lambda: {key for key, state in shown(home).items() if state == "unknown"} <= unknown, "all is read")
        everything_is_back(lab)
        lab.broker.publish("tapo2mqtt/bridge/request/reload", "{}")
        home.expect(f"{BRIDGE}_last_error", "No error")
        everything_is_back(lab)
    assert [event for event in seen if event["event_type"] != "state_changed"] == []
    keys = {it["entity_id"]: key for key, it in home.entities().items()}
    went, gaps, blank = {}, {}, set()
    for event in seen:
        data = event.get("data", {})
        key, new = keys.get(data.get("entity_id")), (data.get("new_state") or {}).get("state")
        if new == "unavailable":
            went[key] = event["arrived"]
        elif key in went:
            gaps[key] = event["arrived"] - went.pop(key)
        if new == "unknown" and key not in unknown:
            blank.add(key)
    with capsys.disabled():
        longest = sorted(gaps.items(), key=lambda it: it[1])
        print(f"\nunavailable over a restart: {len(gaps)} of {len(before)}, {longest[0]} to {longest[-1]} s")
        print(f"unknown after it: {sorted(blank)}")


def test_devices_that_exchange_addresses_stay_two(lab, home):
    """The bridge does not know them from before, so that each is what its settings say."""
    other = Device(lab.broker.directory, "P100")
    addresses = [lab.devices["P110"].address, other.address]

    def settings(heater: str, kettle: str) -> str:
        device = f'\n[[device]]\nid = "kettle"\nname = "Kettle"\naddress = "{kettle}"\n'
        return lab.settings.replace(addresses[0], heater).replace("[[group]]", f"{device}[[group]]", 1)

    def are_two(models: tuple[str, str]):
        def two():
            devices, states = home.devices(), shown(home)
            found = [devices.get(f"tapo2mqtt_{id}", {}) for id in ("heater", "kettle")]
            assert [it.get("model_id") for it in found] == list(models)
            assert found[0]["id"] != found[1]["id"]
            assert {states[f"tapo2mqtt_{id}_switch"] for id in ("heater", "kettle")} <= {"on", "off"}
            return True

        eventually(two, f"heater and kettle are {models}")

    try:
        for heater, kettle in (addresses, addresses[::-1], addresses):
            lab.bridge.end()
            lab.bridge.forget()
            lab.bridge.start(settings(heater, kettle))
            models = ("P110", "P100") if heater == addresses[0] else ("P100", "P110")
            are_two(models)
            [entry] = home.get("config/config_entries/entry?domain=mqtt")
            home.post(f"config/config_entries/entry/{entry['entry_id']}/reload", {})
            home.wait_until_running()
            are_two(models)
    finally:
        lab.bridge.restart(lab.settings)
        other.end()
    eventually(lambda: "tapo2mqtt_kettle" not in home.devices(), "the other one is gone")
    plug = {key for key in expected.entities(lab.child_devices) if key.startswith(PLUG)}
    eventually(lambda: set(home.entities()) >= plug, "the plug has a meter again")
    test_hidden_entities_can_be_enabled(lab, home)


RADIATOR = """
[[device]]
id = "radiator"
address = "{radiator}"
"""
ROOM = """
[[sensor]]
id = "room"
topic = "home/room"
unit = "°C"
stale_after = "10m"
[[group]]
id = "room"
name = "Room"
outlets = ["{heater}"]
[group.thermostat]
sensor = "room"
target = 20
setback = 16
min_on = "1s"
min_off = "1s"
"""


def test_a_thermostat_of_a_group_leads_and_follows(lab, home):
    """A dumb heater on a plug, or on an outlet of a strip that is a child device, by a thermometer on a topic."""
    climate = "tapo2mqtt-group-room_climate"
    if lab.child_devices:
        heater, position, settings = lab.devices["P304M"], 2, ROOM.format(heater="mats/2")
    else:
        heater, position = Device(lab.broker.directory, "P100"), 1
        settings = RADIATOR.format(radiator=heater.address) + ROOM.format(heater="radiator")
    service = lambda name, **data: home.service(f"climate.{name}", home.entity(climate), **data)

    def is_now(mode: str, target, preset: str, action: str):
        def agrees():
            state = home.get(f"states/{home.entity(climate)}")
            of = state["attributes"]
            return (state["state"], of["temperature"], of["preset_mode"], of["hvac_action"]) == (
                mode,
                target,
                preset,
                action,
            )

        eventually(agrees, f"{mode} {target} {preset} {action}")
        eventually(lambda: heater.relay(position) is (action == "heating"), "the relay follows")

    try:
        lab.bridge.restart(lab.settings + settings)
        eventually(lambda: climate in home.entities(), "the group is announced")
        home.expect(climate, "auto")
        lab.broker.publish("home/room", "18.5")
        is_now("auto", 20, "none", "heating")
        attributes = home.get(f"states/{home.entity(climate)}")["attributes"]
        assert attributes["current_temperature"] == 18.5
        assert attributes["hvac_modes"] == ["auto", "heat", "off"]
        assert attributes["preset_modes"] == ["none", "away", "boost"]
        assert (attributes["min_temp"], attributes["max_temp"]) == (5, 35)
        service("set_temperature", temperature=17.5)
        is_now("auto", 17.5, "none", "idle")
        service("set_preset_mode", preset_mode="boost")
        is_now("auto", 19.5, "boost", "heating")
        service("set_preset_mode", preset_mode="away")
        is_now("auto", 16, "away", "idle")
        service("set_hvac_mode", hvac_mode="heat")
        is_now("heat", 20, "none", "heating")
        service("set_hvac_mode", hvac_mode="off")
        is_now("off", None, "none", "off")
        service("set_preset_mode", preset_mode="away")
        service("set_preset_mode", preset_mode="none")
        is_now("auto", 20, "none", "heating")
        heater.go_away(12)
        home.expect(climate, "unavailable")
        home.expect(climate, "auto")
    finally:
        lab.bridge.restart(lab.settings)
        if not lab.child_devices:
            heater.end()
    eventually(lambda: climate not in home.entities(), "the group is gone")
    everything_is_back(lab)


class Forecast(BaseHTTPRequestHandler):
    """Answers as Open-Meteo does: 3.5 °C in each hour."""

    UNITS = {
        "temperature_2m": "°C",
        "precipitation": "mm",
        "snowfall": "cm",
        "dew_point_2m": "°C",
        "relative_humidity_2m": "%",
        "wind_speed_10m": "km/h",
    }

    def do_GET(self):
        now = int(time.time()) // 3600 * 3600
        hours = [now + 3600 * hour for hour in range(48)]
        answer = {"hourly_units": self.UNITS, "hourly": {"time": hours} | {it: [3.5] * 48 for it in self.UNITS}}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_):
        pass


def test_the_forecast_is_shown_with_its_attribution(lab, home):
    temperature = f"{BRIDGE}_forecast_temperature"
    server = HTTPServer(("127.0.0.1", 0), Forecast)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    weather = f'\n[weather]\nprovider = "open-meteo"\nurl = "http://127.0.0.1:{server.server_port}"\n'
    place = 'timezone = "UTC"\nlatitude = 52.5\nlongitude = 13.4'
    try:
        lab.bridge.restart(lab.settings.replace('timezone = "UTC"', place) + weather)
        eventually(lambda: temperature in home.entities(), "the forecast is announced")
        home.expect(temperature, "3.5")

        def is_attributed():
            attributes = home.get(f"states/{home.entity(temperature)}")["attributes"]
            return attributes.get("attribution") == "Weather data by Open-Meteo.com (CC BY 4.0)"

        eventually(is_attributed, "the attribution")
    finally:
        lab.bridge.restart(lab.settings)
        server.shutdown()
    eventually(lambda: temperature not in home.entities(), "the forecast is gone")
    everything_is_back(lab)


def test_a_command_that_fails_says_why(lab, home):
    entity = home.entity(f"{PLUG}_command_failed")
    before = home.state(entity)
    with home.watch("suite") as seen:
        lab.devices["P110"].go_away(6)
        lab.broker.publish("tapo2mqtt/heater/set", '{"state":"TOGGLE","ttl":0.5}')
        eventually(lambda: home.state(entity) not in (before, "unknown"), "the event is there")
        eventually(lambda: [event["data"]["what"] for event in seen] == ["failed"], "the blueprint ran")
    assert "failed" in home.get(f"states/{entity}")["attributes"]["message"]
    assert "failed" in seen[0]["data"]["message"]
    home.expect(AVAILABLE, "unavailable")
    everything_is_back(lab)


def test_blueprints_are_valid_and_run(lab, home):
    found = home.ask("blueprint/list", domain="automation")
    ours = {path: it for path, it in found.items() if path.startswith("tapo2mqtt/")}
    assert len(ours) == 3 and not [path for path, it in ours.items() if "error" in it], ours
    mixed(lab)
    home.expect(AVAILABLE, "on")
    with home.watch("suite") as seen:
        for _ in range(2):
            lab.devices["P110"].press(1)
            eventually(lambda: switch_states(home) == relays(lab), "the switches show the relays")
        eventually(lambda: [event["data"]["what"] for event in seen] == ["OFF", "ON"], "the blueprint ran")


def test_nothing_is_lost_when_home_assistant_restarts(lab, home):
    mixed(lab)
    home.restart()
    everything_is_back(lab)


@pytest.mark.parametrize("persistence", [True, False])
def test_nothing_is_lost_when_the_broker_restarts(lab, home, persistence):
    mixed(lab)
    lab.broker.end()
    home.expect(AVAILABLE, "unavailable")
    lab.devices["P110"].press(1)
    if not persistence:
        (lab.broker.directory / "mosquitto.db").unlink()
    lab.broker.start(persistence)
    everything_is_back(lab)


def test_nothing_is_lost_when_both_restart(lab, home):
    """The broker forgot everything, and Home Assistant reads what the bridge told it anew."""
    lab.broker.end()
    lab.broker.start(persistence=False)
    eventually(lambda: lab.retained("bridge/state"), "the bridge is back")
    home.restart()
    everything_is_back(lab)


def test_a_new_name_loses_nothing(lab, home):
    before = home.entities()
    settings = lab.settings.replace('name = "Heater"', 'name = "Boiler"').replace('"Left mat"', '"West mat"')
    lab.bridge.restart(settings.replace('id = "left"', 'id = "west"'))
    eventually(lambda: home.devices()[PLUG]["name"] == "Boiler", "the new name is there")
    everything_is_back(lab)
    ids = lambda entities: {key: it["entity_id"] for key, it in entities.items()}
    assert ids(home.entities()) == ids(before)
    eventually(lambda: not lab.retained("mats/left"), "the topic of the old id is empty")
    home.service("switch.toggle", home.entity(f"{outlet(1)}_switch"))
    eventually(lambda: switch_states(home) == relays(lab), "the switches show the relays")
    lab.bridge.restart(lab.settings)
    everything_is_back(lab)


def test_a_new_id_is_a_new_device(lab, home):
    lab.bridge.restart(lab.settings.replace('id = "heater"', 'id = "boiler"'))
    eventually(lambda: set(home.devices()) >= {"tapo2mqtt_boiler"}, "the new device is there")
    eventually(lambda: PLUG not in home.devices(), "the old device is gone")
    for topic in ("heater", "heater/availability"):
        eventually(lambda: not lab.retained(topic), f"{topic} is empty")
    lab.bridge.restart(lab.settings)
    plug = {key for key in expected.entities(lab.child_devices) if key.startswith(PLUG)}
    eventually(lambda: set(home.entities()) >= plug, "the device is back")
    test_hidden_entities_can_be_enabled(lab, home)
    assert "tapo2mqtt_boiler" not in home.devices()


def test_the_layout_may_be_changed(lab, home):
    if home.version() < (2026, 11):
        pytest.skip("this Home Assistant has no child devices")
    ids = lambda: {key: it["entity_id"] for key, it in home.entities().items()}
    before = ids()
    value = "child_devices = {}".format
    this, other = (value(str(it).lower()) for it in (lab.child_devices, not lab.child_devices))
    for settings in (lab.settings.replace(this, other), lab.settings):
        lab.bridge.restart(settings)
        present = (other in settings) != lab.child_devices
        eventually(lambda: (outlet(1) in home.devices()) == present, "the devices of the other layout")
        everything_is_back(lab)
        assert ids() == before


def test_a_device_deleted_in_home_assistant_stays_deleted(lab, home):
    before = len(DELETED.findall("\n".join(home.log_lines())))
    entities = [key for key in home.entities() if key.startswith(PLUG)]
    home.delete(PLUG)
    eventually(lambda: PLUG not in home.devices(), "it is gone")
    warned = lambda: len(DELETED.findall("\n".join(home.log_lines()))) - before
    eventually(lambda: warned() >= len(entities), "its own messages are back")
    lab.bridge.restart(lab.settings)
    eventually(lambda: lab.retained("bridge/state") == '{"state":"online"}', "the bridge is back")
    home.restart()
    eventually(lambda: shown(home)[f"{BRIDGE}_devices_online"] == str(COUNT), "the bridge has reached it")
    home.expect(f"{outlet(1)}_switch", relays(lab)[f"{outlet(1)}_switch"])
    assert PLUG not in home.devices()
    assert warned() == len(entities), "the bridge adds no message to those of Home Assistant"
    lab.broker.publish("tapo2mqtt/bridge/request/homeassistant/rediscover", '{"device":"heater"}')
    eventually(lambda: PLUG in home.devices(), "it is back")


def test_the_log_has_no_complaint(lab, home, capsys):
    home.end(patience=240)
    lines = [line for line in home.log_lines() if re.search("mqtt|tapo", line, re.IGNORECASE)]
    with capsys.disabled():
        print("\n" + "\n".join(sorted({re.sub(r"^\S+ \S+ ", "", line)[:200] for line in lines})))
    complaints = [line for line in lines if re.search(" (WARNING|ERROR|CRITICAL) ", line)]
    assert [line for line in complaints if not BROKER_WENT.search(line) and not DELETED.search(line)] == []
