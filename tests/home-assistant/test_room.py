"""A simulated room in real time: its heater is on a plug, and Home Assistant sets what the thermostat holds."""

import math
import os
import re
import time
from dataclasses import dataclass, field

import pytest

from processes import Device, eventually

MINUTES = os.environ.get("ROOM_MINUTES")
pytestmark = pytest.mark.skipif(not MINUTES, reason="run-room asks for it: it takes 20 minutes")

CLIMATE = "tapo2mqtt-group-room_climate"
TARGET = 20.0
# The time of the room runs so many times as fast, and so the shortest times of the thermostat are as many times as short:
# 20 minutes have a warm-up and several runs of a real room.
FASTER = 6
REPORT = 10.0
# What shows something in Home Assistant may take so long, in seconds.
SHOWN = 30.0
SETTINGS = """
[[device]]
id = "radiator"
address = "{radiator}"
[[sensor]]
id = "room"
topic = "home/room"
unit = "°C"
stale_after = "2m"
[[group]]
id = "room"
outlets = ["radiator"]
[group.safety]
max_on = "none"
[group.thermostat]
sensor = "room"
target = 16
min_on = "20s"
min_off = "20s"
"""


@dataclass
class Room:
    """A room of first order with a heater of 2 kW, -5 °C outside. It could reach 35 °C."""

    celsius: float
    counted: float = field(default_factory=time.monotonic)

    def pass_time(self, heats: bool) -> float:
        now = time.monotonic()
        seconds, self.counted = (now - self.counted) * FASTER, now
        loss, capacity = 50.0, 1_500_000.0
        end = -5.0 + (2000.0 / loss if heats else 0.0)
        self.celsius = end + (self.celsius - end) * math.exp(-loss * seconds / capacity)
        return self.celsius


@pytest.mark.parametrize("lab", ["flat"], indirect=True)
def test_a_room_is_as_warm_as_home_assistant_wants(lab, capsys):
    home, radiator = lab.home, Device(lab.broker.directory, "P100")
    lab.bridge.restart(lab.settings + SETTINGS.format(radiator=radiator.address))
    eventually(lambda: CLIMATE in home.entities(), "the group is announced")
    climate, room = home.entity(CLIMATE), Room(19.0)
    lab.broker.publish("home/room", f"{room.celsius:.2f}")
    home.expect(CLIMATE, "auto")
    home.service("climate.set_temperature", climate, temperature=TARGET)

    start = reported = time.monotonic()
    agreed = start
    warm, coldest, hottest, switched, seen = None, math.inf, -math.inf, [], set()
    was_on = radiator.relay(1)
    while time.monotonic() < start + float(MINUTES) * 60:
        time.sleep(1)
        celsius, now = room.pass_time(was_on), time.monotonic()
        is_on = radiator.relay(1)
        if is_on != was_on:
            switched.append(now)
        was_on = is_on
        if now >= reported + REPORT:
            lab.broker.publish("home/room", f"{celsius:.2f}")
            reported = now
        if warm is None and celsius >= TARGET - 0.25:
            warm = now
        if warm is not None:
            coldest, hottest = min(coldest, celsius), max(hottest, celsius)
        shown = home.get(f"states/{climate}")["attributes"]
        wanted = (TARGET, "heating" if is_on else "idle")
        if (shown["temperature"], shown["hvac_action"]) == wanted and abs(shown["current_temperature"] - celsius) <= 0.2:
            agreed = now
            seen.add(shown["hvac_action"])
        assert now - agreed <= SHOWN, f"Home Assistant shows {shown}, the room has {celsius:.2f} °C, on: {is_on}"
    hour = 3600 / FASTER
    most = max(sum(first <= at < first + hour for at in switched) for first in switched)
    with capsys.disabled():
        print(
            f"\n{MINUTES} min, {float(MINUTES) * FASTER / 60:.1f} h of the room: warm after "
            f"{(warm - start) * FASTER / 60:.0f} min of it, then {coldest:.2f} to {hottest:.2f} °C; {len(switched)} switchings, "
            f"{most} at most in an hour of it; shown: {sorted(seen)}"
        )
    assert abs(coldest - TARGET) <= 0.5 and abs(hottest - TARGET) <= 0.5
    assert 2 <= most <= 6
    assert seen == {"heating", "idle"}
    lab.bridge.end()
    radiator.end()
    home.end(patience=240)
    lines = [line for line in home.log_lines() if re.search("mqtt|tapo", line, re.IGNORECASE)]
    assert [line for line in lines if re.search(" (WARNING|ERROR|CRITICAL) ", line)] == []
