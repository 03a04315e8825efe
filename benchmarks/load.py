"""Artifacts like those of a package index, and clients that announce them."""

import asyncio
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import aiohttp

from tufline.metadata.target import Target

BINS = 16_384


def target(number: int) -> Target:
    """Make a target like those of a package index."""
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    path = f"packages/{digest[:2]}/{digest[2:4]}/{digest[4:]}/project_{number % 5000}-1.{number // 5000}.0-py3-none-any.whl"
    return Target(path, number, {"sha256": digest})


def artifact(number: int) -> dict[str, Any]:
    """Make an artifact of a request."""
    one = target(number)
    return {"path": one.path, "info": {"length": one.length, "hashes": one.hashes}}


class Load:
    """Requests that add new artifacts."""

    def __init__(self, api: str, first: int = 0) -> None:
        self._url = f"{api}/api/v1"
        self._next = first

    async def run(self, requests: int, artifacts: int, clients: int = 16) -> tuple[float, list[float]]:
        """Send requests from several clients; return the seconds until all are visible, and for each the seconds from acceptance."""
        bodies = []
        for _ in range(requests):
            some = [artifact(number) for number in range(self._next, self._next + artifacts)]
            bodies.append(json.dumps({"artifacts": some}).encode())
            self._next += artifacts
        latencies: list[float] = []
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def follow(task: str, accepted: float) -> None:
                while True:
                    async with session.get(f"{self._url}/task/", params={"task_id": task}) as response:
                        if (await response.json())["data"]["state"] == "SUCCESS":
                            latencies.append(time.perf_counter() - accepted)
                            return

            async def client(following: asyncio.TaskGroup) -> None:
                while bodies:
                    async with session.post(f"{self._url}/artifacts/", data=bodies.pop()) as response:
                        if response.status != 202:
                            raise RuntimeError(await response.text())
                        task = (await response.json())["data"]["task_id"]
                    following.create_task(follow(task, time.perf_counter()))

            began = time.perf_counter()
            async with asyncio.TaskGroup() as following, asyncio.TaskGroup() as sending:
                for _ in range(clients):
                    sending.create_task(client(following))
            return time.perf_counter() - began, latencies

    async def steady(self, rate: float, seconds: float) -> list[float]:
        """Send single artifacts at a fixed rate, and return for each one the seconds from acceptance until it is visible."""
        latencies: list[float] = []
        loop = asyncio.get_running_loop()
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session, asyncio.TaskGroup() as sending:

            async def one(number: int) -> None:
                async with session.post(f"{self._url}/artifacts/", json={"artifacts": [artifact(number)]}) as response:
                    task = (await response.json())["data"]["task_id"]
                accepted = loop.time()
                while True:
                    async with session.get(f"{self._url}/task/", params={"task_id": task}) as response:
                        if (await response.json())["data"]["state"] == "SUCCESS":
                            latencies.append(loop.time() - accepted)
                            return

            began = loop.time()
            for count in range(int(rate * seconds)):
                await asyncio.sleep(max(0.0, began + count / rate - loop.time()))
                sending.create_task(one(self._next))
                self._next += 1
        return latencies


def write_lines(path: Path, first: int, count: int) -> None:
    """Write artifacts in the format that ``tufline import`` reads."""
    with path.open("wb") as file:
        for number in range(first, first + count):
            file.write(json.dumps(artifact(number)).encode() + b"\n")
