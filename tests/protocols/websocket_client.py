"""What a WebSocket client does, told in lines of JSON. Arguments: the address, and `cases` or `hold`."""

import asyncio
import hashlib
import json
import sys
import time

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed


def tell(name, what):
    print(json.dumps([name, what]), flush=True)


async def cases(url):
    async with connect(url, max_size=None, ping_interval=None, compression=None) as socket:
        tell("status", socket.response.status_code)
        for message in ("text ä", b"\0\1\2", "", b""):
            await socket.send(message)
            tell("echo", (await socket.recv()) == message)
        large = bytes(range(256)) * (16 * 1024 * 1024 // 256)
        for _ in range(2):
            await socket.send(large)
            back = await socket.recv()
            tell("16 MiB", [len(back), hashlib.sha256(back).hexdigest()])
        await socket.send([b"in ", b"frag", b"ments"])
        tell("fragments", (await socket.recv()).decode())
        waiter = await socket.ping(b"are you there")
        tell("pong", await waiter < 10)
        await socket.close(4321, "enough")
        tell("close", [socket.close_code, socket.close_reason])
    async with connect(url, ping_interval=None) as socket:
        await socket.send("a" * 100_000)
        tell("compressed", len(await socket.recv()))


async def hold(url):
    """Twenty sockets that go on until they are closed: how many messages, and how it ended."""
    sockets = [await connect(url, ping_interval=None) for _ in range(20)]
    tell("open", len(sockets))
    counts = [0] * len(sockets)

    async def go(i):
        try:
            while True:
                await sockets[i].send(str(counts[i]))
                assert await sockets[i].recv() == str(counts[i])
                counts[i] += 1
                await asyncio.sleep(0.01)
        except ConnectionClosed:
            return time.monotonic()

    going = [asyncio.create_task(go(i)) for i in range(len(sockets))]
    while not any(t.done() for t in going):
        await asyncio.sleep(0.2)
        tell("alive", [sum(not t.done() for t in going), min(counts)])
    ends = await asyncio.gather(*going)
    tell("closed", [len(ends), max(ends) - min(ends) < 1.0])


asyncio.run({"cases": cases, "hold": hold}[sys.argv[2]](sys.argv[1]))
