"""A process that writes transactions under the writer id ``w`` until one is refused; tests freeze and wake it."""

import asyncio
import sys

from tufline.bus import Message
from tufline.bus.kafka.bus import open_kafka
from tufline.bus.kafka.client import KafkaConnection
from tufline.bus.topic import Cleanup, Topic
from tufline.errors import BusError


async def main(servers: str, prefix: str, topic: str) -> None:
    """Write numbers from 0 upwards; print the first one, and the error that ended the process."""
    bus = await open_kafka(KafkaConnection(servers, prefix, {}), {topic: Topic(topic, 2, Cleanup.KEEP)}, max_pending_bytes=1000)
    writer = await bus.writer("w")
    number = 0
    while True:
        try:
            await writer.commit([Message(topic, "k", str(number).encode())])
        except BusError as error:
            print(f"{type(error).__name__} at {number}", flush=True)
            break
        if not number:
            print("writing", flush=True)
        number += 1
    await bus.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
