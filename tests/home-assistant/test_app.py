"""The bridge as an app of Home Assistant, in a network of its own: from an empty `/data` to a switch, without a file.

Started by `run-app`, which makes the network.
"""

import http.client
import json
import os
import shutil
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from browser import Browser
from home_assistant import HomeAssistant
from processes import PROGRAM, Broker, Device, Process, eventually

# Where `run-app` gives this machine addresses. No broadcast is answered there: each address is asked.
NETWORK = os.environ.get("APP_NETWORK")
LOGIN = ("addons", "of-the-service")
TOKEN = "0123456789abcdef"
WITHIN = 60.0
# As the Supervisor writes the options of config.yaml, with an account.
OPTIONS = {
    "tapo": {"username": "demo@example.com", "password": "demo-password"},
    "mqtt": {},
    "discovery": {"add": "all"},
    "log": {"level": "info"},
}
PAGE = "http://172.30.32.1:18099"

pytestmark = pytest.mark.skipif(not NETWORK, reason="run-app makes the network for it")


INGRESS_TOKEN = "abcdef"
# The switch of an outlet in the panel, which Home Assistant shows in a frame below its shadow trees.
PANEL = """(function find(node) {
    if (node.localName === "iframe") return node.contentDocument;
    const below = [...node.childNodes, ...(node.shadowRoot ? [node.shadowRoot] : [])];
    return below.map(find).find(Boolean);
})(document.body)"""
ROWS = f"""[...{PANEL}.querySelectorAll(".row")]"""


class Supervisor:
    """Answers what the Supervisor does about the broker, to those that show the token. Passes requests of the ingress on."""

    def __init__(self, broker: Broker):
        login = dict(zip(("username", "password"), LOGIN))
        service = {"addon": "core_mosquitto", "host": "127.0.0.1", "port": broker.port, "ssl": False, "protocol": "3.1.1"}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                if self.path.startswith(f"/ingress/{INGRESS_TOKEN}/"):
                    return self.pass_on()
                if self.headers["Authorization"] != f"Bearer {TOKEN}":
                    status, body = 401, "401: Unauthorized"
                elif self.path == "/services/mqtt":
                    status, body = 200, json.dumps({"result": "ok", "data": service | login})
                else:
                    status, body = 403, "403: Forbidden"
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body.encode())

            do_POST = do_GET

            def pass_on(self):
                headers = {name: value for name, value in self.headers.items() if name.lower() != "transfer-encoding"}
                body = b"".join(self.body())
                app = http.client.HTTPConnection("172.30.32.1", 18099, source_address=("172.30.32.2", 0))
                try:
                    app.request(self.command, self.path.removeprefix(f"/ingress/{INGRESS_TOKEN}"), body, headers)
                    answer = app.getresponse()
                    self.send_response(answer.status)
                    for name, value in answer.getheaders():
                        if name.lower() not in ("transfer-encoding", "connection"):
                            self.send_header(name, value)
                    self.end_headers()
                    while piece := answer.read1(65536):
                        self.wfile.write(piece)
                except OSError:
                    pass
                finally:
                    app.close()

            def body(self):
                """Home Assistant sends it in chunks."""
                if self.headers.get("Transfer-Encoding") != "chunked":
                    yield self.rfile.read(int(self.headers.get("Content-Length", 0)))
                    return
                while length := int(self.rfile.readline(), 16):
                    yield self.rfile.read(length)
                    self.rfile.readline()
                self.rfile.readline()

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class App(Process):
    """The bridge as its container starts it."""

    def __init__(self, directory: Path, supervisor: Supervisor):
        super().__init__(directory, "app")
        self.supervisor = supervisor
        self.data = directory / "data"
        self.data.mkdir()

    def start(self):
        """The Supervisor writes the options at each start."""
        options = self.data / "options.json"
        options.write_text(json.dumps(OPTIONS))
        options.chmod(0o600)
        environment = {
            "SUPERVISOR_TOKEN": TOKEN,
            "TAPO2MQTT_SUPERVISOR": self.supervisor.address,
            "STATE_DIRECTORY": str(self.data),
            "TZ": "UTC",
        }
        self.spawn(PROGRAM, cwd=self.data, env=environment)


class Stopwatch:
    def __init__(self):
        self.start, self.table = time.monotonic(), []

    def restart(self):
        self.start = time.monotonic()

    def lap(self, what: str):
        seconds = time.monotonic() - self.start
        self.table.append(f"{seconds:5.1f} s  {what}")
        assert seconds <= WITHIN, f"{what}: {seconds:.1f} s"


def plug(directory: Path, number: int, name: str) -> Device:
    return Device(directory, "P110", f"{NETWORK}.{number}", "--name", name, "--discovery")


