"""The prerequisites of ``make test`` in addition to Python packages: lists, installs or fetches them, and reports missing ones.

Two steps. ``programs`` runs before any package is installed, so it needs only the standard library: it lists what this machine lacks, and
which tests that affects. Root on Debian or Ubuntu gets the missing packages; everybody else is told the command. ``parts`` fetches and
builds what is kept in the user's cache.

If ``CI_RUN`` is set, as in ``.ci/run`` and the GitHub workflows, each step fails if anything is missing; otherwise the tests that need it
are skipped. There, and only there, packages are also installed with sudo if it asks for no password.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from tufline_testing.clients import builds
from tufline_testing.servers.jdk import java
from tufline_testing.servers.kafka_cluster import classes, jars
from tufline_testing.servers.openbao import bao
from tufline_testing.servers.parts import PARTS, MissingPartError, only_look

KAFKA_TESTS: Final = "the services on Apache Kafka (tests/kafka)"
CLIENT_TESTS: Final = "that {} reads what Tufline publishes (tests/interop)"


@dataclass(frozen=True, slots=True)
class Part:
    """A part in the user's cache that tests need.

    Attributes:
        name: its name, for people.
        fetch: fetches or builds it, or finds it.
        untested: what is not tested without it.
    """

    name: str
    fetch: Callable[[], Path]
    untested: str

    @property
    def is_here(self) -> bool:
        """Whether it can be used without fetching anything."""
        try:
            with only_look():
                self.fetch()
        except MissingPartError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Program:
    """A program that comes with a Debian package.

    Attributes:
        package: name of the package.
        is_here: whether this machine has the program.
        untested: what is not tested without it; empty if nothing can be tested without it.
        makes: the parts that it fetches; empty if it is also needed for something else.
    """

    package: str
    is_here: Callable[[], bool]
    untested: str = ""
    makes: Sequence[Part] = ()

    @property
    def is_missing(self) -> bool:
        """Whether something can't be tested because this machine lacks the program."""
        return not self.is_here() and (not self.makes or any(not part.is_here for part in self.makes))


KAFKA: Final = Part("Apache Kafka", jars, KAFKA_TESTS)

PART_LIST: Final = (
    Part("OpenBao", bao, "online keys in Vault (tests/vault)"),
    Part("Java", java, KAFKA_TESTS),
    KAFKA,
    Part("Kafka's classes", classes, KAFKA_TESTS),
    Part("the oldest python-tuf", builds.oldest_python_tuf, CLIENT_TESTS.format("the oldest supported python-tuf")),
    Part("tuf-js", builds.tuf_js, CLIENT_TESTS.format("tuf-js")),
    Part("the oldest tuf-js", lambda: builds.tuf_js(builds.OLDEST_TUF_JS), CLIENT_TESTS.format("the oldest supported tuf-js")),
    Part("go-tuf", builds.go_tuf, CLIENT_TESTS.format("go-tuf")),
    Part("the oldest go-tuf", builds.oldest_go_tuf, CLIENT_TESTS.format("the oldest supported go-tuf")),
    Part("RSTUF's command line", builds.rstuf, "that RSTUF's command line works against Tufline (tests/interop/test_rstuf.py)"),
    Part("the parser of AsyncAPI", builds.asyncapi_parser, "whether schemas/asyncapi.yaml is valid"),
    Part("actionlint", builds.actionlint, "whether the GitHub workflows are valid"),
)
"""In the order in which they are fetched."""


def _on_path(command: str) -> Callable[[], bool]:
    return lambda: shutil.which(command) is not None


PROGRAMS: Final = (
    Program("python3-venv", lambda: find_spec("venv") is not None and find_spec("ensurepip") is not None),
    Program("maven", _on_path("mvn"), KAFKA_TESTS, (KAFKA,)),
    Program("nodejs", _on_path("node"), f"{CLIENT_TESTS.format('tuf-js')}, and whether schemas/asyncapi.yaml is valid"),
    Program("npm", _on_path("npm"), f"{CLIENT_TESTS.format('tuf-js')}, and whether schemas/asyncapi.yaml is valid"),
    Program("softhsm2", _on_path("softhsm2-util"), "keys on a PKCS#11 token (tests/vault/test_providers.py)"),
    Program(
        "strace",
        lambda: sys.platform != "linux" or shutil.which("strace") is not None,
        "what is on the disk after a loss of power (tests/e2e/test_durability.py)",
    ),
)


