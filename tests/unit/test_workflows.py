"""The GitHub workflows: a developer can run everything that they run, and everything that they use is pinned."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools.workflows import WORKFLOWS, findings
from tufline_testing.checkout import ROOT
from tufline_testing.servers.parts import MissingPartError

FILES = sorted(WORKFLOWS.glob("*.yml"))
PRE_COMMIT = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def steps(file: Path) -> list[dict[str, Any]]:
    """Return the steps of all jobs of a workflow."""
    return [step for job in yaml.safe_load(file.read_text())["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_workflow_runs_make_targets_only(file: Path) -> None:
    """Everything that a workflow runs, a developer can run with the same make target."""
    for step in steps(file):
        if "run" in step:
            command, target, *variables = step["run"].split()
            assert (command, target in TARGETS) == ("make", True), step
            assert all(re.fullmatch(r'[A-Z]+="\$[A-Z_]+"', variable) for variable in variables), step


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_workflow_pins_its_actions(file: Path) -> None:
    """An action is pinned by its commit with the release as a comment, or a comment above explains why not."""
    lines = file.read_text().splitlines()
    for before, line in zip(["", *lines], lines, strict=False):
        if "uses:" in line:
            assert re.search(r"@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line) or before.strip().startswith("# By its major tag:"), line


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_workflow_is_given_no_more_than_it_needs(file: Path) -> None:
    """A workflow's token can only read, unless a job specifies more; and checkouts keep no credentials."""
    assert yaml.safe_load(file.read_text())["permissions"] in ({}, {"contents": "read"})
    for step in steps(file):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_ci_runs_what_the_other_workflows_run() -> None:
    """The checks of every workflow run on each change, so that no workflow fails for the first time on the day of a release."""
    ci = {line.split()[1] for line in (ROOT / ".ci" / "run").read_text().splitlines() if line.startswith("make ")}
    test = re.search(r"^test:(.*)##", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert test is not None
    left = {"coverage", "workflows"}  # the tests without servers again; test_actionlint
    for file in FILES:
        wanted = {step["run"].split()[1] for step in steps(file) if "run" in step}
        assert wanted <= ci | set(test[1].split()) | left, file


def test_classifiers_are_versions_that_are_tested() -> None:
    """The classifiers name no version of Python on which CI does not run the tests, and the oldest one is required."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    matrix = yaml.safe_load((WORKFLOWS / "test.yml").read_text())["jobs"]["test"]["strategy"]["matrix"]["python"]
    named = [found[1] for line in project["classifiers"] if (found := re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", line))]
    assert named
    assert set(named) <= set(matrix)
    assert project["requires-python"] == f">={named[0]}"


def test_hooks_run_the_tools_of_lint() -> None:
    """Before a commit the same tools run as in ``make lint``, from the same environment."""
    lint = (ROOT / "Makefile").read_text().partition("\nlint:")[2].partition("\n\n")[0]
    for repository in PRE_COMMIT["repos"]:
        assert repository["repo"] == "local"
        for hook in repository["hooks"]:
            assert hook["language"] == "system"
            program, *arguments = hook["entry"].split()
            assert program.startswith(".venv/bin/")
            assert f"$(BIN)/{' '.join([Path(program).name, *arguments[:1]])}" in lint


@pytest.mark.slow
def test_actionlint(tmp_path: Path) -> None:
    """Actionlint has no findings in the workflows, and detects a job that does not exist."""
    bad = tmp_path / "bad.yml"
    bad.write_text("on: push\njobs:\n  a:\n    needs: b\n    runs-on: ubuntu-24.04\n    steps:\n      - run: make lint\n")
    try:
        assert findings(FILES) == []
        (line,) = findings([bad])
    except MissingPartError as error:
        pytest.skip(str(error))
    assert "needs job" in line
