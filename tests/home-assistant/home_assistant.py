"""A Home Assistant of our own: set up, asked and told through its REST and WebSocket API."""

import json
import os
import re
import shutil
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import requests
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from processes import Process, eventually, free_port

CLIENT = "http://tapo2mqtt.test/"
BLUEPRINTS = Path(__file__).parents[2] / "examples/home-assistant"
USERNAME, PASSWORD = "owner", "owner-password"
CONFIGURATION = """
homeassistant:
  name: Test
  unit_system: metric
  time_zone: UTC
http:
  server_host: 127.0.0.1
  server_port: {port}
api:
websocket_api:
frontend:
automation:
  - use_blueprint:
      path: tapo2mqtt/command-failed.yaml
      input:
        event: event.heater_command_failed
        actions:
          - event: suite
            event_data: {{ what: failed, message: "{{{{ trigger.to_state.attributes.message }}}}" }}
  - use_blueprint:
      path: tapo2mqtt/button-on-plug.yaml
      input:
        event: event.heater_changed_externally
        turned_on:
          - event: suite
            event_data: {{ what: "ON" }}
        turned_off:
          - event: suite
            event_data: {{ what: "OFF" }}
  - use_blueprint:
      path: tapo2mqtt/load-finished.yaml
      input:
        event: event.heater_load_finished
        actions: []
logger:
  default: warning
  logs:
    homeassistant.components.mqtt: info
    # A line for each entity at each start of the bridge: tests that start it often go over a limit of lines.
    homeassistant.components.mqtt.entity: warning
"""