def lacking(programs: Sequence[Program], parts: Sequence[Part]) -> list[str]:
    """Describe what is missing.

    Args:
        programs: programs that this machine lacks.
        parts: parts that the cache lacks.

    Returns:
        Lines for people: what to install, what is not tested without it, and what will be fetched.
    """
    lines = []
    if programs:
        lines.append(f"This machine lacks Debian packages: sudo apt-get install {' '.join(program.package for program in programs)}")
        lines += [f"  {program.package}: NOT TESTED without it: {program.untested or 'anything'}" for program in programs]
    if parts:
        lines.append(f"To be fetched or built, once, in up to ten minutes, in {PARTS}:")
        lines.append(f"  {', '.join(part.name for part in parts)}")
    return lines


def package_manager() -> Sequence[str]:
    """Find a way to install packages without a question.

    Returns:
        The command, up to its arguments; empty if there is none.
    """
    if not shutil.which("apt-get"):
        return ()
    if os.geteuid() == 0:
        return ("apt-get",)
    sudo = shutil.which("sudo") if os.environ.get("CI_RUN") else None  # elsewhere, a test must not change the machine
    if sudo and subprocess.run([sudo, "-n", "true"], stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0:
        return (sudo, "-n", "DEBIAN_FRONTEND=noninteractive", "apt-get")
    return ()


def install(manager: Sequence[str], programs: Sequence[Program]) -> str:
    """Install the packages of programs with apt-get.

    Args:
        manager: the command, as from ``package_manager``.
        programs: what to install.

    Returns:
        Why it failed; empty if it did not.
    """
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "--yes", *(program.package for program in programs)]):
        done = subprocess.run([*manager, "-qq", *command], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"apt-get {' '.join(command)} failed:\n{(done.stdout + done.stderr)[-2000:]}"
    return ""


def fetch(parts: Sequence[Part]) -> Mapping[str, str]:
    """Fetch parts, and print the progress.

    Args:
        parts: what to fetch; what the cache has is checked for damage.

    Returns:
        Name of each part that can't be fetched, and why.
    """
    failed = {}
    for part in parts:
        if is_new := not part.is_here:
            print(f"fetching {part.name} …", end=" ", flush=True)
        began = time.monotonic()
        try:
            part.fetch()
        except MissingPartError as error:
            failed[part.name] = str(error)
            print(f"failed. NOT TESTED: {part.untested}\n{error}", flush=True)
        else:
            if is_new:
                print(f"{time.monotonic() - began:.0f} s", flush=True)
    return failed


def check_programs() -> bool:
    """List what is missing, and install it if that needs no question.

    Returns:
        Whether the tests can go on.
    """
    missing = [program for program in PROGRAMS if program.is_missing]
    if missing and (manager := package_manager()):
        print(f"installing Debian packages with {' '.join(manager)}: {' '.join(program.package for program in missing)} …", flush=True)
        if problem := install(manager, missing):
            print(problem, flush=True)
        missing = [program for program in missing if program.is_missing]
    lines = lacking(missing, [part for part in PART_LIST if not part.is_here])
    print("\n".join(lines or ["Everything that the tests need is here."]), flush=True)
    return not missing or not (os.environ.get("CI_RUN") or any(not program.untested for program in missing))


def check_parts() -> bool:
    """Fetch what is missing.

    Returns:
        Whether the tests can go on.
    """
    return not fetch(PART_LIST) or not os.environ.get("CI_RUN")


STEPS: Final[Mapping[str, Callable[[], bool]]] = {"programs": check_programs, "parts": check_parts}


def main(arguments: Sequence[str]) -> int:
    """Run a step.

    Args:
        arguments: the name of the step.

    Returns:
        The exit code: 0 if the tests can go on.
    """
    if STEPS[arguments[0]]():
        return 0
    print("the tests can't run, because something that they need is missing: install what is listed above", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
