"""What Home Assistant should show: `entities.tsv` applied to the devices of the suite."""

import csv
from dataclasses import dataclass
from pathlib import Path

ROWS = list(csv.DictReader((Path(__file__).parent / "entities.tsv").open(), delimiter="\t"))

BRIDGE = "tapo2mqtt-bridge"
PLUG = "tapo2mqtt_heater"
STRIP = "tapo2mqtt_mats"
LAMP = "tapo2mqtt_lamp"
HUB = "tapo2mqtt_hub"
# As configured, then as the simulated device calls itself.
OUTLETS = {1: "Left mat", 2: "Outlet 2", 3: "Outlet 3", 4: "Outlet 4"}
SWITCHES = {f"{PLUG}_switch": ("P110", 1)} | {f"{STRIP}_o{n}_switch": ("P304M", n) for n in OUTLETS}
# The outlets of the strip that are a group, with one schedule.
GROUP = "tapo2mqtt-group-path"
MEMBERS = (3, 4)

# What is connected to the hub: the roles of each model. Its ids are known once it runs.
SENSORS = {
    "T310": "sensor warm climatic",
    "T315": "sensor warm climatic battery",
    "T100": "sensor motion",
    "T110": "sensor door",
    "T300": "sensor leak battery",
    "S200B": "sensor press",
    "KE100": "sensor warm battery thermostat",
}
CHILDREN: dict[str, str] = {}
# Whatever the bridge is to reach.
COUNT = 4


def connected(children: list[dict]):
    """The hub runs, and these are connected to it."""
    for child in children:
        CHILDREN[child["model"]] = f"tapo2mqtt-hub-hub-{child['device_id'].lower()}"


DEVICES = {
    BRIDGE: {"name": "Tapo bridge", "manufacturer": "tapo2mqtt", "model": "Bridge"},
    PLUG: {"name": "Heater", "manufacturer": "TP-Link", "model": "Smart plug", "model_id": "P110"},
    STRIP: {"name": "Heated mats", "manufacturer": "TP-Link", "model": "Smart power strip", "model_id": "P304M"},
    LAMP: {"name": "Lamp", "manufacturer": "TP-Link", "model": "Smart light", "model_id": "L510"},
    HUB: {"name": "Hub", "manufacturer": "TP-Link", "model": "Hub", "model_id": "H100"},
    GROUP: {"name": "Garden path", "manufacturer": "tapo2mqtt", "model": "Group"},
}


def devices() -> dict[str, dict]:
    """Everything but the outlets of strips, by identifier."""
    sensors = {CHILDREN[model]: {"name": model, "manufacturer": "TP-Link", "model_id": model} for model in SENSORS}
    return DEVICES | sensors


@dataclass
class Entity:
    """One line of the table. `device` is the identifier of the device it belongs to."""

    unique_id: str
    device: str
    full_name: str
    row: dict[str, str]


def outlet(position: int) -> str:
    return f"{STRIP}_o{position}"


def of(roles: str, prefix: str, device: str, name: str) -> list[Entity]:
    """The entities of some roles, for the device itself or for one outlet."""
    rows = [row for row in ROWS if row["role"] in roles.split()]
    full_name = lambda row: f"{name} {row['name']}".strip()
    return [Entity(f"{prefix}_{row['key']}", device, full_name(row), row) for row in rows]


def entities(child_devices: bool) -> dict[str, Entity]:
    """Everything, by unique id."""
    everything = of("bridge", BRIDGE, BRIDGE, "Tapo bridge")
    everything += of("group schedule", GROUP, GROUP, "Garden path")
    # This plug does not say whether it is too hot.
    everything += of("device board firmware relay outlet managed protected safe meter", PLUG, PLUG, "Heater")
    everything += of("device board firmware", STRIP, STRIP, "Heated mats")
    everything += of("device firmware lamp outlet managed heat protected", LAMP, LAMP, "Lamp")
    everything += of("device firmware", HUB, HUB, "Hub")
    for model, roles in SENSORS.items():
        everything += of(roles, CHILDREN[model], CHILDREN[model], model)
    for position, name in OUTLETS.items():
        own = outlet(position)
        roles = "relay outlet managed heat protected safe meter" + (" member" if position in MEMBERS else "")
        if child_devices:
            everything += of(roles, own, own, name)
        else:
            everything += of(roles, own, STRIP, f"Heated mats {name}")
    return {entity.unique_id: entity for entity in everything}
