"""Starts everything once for each layout of strips: broker, devices, bridge, Home Assistant."""

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

import expected
from home_assistant import HomeAssistant
from processes import Bridge, Broker, Device

SETTINGS = """
[mqtt]
host = "127.0.0.1"
port = {port}
[discovery]
networks = []
targets = ["127.0.0.1"]
add = "none"
[tapo]
username = "demo@example.com"
password = "demo-password"
[polling]
state = "1s"
energy = "10s"
[location]
timezone = "UTC"
[homeassistant]
child_devices = {child_devices}
[[device]]
id = "heater"
name = "Heater"
address = "{plug}"
device_settings = true
[[device]]
id = "mats"
name = "Heated mats"
address = "{strip}"
device_settings = true
[[device.outlet]]
position = 1
id = "left"
name = "Left mat"
[[device]]
id = "lamp"
name = "Lamp"
address = "{lamp}"
device_settings = true
[[device]]
id = "hub"
name = "Hub"
address = "{hub}"
[[group]]
id = "path"
name = "Garden path"
outlets = ["mats/3", "mats/4"]
energy = {{ daily_budget = "100 kWh" }}
[[group.schedule]]
id = "night"
editable = true
start = "{start}"
for = "1h"
"""
# No edge of the schedule comes while the tests run.
FAR = timedelta(hours=12)
FIRST_WITH_CHILD_DEVICES = (2026, 11)


def pytest_addoption(parser):
    parser.addoption("--screenshot", help="where screenshot.py puts its picture")


@dataclass
class Lab:
    broker: Broker
    devices: dict[str, Device]
    bridge: Bridge
    home: HomeAssistant
    settings: str
    child_devices: bool

    def retained(self, topic: str) -> str:
        return self.broker.retained(f"tapo2mqtt/{topic}")


@pytest.fixture(scope="module", params=["flat", "child_devices"])
def lab(request, tmp_path_factory):
    directory: Path = tmp_path_factory.mktemp(request.param)
    broker, home, bridge = Broker(directory), HomeAssistant(directory), Bridge(directory)
    devices = {}
    try:
        broker.start(persistence=True)
        home.start()
        home.set_up(broker.port)
        child_devices = request.param == "child_devices"
        if child_devices and home.version() < FIRST_WITH_CHILD_DEVICES:
            pytest.skip("this Home Assistant has no child devices")
        devices = {profile: Device(directory, profile) for profile in ("P110", "P304M", "L510", "H100")}
        expected.connected(devices["H100"].seen()["children"])
        settings = SETTINGS.format(
            port=broker.port,
            start=f"{datetime.now(timezone.utc) + FAR:%H:%M}",
            child_devices=str(child_devices).lower(),
            plug=devices["P110"].address,
            strip=devices["P304M"].address,
            lamp=devices["L510"].address,
            hub=devices["H100"].address,
        )
        bridge.start(settings)
        yield Lab(broker, devices, bridge, home, settings, child_devices)
    finally:
        for process in (home, bridge, *devices.values(), broker):
            process.end()
