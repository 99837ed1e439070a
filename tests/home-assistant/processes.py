"""The programs of the suite, each on a free loopback port: broker, simulated devices, bridge."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import requests

PROGRAM = os.environ["TAPO2MQTT"]
PATIENCE = 60.0


def eventually(check, what: str, patience: float = PATIENCE):
    """Asks until the answer is true, and returns it."""
    end = time.monotonic() + patience
    while True:
        try:
            answer, failure = check(), None
        except (requests.ConnectionError, AssertionError) as error:
            answer, failure = None, error
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"not within {patience} s: {what}") from failure
        time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


class Process:
    """A program, its output in a file."""

    def __init__(self, directory: Path, name: str):
        self.directory = directory
        self.name = name
        self.child = None

    def spawn(self, *command: str, **options):
        with (self.directory / f"{self.name}.log").open("ab") as log:
            self.child = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, **options)

    def log(self) -> str:
        return (self.directory / f"{self.name}.log").read_text(errors="replace")

    def end(self, how=signal.SIGTERM, patience: float = PATIENCE):
        if self.child and self.child.poll() is None:
            self.child.send_signal(how)
            try:
                self.child.wait(patience)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
                raise


class Broker(Process):
    """Debian's Mosquitto, for all or with one login. Without persistence, a restart forgets what was retained."""

    def __init__(self, directory: Path, login: tuple[str, str] | None = None):
        super().__init__(directory, "mosquitto")
        self.port = free_port()
        self.login = login
        self.client = ["-p", str(self.port), *(["-u", login[0], "-P", login[1]] if login else [])]

    def start(self, persistence: bool):
        keeps = f"persistence {str(persistence).lower()}\npersistence_location {self.directory}/\n"
        settings, passwords = self.directory / "mosquitto.conf", self.directory / "passwords"
        access = "allow_anonymous true\n"
        if self.login:
            subprocess.run(["mosquitto_passwd", "-c", "-b", str(passwords), *self.login], check=True)
            access = f"allow_anonymous false\npassword_file {passwords}\n"
        settings.write_text(f"listener {self.port} 127.0.0.1\n{access}user root\n{keeps}")
        self.spawn(os.environ.get("MOSQUITTO", "/usr/sbin/mosquitto"), "-c", str(settings))
        eventually(lambda: listens(self.port), "mosquitto listens")

    def retained(self, topic: str) -> str:
        """What a new subscriber gets at once; empty if nothing."""
        asked = ["mosquitto_sub", *self.client, "-t", topic, "-C", "1", "-W", "2"]
        return subprocess.run(asked, capture_output=True, text=True).stdout.strip()

    def publish(self, topic: str, payload: str):
        subprocess.run(["mosquitto_pub", *self.client, "-t", topic, "-m", payload], check=True)


class Device(Process):
    """A simulated device, with its control endpoint."""

    def __init__(self, directory: Path, profile: str, host: str = "127.0.0.1", *more: str):
        super().__init__(directory, f"{profile}-{host}")
        self.address, control = f"{host}:{free_port()}", f"127.0.0.1:{free_port()}"
        self.control = f"http://{control}"
        self.spawn(PROGRAM, "simulate", "--profile", profile, "--address", self.address, "--control", control, *more)
        eventually(self.seen, f"the simulated {profile} answers")

    def seen(self) -> dict:
        return requests.get(self.control, timeout=5).json()["devices"][0]

    def relay(self, position: int) -> bool:
        return next(it["on"] for it in self.seen()["outlets"] if it["position"] == position)

    def relay_changes(self) -> int:
        return len(self.seen()["counters"]["relay_changes"])

    def press(self, position: int):
        requests.post(f"{self.control}/press/{position}", timeout=5).raise_for_status()

    def overload(self, position: int):
        requests.post(f"{self.control}/overload/{position}", timeout=5).raise_for_status()

    def measure(self, child: str, **values):
        """What a sensor of a hub shows from now on."""
        requests.post(f"{self.control}/child/{child}", json=values, timeout=5).raise_for_status()

    def log(self, child: str, event: str):
        """An entry in the log of a sensor or button of a hub."""
        requests.post(f"{self.control}/child/{child}/log", json={"event": event}, timeout=5).raise_for_status()

    def sensor(self, model: str) -> dict:
        return next(it for it in self.seen()["children"] if it["model"] == model)

    def draw(self, position: int, watts: float):
        """While it is on."""
        requests.post(f"{self.control}/watts/{position}", json={"watts": watts}, timeout=5).raise_for_status()

    def advance(self, seconds: float):
        """The device's own clock jumps ahead."""
        requests.post(f"{self.control}/advance", json={"seconds": seconds}, timeout=5).raise_for_status()

    def move(self, address: str):
        requests.post(f"{self.control}/move", json={"address": address}, timeout=5).raise_for_status()

    def go_away(self, seconds: float):
        requests.post(f"{self.control}/reboot", json={"seconds": seconds}, timeout=5).raise_for_status()


class Bridge(Process):
    """The bridge itself. `settings` is the text of its settings file."""

    def __init__(self, directory: Path):
        super().__init__(directory, "bridge")

    def start(self, settings: str):
        file = self.directory / "tapo2mqtt.toml"
        file.write_text(settings)
        self.spawn(PROGRAM, "--config", str(file), "run")

    def restart(self, settings: str):
        self.end()
        self.start(settings)

    def forget(self):
        """What it keeps from one start to the next; only while it does not run."""
        for file in self.directory.glob("tapo2mqtt*state*.json"):
            file.unlink()
