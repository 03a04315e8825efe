"""The reasons why ``make release-check`` refuses a release."""

import tomllib
from email.message import Message

import pytest

from tools.release_check import ReleaseError, metadata_problems, notes, package_files, sdist_problems, wheel_problems
from tufline import __version__
from tufline_testing.checkout import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXPECTED = package_files(PROJECT, ROOT)
CHANGELOG = f"# Changelog\n\n## [Unreleased]\n\n## [{__version__}] - 2026-01-02\n"


def metadata(**fields: str) -> Message:
    """Build the metadata of a valid distribution, with changes by the caller."""
    message = Message()
    good = {"Version": __version__, "Summary": "x", "License_Expression": "Apache-2.0", "Requires_Python": ">=3.11"}
    for name, value in {**good, **fields}.items():
        message[name.replace("_", "-")] = value
    message.set_payload("# Tufline\n")
    return message


def test_a_whole_wheel_is_accepted() -> None:
    """A wheel of all packages, with its metadata, has no problems; it holds every service and the marker of types."""
    assert wheel_problems([*EXPECTED, "tufline-1.dist-info/METADATA"], EXPECTED) == []
    packages = {name.partition("/")[0] for name in EXPECTED}
    assert packages >= {"tufline", "tufline_cli", "tufline_ingest", "tufline_publisher", "tufline_signer"}
    assert "tufline_testing" not in packages


@pytest.mark.parametrize("service", ["tufline_ingest", "tufline_publisher", "tufline_signer"])
def test_a_wheel_without_a_service_is_refused(service: str) -> None:
    """A wheel that lacks a service is refused, and the error names what is missing."""
    held = [name for name in EXPECTED if not name.startswith(f"{service}/")]
    (problem,) = wheel_problems(held, EXPECTED)
    assert problem.startswith(f"the wheel lacks {len(EXPECTED) - len(held)} files of {service}, such as {service}/")


def test_a_wheel_with_tests_is_refused() -> None:
    """A wheel that would install foreign files next to other packages is refused."""
    assert wheel_problems([*EXPECTED, "tests/x.py"], EXPECTED) == ["the wheel holds tests/x.py, which belongs to none of the packages"]


def test_a_package_that_is_nowhere_is_refused() -> None:
    """A package that import-linter knows and no directory holds ends the check."""
    project = {"tool": {**PROJECT["tool"], "importlinter": {"root_packages": ["tufline_nowhere"]}}}
    with pytest.raises(ReleaseError, match="tufline_nowhere is in no directory"):
        package_files(project, ROOT)


def test_an_sdist_needs_its_sources_and_texts() -> None:
    """An sdist without the licence, the changelog or a module is refused."""
    texts = ["LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "PKG-INFO"]
    whole = [f"tufline-1/{name}" for name in texts] + [f"tufline-1/services/x/{name}" for name in EXPECTED]
    assert sdist_problems(whole, EXPECTED) == []
    assert sdist_problems([name for name in whole if not name.endswith("LICENSE")], EXPECTED) == ["the sdist lacks LICENSE"]
    assert sdist_problems([name for name in whole if not name.endswith("/tufline/errors.py")], EXPECTED) == [
        "the sdist lacks 1 source files, such as tufline/errors.py"
    ]


def test_version_tag_and_changelog_agree() -> None:
    """A release's tag, version and section of the changelog are the same; with a tag, the section has a date."""
    assert metadata_problems(metadata(), CHANGELOG, f"v{__version__}") == []
    assert "is not v" in metadata_problems(metadata(), CHANGELOG, "v9.9.9")[0]
    assert "no section" in metadata_problems(metadata(), "# Changelog\n", None)[0]
    assert metadata_problems(metadata(), CHANGELOG.replace("2026-01-02", "not yet"), None) == []
    assert "no date" in metadata_problems(metadata(), CHANGELOG.replace("2026-01-02", "not yet"), f"v{__version__}")[0]
    assert "tufline.__version__" in metadata_problems(metadata(Version="9"), CHANGELOG.replace(__version__, "9"), None)[0]
    assert "no License-Expression" in metadata_problems(metadata(License_Expression=""), CHANGELOG, None)[0]


def test_missing_addresses_are_reported() -> None:
    """A release without addresses is possible, with a note that it has none."""
    bare = metadata()
    bare.set_payload("[a](docs/a.md) [b](https://example.org) [c](#c)")
    assert [note.partition(":")[0] for note in notes(bare)] == ["no addresses", "no addresses"]
    assert notes(metadata(Project_URL="Source, https://example.org")) == []
