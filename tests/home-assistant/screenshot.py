"""A picture of what Home Assistant shows, for the README. Run by the script of the same name."""

import base64
import json
import os
import re
from pathlib import Path

import requests
from websockets.sync.client import connect

from expected import OUTLETS, STRIP, outlet
from processes import Process, eventually

WIDTH, HEIGHT = 1120, 860
NAMES = {2: "Right mat", 3: "Steps", 4: "Lamp"}
# A page is done when its last card has its text; cards are in shadow trees.
TEXT = """(function text(node) {
    const below = [...node.childNodes, ...(node.shadowRoot ? [node.shadowRoot] : [])];
    return below.map(text).join(' ') + (node.nodeValue || '');
})(document.body)"""


class Browser(Process):
    """Headless Chromium, told over its DevTools protocol."""

    def __init__(self, directory: Path):
        super().__init__(directory, "chromium")
        profile = directory / "chromium"
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-port=0"]
        self.spawn(os.environ.get("CHROMIUM", "chromium"), *options, f"--user-data-dir={profile}", "about:blank")
        port = eventually(lambda: re.search(r"ws://127\.0\.0\.1:(\d+)", self.log()), "Chromium listens")[1]
        pages = requests.get(f"http://127.0.0.1:{port}/json", timeout=10).json()
        page = next(page for page in pages if page["type"] == "page")
        self.socket = connect(page["webSocketDebuggerUrl"], max_size=None)
        self.sent = 0
        size = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
        self.tell("Emulation.setDeviceMetricsOverride", **size)

    def tell(self, method: str, **parameters) -> dict:
        self.sent += 1
        self.socket.send(json.dumps({"id": self.sent, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self.socket.recv())
            if answer.get("id") == self.sent:
                return answer["result"]

    def evaluate(self, expression: str):
        return self.tell("Runtime.evaluate", expression=expression)["result"].get("value")

    def open(self, url: str):
        self.tell("Page.navigate", url=url)
        eventually(lambda: self.evaluate("document.readyState") == "complete", f"{url} is loaded")


def test_screenshot(lab, request, tmp_path):
    home = lab.home
    named = "".join(f'[[device.outlet]]\nposition = {n}\nname = "{name}"\n' for n, name in NAMES.items())
    lab.bridge.restart(lab.settings + named)
    for position in (1, 2):
        key = f"{outlet(position)}_switch"
        eventually(lambda: key in home.entities(), "the outlets are there")
        home.expect(key, "off")
        home.service("switch.turn_on", home.entity(key))
        home.expect(key, "on")
    # The meters of a strip take turns.
    meters = [f"{outlet(position)}_power" for position in OUTLETS]
    known = lambda: "unknown" not in [home.state(home.entity(key)) for key in meters]
    eventually(known, "everything has a state", 120)

    browser = Browser(tmp_path)
    try:
        browser.open(home.url)
        # What the page keeps after a login.
        login = {"access_token": home.token, "token_type": "Bearer", "expires_in": 86400, "hassUrl": home.url}
        login |= {"clientId": None, "expires": 4102444800000, "refresh_token": ""}
        browser.evaluate(f"localStorage.setItem('hassTokens', {json.dumps(json.dumps(login))})")
        browser.open(f"{home.url}/config/devices/device/{home.devices()[STRIP]['id']}")
        shown = lambda: all(name in (browser.evaluate(TEXT) or "") for name in ("Left mat", "Lamp", "Total consumption"))
        eventually(shown, "the page shows the outlets", 180)
        # Cards fade in.
        browser.tell("Runtime.evaluate", expression="new Promise(done => setTimeout(done, 2000))", awaitPromise=True)
        picture = base64.b64decode(browser.tell("Page.captureScreenshot", format="png")["data"])
    finally:
        browser.end()
    file = Path(request.config.getoption("--screenshot"))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(picture)
