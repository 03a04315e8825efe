"""Checks the GitHub workflows with actionlint: ``make workflows``."""

import subprocess
import sys
from pathlib import Path
from typing import Final

from tufline_testing.checkout import ROOT
from tufline_testing.clients.builds import actionlint
from tufline_testing.servers.parts import MissingPartError

WORKFLOWS: Final = ROOT / ".github" / "workflows"


def findings(files: list[Path]) -> list[str]:
    """Check workflow files.

    Args:
        files: workflows, in YAML.

    Returns:
        One line for each problem that actionlint found.

    Raises:
        MissingPartError: if actionlint can't be built.
    """
    # Without shellcheck and pyflakes, so that the answer does not depend on what else is installed.
    command = [str(actionlint()), "-no-color", "-oneline", "-shellcheck=", "-pyflakes=", *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).splitlines() or ([f"actionlint ended with {done.returncode}"] if done.returncode else [])


def main() -> int:
    """Check all workflows of the repository.

    Returns:
        The exit code: 0 if there is nothing to report.
    """
    files = sorted(WORKFLOWS.glob("*.yml"))
    try:
        found = findings(files)
    except MissingPartError as error:
        print(error, file=sys.stderr)
        return 1
    for line in found:
        print(line, file=sys.stderr)
    print(f"{len(files)} workflows, {len(found)} findings")
    return 1 if found or not files else 0


if __name__ == "__main__":
    sys.exit(main())
