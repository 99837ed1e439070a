"""Switches a plug with plugp100; prints the milliseconds of the login and of each time."""

import asyncio
import sys
import time

from plugp100.common.credentials import AuthCredential
from plugp100.devices.factory import DeviceConnectConfiguration, connect


async def main() -> None:
    host, port, username, password, commands = sys.argv[1:]
    config = DeviceConnectConfiguration(
        host=host,
        port=int(port),
        credentials=AuthCredential(username, password),
        device_type="SMART.TAPOPLUG",
        encryption_type="klap",
        encryption_version=2,
    )
    started = time.perf_counter()
    plug = await connect(config)
    await plug.update()
    print((time.perf_counter() - started) * 1e3)
    for number in range(int(commands)):
        await asyncio.sleep(0.015)
        started = time.perf_counter()
        await (plug.turn_on() if number % 2 == 0 else plug.turn_off())
        print((time.perf_counter() - started) * 1e3)
    await plug.client.close()


asyncio.run(main())