class HomeAssistant(Process):
    def __init__(self, directory: Path):
        super().__init__(directory, "home-assistant")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.settings = directory / "home-assistant"
        self.settings.mkdir()
        shutil.copytree(BLUEPRINTS, self.settings / "blueprints/automation/tapo2mqtt")
        (self.settings / "configuration.yaml").write_text(CONFIGURATION.format(port=self.port))
        self.token = None
        self.starts = 0

    def start(self):
        self.starts += 1
        log = self.directory / f"home-assistant-{self.starts}.log"
        self.spawn(os.environ["HASS"], "--config", str(self.settings), "--log-file", str(log))
        eventually(self.answers, "Home Assistant answers", 180)

    def answers(self) -> bool:
        return requests.get(f"{self.url}/manifest.json", timeout=5).ok

    def restart(self):
        self.end(patience=240)
        self.start()
        self.wait_until_running()

    def wait_until_running(self):
        def running():
            entries = self.get("config/config_entries/entry?domain=mqtt")
            return self.get("config")["state"] == "RUNNING" and entries[0]["state"] == "loaded"

        eventually(running, "Home Assistant runs with MQTT", 180)

    def version(self) -> tuple[int, ...]:
        return tuple(int(part) for part in re.findall(r"\d+", self.get("config")["version"])[:2])

    # Set up, as a person does it in the browser.

    def set_up(self, broker_port: int, login: tuple[str, str] | None = None):
        user = {"client_id": CLIENT, "name": "Owner", "username": USERNAME, "password": PASSWORD, "language": "en"}
        code = self.post("onboarding/users", user)["auth_code"]
        grant = {"grant_type": "authorization_code", "code": code, "client_id": CLIENT}
        self.token = requests.post(f"{self.url}/auth/token", data=grant, timeout=30).json()["access_token"]
        for step in ("core_config", "analytics"):
            self.post(f"onboarding/{step}", {})
        self.post("onboarding/integration", {"client_id": CLIENT, "redirect_uri": CLIENT})
        asked = {"client_name": "suite", "lifespan": 1}
        self.token = self.ask("auth/long_lived_access_token", **asked)
        self.keep_port()
        self.add_mqtt(broker_port, login)
        self.wait_until_running()

    def keep_port(self):
        """Versions that take `http:` over from the file want that confirmed, else they leave the port again."""
        try:
            pending = self.ask("http/config").get("pending")
        except KeyError:
            return
        if pending:
            self.ask("http/config/promote")

    def add_mqtt(self, broker_port: int, login: tuple[str, str] | None):
        flow = self.post("config/config_entries/flow", {"handler": "mqtt", "show_advanced_options": True})
        while flow["type"] in ("menu", "form"):
            assert not flow.get("errors"), flow
            answer = {}
            if flow["type"] == "menu":
                answer = {"next_step_id": "broker"}
            elif flow["step_id"] == "broker":
                answer = {"broker": "127.0.0.1", "port": broker_port}
                if login:
                    answer |= dict(zip(("username", "password"), login))
                fields = {field["name"] for field in flow["data_schema"]}
                if "other_settings" in fields:
                    answer["other_settings"] = {"set_client_cert": False, "set_ca_cert": "off", "transport": "tcp"}
                elif "set_ca_cert" in fields:
                    answer |= {"set_client_cert": False, "set_ca_cert": "off", "transport": "tcp", "protocol": "5"}
            flow = self.post(f"config/config_entries/flow/{flow['flow_id']}", answer)
        assert flow["type"] == "create_entry", flow

    # REST.

    def get(self, path: str):
        return self.call("GET", path)

    def post(self, path: str, body: dict):
        return self.call("POST", path, json=body)

    def call(self, method: str, path: str, **body):
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        answer = requests.request(method, f"{self.url}/api/{path}", headers=headers, timeout=30, **body)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def service(self, name: str, entity: str, **data):
        domain, service = name.split(".")
        self.post(f"services/{domain}/{service}", {"entity_id": entity, **data})

    def state(self, entity: str) -> str | None:
        return next((it["state"] for it in self.get("states") if it["entity_id"] == entity), None)

    # WebSocket.

    def ask(self, kind: str, **arguments):
        """The answer to one command; KeyError if this version does not know it."""
        with self.socket() as socket:
            answer = self.ask_on(socket, 1, kind, **arguments)
        if not answer["success"] and answer["error"]["code"] == "unknown_command":
            raise KeyError(kind)
        assert answer["success"], answer
        return answer["result"]

    @contextmanager
    def socket(self):
        with connect(f"ws://127.0.0.1:{self.port}/api/websocket", max_size=None) as socket:
            socket.recv()
            socket.send(json.dumps({"type": "auth", "access_token": self.token}))
            assert json.loads(socket.recv())["type"] == "auth_ok"
            yield socket

    @staticmethod
    def ask_on(socket, number: int, kind: str, **arguments) -> dict:
        socket.send(json.dumps({"id": number, "type": kind, **arguments}))
        return json.loads(socket.recv())

    @contextmanager
    def watch(self, *kinds: str):
        """The events of some types, each with the time of its arrival, as they come."""
        seen = []

        def collect(socket):
            try:
                for text in socket:
                    event = json.loads(text).get("event")
                    seen.extend([event | {"arrived": time.monotonic()}] if event else [])
            except ConnectionClosed:
                pass

        with self.socket() as socket:
            for number, kind in enumerate(kinds, 1):
                assert self.ask_on(socket, number, "subscribe_events", event_type=kind)["success"]
            reader = threading.Thread(target=collect, args=[socket])
            reader.start()
            yield seen
        reader.join()

    def devices(self) -> dict[str, dict]:
        """Devices of the MQTT integration by their identifier."""
        mqtt = {entry["entry_id"] for entry in self.get("config/config_entries/entry?domain=mqtt")}
        found = self.ask("config/device_registry/list")
        # A child device has one entry, every other one a list.
        entries = lambda it: {it.get("config_entry_id"), *it.get("config_entries", [])}
        return {identifier: it for it in found if mqtt & entries(it) for _, identifier in it["identifiers"]}

    def entities(self) -> dict[str, dict]:
        """Entities of the MQTT integration by their unique id."""
        found = self.ask("config/entity_registry/list")
        return {it["unique_id"]: it for it in found if it["platform"] == "mqtt"}

    def entity(self, unique_id: str) -> str:
        return self.entities()[unique_id]["entity_id"]

    def expect(self, unique_id: str, state: str):
        entity = self.entity(unique_id)
        eventually(lambda: self.state(entity) == state, f"{entity} is {state}")

    def delete(self, identifier: str):
        """As the button in the user interface does."""
        device = self.devices()[identifier]
        for entry in device["config_entries"]:
            asked = {"device_id": device["id"], "config_entry_id": entry}
            self.ask("config/device_registry/remove_config_entry", **asked)

    def log_lines(self) -> list[str]:
        """What it logged since it was first started, each record on one line."""
        files = [self.directory / f"home-assistant-{start}.log" for start in range(1, self.starts + 1)]
        text = "".join(file.read_text(errors="replace") for file in files)
        return [record.replace("\n", " | ") for record in re.split(r"\n(?=\d{4}-\d\d-\d\d )", text.strip())]