def moves_relay(home: HomeAssistant, entity: str, device: Device):
    """The switch is there, and the relay follows it both ways."""
    eventually(lambda: home.state(entity) in ("on", "off"), f"{entity} is there", WITHIN)
    for service, wanted in (("switch.turn_on", True), ("switch.turn_off", False)):
        home.service(service, entity)
        eventually(lambda: device.relay(1) == wanted, f"{service} {entity}", WITHIN)


def identifier(home: HomeAssistant, name: str) -> str | None:
    return next((key for key, device in home.devices().items() if device["name"] == name), None)


def has_ingress(home: HomeAssistant, supervisor: Supervisor):
    """Before it starts: the ingress of Home Assistant itself, which a Supervisor would set up."""
    shutil.copytree(Path(__file__).with_name("ingress_stand_in"), home.settings / "custom_components/ingress_stand_in")
    with (home.settings / "configuration.yaml").open("a") as configuration:
        configuration.write(f"ingress_stand_in:\n  host: {supervisor.address}\n  token: {INGRESS_TOKEN}\n")


def switches_in_the_panel(home: HomeAssistant, directory: Path, name: str, device: Device):
    """The page of the bridge in the interface of Home Assistant: it is shown, and its switch moves the relay both ways."""
    browser = Browser(directory)
    row = f"{ROWS}.find(row => row.textContent.includes('{name}'))"
    button = f"{row}.querySelector('[role=switch]')"
    try:
        browser.log_in(home.url, home.token)
        browser.open(f"{home.url}/plugs")
        for state, was in (("true", False), ("false", True)):
            ready = f"{button}.getAttribute('aria-checked') === '{str(was).lower()}' && {button}.ariaDisabled !== 'true'"
            eventually(lambda: browser.evaluate(ready), f"the panel shows {name}", 180)
            assert device.relay(1) == was
            browser.evaluate(f"{button}.click()")
            shown = f"{button}.getAttribute('aria-checked') === '{state}'"
            eventually(lambda: browser.evaluate(shown), f"the panel shows that {name} was switched")
            assert device.relay(1) != was
    finally:
        browser.end()


def test_from_an_empty_directory_to_a_switch(tmp_path, capsys):
    broker, home = Broker(tmp_path, LOGIN), HomeAssistant(tmp_path)
    supervisor = Supervisor(broker)
    app = App(tmp_path, supervisor)
    plugs, watch = {}, Stopwatch()
    try:
        broker.start(persistence=True)
        has_ingress(home, supervisor)
        home.start()
        home.set_up(broker.port, LOGIN)
        for number, name in enumerate(("Heater", "Lamp", "Pump"), 11):
            plugs[name] = plug(tmp_path, number, name)

        watch.restart()
        app.start()
        moves_relay(home, "switch.heater", plugs["Heater"])
        watch.lap("from the start of the app to a relay that a switch in Home Assistant moved")
        for name in ("Lamp", "Pump"):
            moves_relay(home, f"switch.{name.lower()}", plugs[name])
        watch.lap("until the switches of all three plugs had moved their relays")
        assert requests.get(f"{PAGE}/health", timeout=5).ok
        assert requests.get(f"{PAGE}/", timeout=5).status_code == 403, "only Home Assistant may open the page"
        switches_in_the_panel(home, tmp_path, "Heater", plugs["Heater"])

        deleted = identifier(home, "Lamp")
        home.delete(deleted)
        eventually(lambda: deleted not in home.devices(), "the lamp is deleted")
        app.end()
        watch.restart()
        app.start()
        moves_relay(home, "switch.pump", plugs["Pump"])
        watch.lap("from the restart of the app to a relay that a switch moved")
        broker.publish("tapo2mqtt/lamp/set", "ON")
        eventually(lambda: plugs["Lamp"].relay(1), "the lamp is still used", WITHIN)
        assert identifier(home, "Lamp") is None

        watch.restart()
        plugs["Fan"] = plug(tmp_path, 14, "Fan")
        moves_relay(home, "switch.fan", plugs["Fan"])
        watch.lap("from a plug that appears to its relay that a switch moved")

        watch.restart()
        moved = plugs["Pump"].address.replace(f"{NETWORK}.13:", f"{NETWORK}.15:")
        plugs["Pump"].move(moved)
        there = lambda: moved in broker.retained("tapo2mqtt/bridge/devices")
        eventually(there, "the pump is found at its new address", WITHIN)
        moves_relay(home, "switch.pump", plugs["Pump"])
        watch.lap("from a plug that moves to another address to its relay that a switch moved")

        # Several searches later.
        assert identifier(home, "Lamp") is None
    finally:
        for process in (home, app, *plugs.values(), broker):
            process.end()
        with capsys.disabled():
            print("", *watch.table, sep="\n")
