"""Measures the change of an online key as a client of RSTUF sees it: from the new root's request until its task is done."""

import json
import time
from collections.abc import Iterator
from typing import Final

from benchmarks.profiling import profiled
from benchmarks.report import Row
from benchmarks.server import import_lines
from benchmarks.settle import settled_directory
from tufline.trust import ceremony
from tufline_testing.offline import Offline
from tufline_testing.server import dev

BINS: Final = 2_048
ARTIFACTS: Final = 10_000
GOAL_SECONDS: Final = 30.0
"""RSTUF's clients ask for a task at most 60 times, once a second; half of that leaves room for a slower machine."""

BEFORE_SECONDS: Final = 43.0
"""The baseline: how often RSTUF's command line polled, once a second, before the profile ``rstuf`` had defaults of its own."""

WAIT_SECONDS: Final = 300.0


def bench_rotation() -> Iterator[Row]:
    """Measure a new online key in a repository of the profile ``rstuf``, with default settings."""
    with settled_directory() as directory:
        keys = directory / "data" / "keys"
        offline = Offline(keys / "online", bins=BINS, mode=ceremony.RSTUF, days=ceremony.DEFAULT_DAYS)
        settings = {**offline.payload["settings"], "client_profile": "rstuf"}
        (keys / "bootstrap.json").write_text(json.dumps({**offline.payload, "settings": settings}))
        (keys / "root.json").write_text(json.dumps(offline.payload["metadata"]["root"]))
        with dev(directory / "data") as server:
            import_lines(server.api, directory, 0, ARTIFACTS)
            (update,) = offline.rotate()
            with profiled(server.process.pid) as profile:
                began = time.perf_counter()
                answer = server.client.request("POST", "/api/v1/metadata/", {"metadata": {"root": update.metadata}})
                result = server.client.wait_for_task(answer["data"]["task_id"], time.monotonic() + WAIT_SECONDS)
                seconds = time.perf_counter() - began
            if not result["status"]:
                raise RuntimeError(f"the new root was refused: {result}")
            yield Row(
                f"root update with a new online key, {BINS:,} bins with {ARTIFACTS:,} artifacts, profile rstuf, until its task is done",
                seconds,
                "s",
                baseline=BEFORE_SECONDS,
                ratio=BEFORE_SECONDS / seconds,
                goal=f"≤ {GOAL_SECONDS:g} s",
                met=seconds <= GOAL_SECONDS,
                limits=f"5 s of it is signer.release_delay; all bins are signed with both keys, at half speed: {profile.limits}",
            )
