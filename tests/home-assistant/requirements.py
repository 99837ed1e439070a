"""Prints what the integrations that the suite needs, and those that they need, ask for from PyPI.

usage: requirements.py homeassistant/components
"""

import json
import sys
from pathlib import Path

# MQTT, the pages for the screenshot, and what Home Assistant loads at every start.
WANTED = """
    mqtt frontend hassio analytics recorder infrared radio_frequency camera image_processing conversation http
    backup network system_health hardware labs logger file_upload default_platforms ffmpeg tts
""".split()


def manifest(components: Path, name: str) -> dict:
    file = components / name / "manifest.json"
    return json.loads(file.read_text()) if file.exists() else {}


components = Path(sys.argv[1])
waiting, seen, requirements = list(WANTED), set(), set()
while waiting:
    name = waiting.pop()
    if name in seen:
        continue
    seen.add(name)
    found = manifest(components, name)
    requirements.update(found.get("requirements", []))
    waiting += found.get("dependencies", [])
    if name == "mqtt":
        waiting += found.get("after_dependencies", [])
print("\n".join(sorted(requirements)))
