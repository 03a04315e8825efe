"""A Faust worker that consumes events a thousand at a time and records them in a file; a fault happens in its fifth batch.

``faust_loses`` starts it in a separate environment: Tufline itself does not install Faust.
"""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faust

BATCH = 1000
UNLUCKY = 5

out, marker = Path(os.environ["EVIDENCE_OUT"]), Path(os.environ["EVIDENCE_MARKER"])
app = faust.App(
    "evidence",
    broker=f"kafka://{os.environ['EVIDENCE_BROKER']}",
    value_serializer="raw",
    datadir=str(out.parent / "faust"),
    topic_disable_leader=True,
    consumer_auto_offset_reset="earliest",
)


def is_unlucky(number: int) -> bool:
    """Return whether the fault happens in this batch, and remember that it has happened."""
    if number != UNLUCKY or marker.exists():
        return False
    marker.touch()
    return True


def write_down(batch: Sequence[bytes]) -> None:
    """Record that a batch is done."""
    with out.open("ab") as file:
        file.write(b"".join(event + b"\n" for event in batch))


@app.agent(app.topic(os.environ["EVIDENCE_TOPIC"]))  # type: ignore[untyped-decorator]  # Faust is not in the environment that is checked
async def process(stream: Any) -> None:
    """Record the received events, batch by batch."""
    number = 0
    async for batch in stream.take(BATCH, within=1):
        number += 1
        if is_unlucky(number):
            if os.environ["EVIDENCE_FAULT"] == "exception":
                raise RuntimeError("in the middle of a batch")
            for _ in batch:
                await asyncio.sleep(0.005)  # still working when SIGTERM arrives
        write_down(batch)


if __name__ == "__main__":
    app.main()
