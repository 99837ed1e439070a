"""Switches a plug with python-kasa; prints the milliseconds of the login and of each time."""

import asyncio
import sys
import time

from kasa import Credentials, Device, DeviceConfig
from kasa import DeviceConnectionParameters, DeviceEncryptionType, DeviceFamily


async def main() -> None:
    host, port, username, password, commands = sys.argv[1:]
    connection = DeviceConnectionParameters(DeviceFamily.SmartTapoPlug, DeviceEncryptionType.Klap, 2)
    config = DeviceConfig(
        host,
        port_override=int(port),
        credentials=Credentials(username, password),
        connection_type=connection,
    )
    started = time.perf_counter()
    plug = await Device.connect(config=config)
    await plug.update()
    print((time.perf_counter() - started) * 1e3)
    for number in range(int(commands)):
        await asyncio.sleep(0.015)
        started = time.perf_counter()
        await (plug.turn_on() if number % 2 == 0 else plug.turn_off())
        print((time.perf_counter() - started) * 1e3)
    await plug.disconnect()


asyncio.run(main())
