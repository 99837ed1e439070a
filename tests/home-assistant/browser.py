"""A real Chromium that shows Home Assistant."""

import json
import os
import re
from pathlib import Path

import requests
from websockets.sync.client import connect

from processes import Process, eventually

WIDTH, HEIGHT = 1120, 860
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

    def log_in(self, url: str, token: str):
        """Opens it with what it keeps after a login."""
        self.open(url)
        login = {"access_token": token, "token_type": "Bearer", "expires_in": 86400, "hassUrl": url}
        login |= {"clientId": None, "expires": 4102444800000, "refresh_token": ""}
        self.evaluate(f"localStorage.setItem('hassTokens', {json.dumps(json.dumps(login))})")
