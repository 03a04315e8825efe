"""A Faust worker that takes events a thousand at a time and writes them to a file; in its fifth batch something happens.

``faust_evidence`` starts it. It runs in an environment of its own: Tufline itself has no Faust.
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
    """Say whether something happens in a batch, and that it has."""
    if number != UNLUCKY or marker.exists():
        return False
    marker.touch()
    return True


def write_down(batch: Sequence[bytes]) -> None:
    """Note that a batch is done."""
    with out.open("ab") as file:
        file.write(b"".join(event + b"\n" for event in batch))


@app.agent(app.topic(os.environ["EVIDENCE_TOPIC"]))  # type: ignore[untyped-decorator]  # Faust is not in the environment that is checked
async def process(stream: Any) -> None:
    """Write down what came, batch by batch."""
    number = 0
    async for batch in stream.take(BATCH, within=1):
        number += 1
        if is_unlucky(number):
            if os.environ["EVIDENCE_FAULT"] == "exception":
                raise RuntimeError("in the middle of a batch")
            for _ in batch:
                await asyncio.sleep(0.005)  # at work, when SIGTERM comes
        write_down(batch)


if __name__ == "__main__":
    app.main()
