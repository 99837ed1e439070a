"""A picture of what Home Assistant shows, for the README. Run by the script of the same name."""

import base64
from pathlib import Path

from browser import TEXT, Browser
from expected import OUTLETS, STRIP, outlet
from processes import eventually

NAMES = {2: "Right mat", 3: "Steps", 4: "Lamp"}


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
        browser.log_in(home.url, home.token)
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
