"""The example of a Kafka producer runs as examples/README.md tells, on a real broker."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tufline_testing import doc_blocks
from tufline_testing.checkout import ROOT
from tufline_testing.server import Running, lengths
from tufline_testing.servers.kafka_cluster import Cluster
from tufline_testing.servers.stack import Stack

pytestmark = pytest.mark.slow

EXAMPLES = ROOT / "examples"
BROKER = "127.0.0.1:9092"


@pytest.fixture
def stack(kafka: Cluster, tmp_path: Path) -> Iterator[Stack]:
    """Run the services on the test's own topics, with a bootstrapped repository."""
    settings = {"TUFLINE_KAFKA__PREFIX": f"x{time.time_ns()}.", "TUFLINE_BUS__PARTITIONS": "2", "TUFLINE_KAFKA__SESSION_TIMEOUT": "2"}
    with Stack(tmp_path / "stack", kafka, 8, settings) as made:
        made.prepare()
        made.begin()
        yield made


async def test_the_producer(stack: Stack, tmp_path: Path) -> None:
    """The command of README.md, unchanged except for the broker, ends when a client sees all files; sent again, they are unchanged."""
    command = doc_blocks.programs(EXAMPLES / "README.md")[-1]
    assert "kafka_producer.py" in command
    (tmp_path / "examples").symlink_to(EXAMPLES)
    files = {f"{name}/{name}.txt": name * 7 for name in ("a", "b", "c")}
    for path, content in files.items():
        (tmp_path / "index" / path).parent.mkdir(parents=True)
        (tmp_path / "index" / path).write_text(content)
    here = command.replace(BROKER, stack.cluster.bootstrap)
    for outcome in ("live", "unchanged"):
        said = await asyncio.to_thread(doc_blocks.run, here, tmp_path, stack.environment())
        assert said == "".join(f"{outcome}: {path}\n" for path in files)
    ingest = stack.services[0]
    running = Running(ingest.process, ingest.url, stack.metadata, "", stack.keys / "root.json", ingest.log)
    assert await asyncio.to_thread(lengths, running, tmp_path / "client", list(files)) == dict.fromkeys(files, 7)
    (tmp_path / "index" / "100%.txt").touch()
    with pytest.raises(AssertionError, match=r"error: .*100%\.txt"):
        await asyncio.to_thread(doc_blocks.run, here, tmp_path, stack.environment())
