"""Fuzzes the REST API with schemathesis, from its own description: ``tufline_testing.fuzz.rest EXAMPLES SEED``; exit code 1 for a fault.

The requests are made from the OpenAPI document: valid ones, ones that break one rule of their schema, and sequences that follow its links.
No answer may be a 5xx, or other than the document describes. The real services answer, over HTTP: with a repository for which a new root
waits for signatures, and before there is a repository. Afterwards they must be healthy, but for custom roles that requests made with keys
that can't be used; without these roles they must be well, and an artifact must become live.
"""

import asyncio
import copy
import logging
import os
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Final

import structlog
from tuf.api.metadata import Metadata, Root

from tufline_testing.log import eventually
from tufline_testing.payloads import make_bootstrap
from tufline_testing.rest import Rest, artifact, bootstrapped, rest

HERE: Final = Path(__file__).parent
SETTLE_SECONDS: Final = 20.0
"""How long the services may take to finish the last requests, in seconds: less than ``signer.renewal_check``, which may hide a fault."""

SCHEMATHESIS: Final = Path(sys.executable).parent / "schemathesis"


def unexplained(problems: Mapping[str, str], roles: Collection[str], own: Collection[str]) -> dict[str, str]:
    """Return the problems of health that requests can't have caused by custom roles with keys that can't be used.

    Args:
        problems: part to what is wrong.
        roles: the custom roles that there are; requests created them.
        own: the parts that there were before the requests.

    Returns:
        The problems that name none of these roles. A key of requests is reported for some minutes after its role is deleted.
    """
    of_roles = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, roles))})(?![\w-])") if roles else None
    return {
        part: text
        for part, text in problems.items()
        if not (part.startswith("signer.key.") and part not in own) and not (of_roles and of_roles.search(f"{part} {text}"))
    }


async def check_health(server: Rest, own: Collection[str]) -> None:
    """Check that only custom roles of the requests can be unwell, and that everything is well once they are deleted.

    Args:
        server: the services, after the requests.
        own: see ``unexplained``.

    Raises:
        AssertionError: with the problems.
    """
    listed = (await server.ask("GET", "/api/v1/delegations/"))[1]["data"]
    # First, because any other request makes a commit, which may hide a fault.
    await _until_well(server, [role["name"] for role in listed["roles"]], own)
    await server.ask("POST", "/api/v1/thaw")  # a generated request may have frozen it
    if listed["roles"]:
        await server.ask("POST", "/api/v1/metadata/sign/delete", {"role": "targets"})  # while it waits, no other change is accepted
        body = {"delegations": {"roles": [{"name": role["name"]} for role in listed["roles"]]}}
        status, answer = await server.ask("POST", "/api/v1/delegations/delete", body)
        assert status == 202, answer
        await _until_well(server, [], own)


async def _until_well(server: Rest, roles: Collection[str], own: Collection[str]) -> None:
    async def is_well() -> bool:
        return not unexplained(server.health.problems, roles, own)

    try:
        await eventually(is_well, SETTLE_SECONDS)
    except TimeoutError:
        raise AssertionError(f"not healthy after the requests: {unexplained(server.health.problems, roles, own)}") from None


@asynccontextmanager
async def with_pending_root(path: Path) -> AsyncIterator[Rest]:
    """Run all services with a repository whose next root waits for its second signature."""
    held = make_bootstrap(path / "keys", bins=8)
    async with bootstrapped(path, payload=held.payload) as server:
        root = Metadata[Root].from_dict(copy.deepcopy(held.payload["metadata"]["root"]))
        root.signed.version += 1
        root.signatures.clear()
        root.sign(held.root[0].signer)
        status, answer = await server.ask("POST", "/api/v1/metadata/", {"metadata": {"root": root.to_dict()}})
        assert status == 202, answer
        own = {*server.health.parts}
        yield server
        await check_health(server, own)
        _, added = await server.ask("POST", "/api/v1/artifacts/", {"artifacts": [artifact("after/all")]})
        assert (await server.task(added["data"]["task_id"]))["state"] == "SUCCESS"


@asynccontextmanager
async def empty(path: Path) -> AsyncIterator[Rest]:
    """Run all services without a repository."""
    async with rest(path, whole=True) as server:
        yield server
        _, answer = await server.ask("GET", "/api/v1/bootstrap/")
        assert not answer["data"]["bootstrap"]


STATES: Final[Mapping[str, Callable[[Path], AbstractAsyncContextManager[Rest]]]] = MappingProxyType(
    {"with a repository": with_pending_root, "before the bootstrap": empty}
)


async def run(state: str, path: Path, examples: int, seed: int) -> tuple[str, str]:
    """Fuzz the REST API in a state.

    Args:
        state: one of ``STATES``.
        path: a directory for the services.
        examples: how many examples each operation gets in each phase, at most.
        seed: the same seed makes the same requests.

    Returns:
        The faults, as schemathesis describes them, empty if there are none; and how many requests there were.

    Raises:
        AssertionError: if the services are not well afterwards.
    """
    async with STATES[state](path) as server:
        arguments = ["--config-file", HERE / "schemathesis.toml", "run", f"{server.url}/api/v1/openapi.json", "--url", server.url]
        arguments += ["--max-examples", examples, "--seed", seed, "--continue-on-failure", "--warnings", "off"]
        # Its directory of examples would take a third of the time, and is of no use: it is deleted with the services' directory.
        arguments += ["--generation-database", "none"]
        process = await asyncio.create_subprocess_exec(
            SCHEMATHESIS,
            *map(str, arguments),
            cwd=path,
            env={**os.environ, "SCHEMATHESIS_HOOKS": str(HERE / "schemathesis_hooks.py"), "NO_COLOR": "1"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
    said = output.decode()
    count = re.search(r"(\d+) generated", said)
    return said if process.returncode or count is None else "", count[1] if count else "0"


async def _main(examples: int, seed: int) -> int:
    began, counts, faulty = time.monotonic(), [], []
    for state in STATES:
        with tempfile.TemporaryDirectory() as directory:
            faults, count = await run(state, Path(directory), examples, seed)
        counts.append(f"{count} requests {state}")
        if faults:
            faulty.append(state)
            print(faults)
    found = f"faults {', '.join(faulty)}" if faulty else "no faults"
    print(f"seed {seed}: {', '.join(counts)}; {found}; {time.monotonic() - began:.0f} s")
    return 1 if faulty else 0


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    sys.exit(asyncio.run(_main(int(sys.argv[1]), int(sys.argv[2]))))
