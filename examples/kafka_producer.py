"""Announce every file below a directory as one CloudEvent on Kafka, and wait until clients can see them.

    python examples/kafka_producer.py 127.0.0.1:9092 index

The path of a file below the directory becomes its target path. Needs tufline with the extra kafka. The prefix of the topics, TLS and the
login are settings, such as TUFLINE_KAFKA__PREFIX.
"""

import asyncio
import hashlib
import sys
import uuid
from pathlib import Path

from tufline.client.events import Client, Event, add
from tufline.errors import TuflineError

SOURCE = "urn:example:packages"
"""Names this repository. Events of one source are applied in the order in which they are sent."""


def describe(directory: Path) -> Event:
    """Make the event that adds the files."""
    changes = []
    for file in (file for file in sorted(directory.rglob("*")) if file.is_file()):
        content = file.read_bytes()
        changes.append(add(file.relative_to(directory).as_posix(), len(content), {"sha256": hashlib.sha256(content).hexdigest()}))
    # Source and id name the event. A repository stores the id with the upload: after a crash it sends the event again under the same id,
    # and it is accepted only once.
    return Event(SOURCE, changes, id=f"upload-{uuid.uuid4()}")


async def main(brokers: str, event: Event) -> None:
    """Send the event, and print what became of each change."""
    async with Client(f"kafka:{brokers}") as client:
        outcome = await client.publish(event, seconds=300)
    receipts = {receipt.path: receipt for receipt in outcome.receipts}  # changes that were refused, or had no effect
    for change in event.changes:
        receipt = receipts.get(change.path)
        print(f"live: {change.path}" if receipt is None else f"{receipt.outcome}: {change.path} {receipt.reason}".rstrip())
    if outcome.refused:
        sys.exit(1)


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1], describe(Path(sys.argv[2]))))
    except TuflineError as error:  # EventRejectedError: none of the changes will be live
        sys.exit(f"error: {error}")
