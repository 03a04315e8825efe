"""The pages of docs/reference match the code."""

import re

import click
import pytest
from pydantic import BaseModel, ValidationError

from tools.reference import PAGES, cell, kind_of, make_all
from tufline.config.settings import Config
from tufline.records import topics
from tufline_cli import main
from tufline_testing.checkout import ROOT

MADE = make_all()
TIMES = [
    (section, name)
    for section, values in Config().model_dump().items()
    for name, value in values.items()
    if isinstance(value, float) and name != "renew_fraction"
]
PRODUCT = [file for folder in ("tufline", "cli", "services") for file in (ROOT / folder).rglob("*.py")]


@pytest.mark.parametrize("name", MADE)
def test_a_page_is_what_the_code_says(name: str) -> None:
    """Each generated page is up to date: run make reference after a change."""
    assert (PAGES / name).read_text() == MADE[name]


def test_every_command_and_setting_is_documented() -> None:
    """No command, and no setting, is missing from its page."""
    for command in main.list_commands(click.Context(main)):
        assert f"## tufline {command}\n" in MADE["command-line.md"]
    for section, values in Config().model_dump().items():
        for name in values:
            assert f"| `{section}.{name}` |" in MADE["settings.md"]


@pytest.mark.parametrize(("section", "name"), TIMES)
def test_a_time_shows_its_range(section: str, name: str) -> None:
    """A setting in seconds shows the shortest and the longest time: both are valid, and anything beyond is refused with these numbers."""
    found = re.search(rf"\| `{section}\.{name}` \| number of seconds \(at least ([\d.]+), at most (\d+)\) \|", MADE["settings.md"])
    assert found is not None
    kind = Config.model_fields[section].annotation
    assert isinstance(kind, type)
    assert issubclass(kind, BaseModel)
    for valid in found.groups():
        assert getattr(kind(**{name: valid}), name) == float(valid)
    for beyond in (float(found[1]) - 0.0005, float(found[2]) + 0.5):
        with pytest.raises(ValidationError, match=f"write a number of seconds from {re.escape(found[1])} to {found[2]} "):
            kind(**{name: beyond})


def test_every_error_metric_and_topic_is_documented() -> None:
    """Every error, metric and topic of the product is on its page, even if its module is new."""
    for file in PRODUCT:
        text = file.read_text()
        for metric in re.findall(r"= (?:Counter|Gauge|Histogram)\(\s*\"(tufline_\w+)\"", text):
            assert f"| `{metric}" in MADE["metrics.md"], file
        for error in re.findall(r"^class (\w+)\((?:\w*Error)(?:, \w+)*\):", text, re.MULTILINE):
            assert f"`{error}`" in MADE["errors.md"], file
    for topic in (value for name, value in vars(topics).items() if name.isupper() and isinstance(value, str)):
        assert f"## {topic}\n" in MADE["topics.md"]


def test_secrets_have_no_default_on_the_page() -> None:
    """A setting that holds a secret shows no value, not even asterisks."""
    rows = [row for row in MADE["settings.md"].splitlines() if "| secret |" in row]
    assert rows
    assert all("| secret |  |" in row for row in rows)


def test_cells_and_kinds() -> None:
    """Text that would end a cell or start an element is escaped; types are written in words."""
    assert cell("a|b\n  <c>") == "a\\|b &lt;c>"
    assert [kind_of(kind) for kind in (int, bool, str | None, tuple[str, ...])] == [
        "whole number",
        "true or false",
        "text or nothing",
        "list of text",
    ]
