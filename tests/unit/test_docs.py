"""The documentation: its links are valid, each page is in one index, and its examples are true."""

import os
import re
from pathlib import Path

import pytest

from tufline_testing.checkout import ROOT
from tufline_testing.doc_blocks import blocks

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
TEXTS = [*PAGES, *ROOT.glob("*.md"), *(ROOT / "deploy").rglob("*.md"), ROOT / "examples" / "README.md"]
RUN = {
    "README.md": "tests/e2e/test_docs.py",
    "docs/tutorials/first-repository.md": "tests/e2e/test_docs.py",
    "docs/tutorials/three-key-holders.md": "tests/e2e/test_docs.py",
    "docs/how-to/one-machine.md": "tests/e2e/test_docs.py",
    "docs/how-to/rest.md": "tests/e2e/test_docs.py",
    "docs/how-to/hold.md": "tests/e2e/test_docs.py",
    "docs/how-to/delegations.md": "tests/e2e/test_docs.py",
    "docs/how-to/keys.md": "tests/e2e/test_docs.py",
    "docs/how-to/sign-together.md": "tests/e2e/test_docs.py",
    "docs/how-to/backup.md": "tests/e2e/test_docs.py",
    "docs/how-to/vault.md": "tests/vault/test_guide.py",
    "examples/README.md": "tests/e2e/test_examples.py",
}
"""Pages with programs, and the test that runs these."""

NOT_RUN = {
    "README.md": 1,
    "deploy/compose/README.md": 2,
    "docs/adr/0003-faust-is-not-on-the-path.md": 1,
    "docs/explanation/plan.md": 1,
    "docs/how-to/audit.md": 1,
    "docs/how-to/ceremony.md": 2,
    "docs/how-to/delegations.md": 2,
    "docs/how-to/fsck.md": 1,
    "docs/how-to/inbox.md": 2,
    "docs/how-to/kafka.md": 1,
    "docs/how-to/sign-together.md": 1,
    "docs/tutorials/first-repository.md": 1,
    "docs/tutorials/three-key-holders.md": 1,
    "examples/README.md": 1,
}
"""The number of programs on each page that have a reason not to run them."""

LINK = re.compile(r"\]\(((?![a-z]+:)[^)\s#]*)(#[^)\s]+)?\)")


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and the site generate them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """A link to a file of the repository leads to an existing file, and an anchor to a heading in it."""
    for target, anchor in LINK.findall(page.read_text()):
        file = Path(os.path.normpath(page.parent / target)) if target else page
        assert file.exists(), f"{page}: {target}"
        if anchor and file.suffix == ".md":
            assert anchor[1:] in anchors(file), f"{page}: {target}{anchor}"


@pytest.mark.parametrize("folder", ["how-to", "explanation", "reference", "adr"])
def test_an_index_lists_every_page(folder: str) -> None:
    """The index of a folder links every page in it, so that a reader finds each without a search."""
    index = (DOCS / folder / "index.md").read_text()
    for page in (DOCS / folder).glob("*.md"):
        assert page.name in {"index.md", "template.md"} or f"({page.name})" in index, page


def test_paths_of_pages_in_the_code_exist() -> None:
    """If a message, a docstring or a comment names a page of docs/, the page exists."""
    written = {"docs/proofs.md"}  # by make nightly, once it has run
    sources = [
        file
        for folder in ("tufline", "cli", "services", "testing", "tools", "benchmarks", "evidence", "examples")
        for file in (ROOT / folder).rglob("*.py")
    ]
    for file in [*sources, ROOT / "Makefile", *(ROOT / "schemas").iterdir(), *TEXTS]:
        for name in re.findall(r"(?<![\w./-])docs/[\w/-]+\.md", file.read_text()):
            assert name in written or (ROOT / name).exists(), f"{file}: {name}"


def test_decisions_follow_the_template() -> None:
    """Every decision has the template's sections and a date, and its title and date are in the index."""
    index = (DOCS / "adr" / "index.md").read_text()
    for record in (DOCS / "adr").glob("0*.md"):
        number, title = re.match(r"# (\d+)\. (.*)", record.read_text()).groups()  # type: ignore[union-attr]
        date = re.search(r"^Date: (20\d\d-\d\d-\d\d)\. Status: ", record.read_text(), re.MULTILINE)
        assert date is not None, record
        assert f"| {number} | [{title}]({record.name}) | {date[1]} |" in index
        assert {"context", "options", "decision", "drawbacks"} <= anchors(record), record


def test_programs_run_in_a_test_or_say_why_not() -> None:
    """Every command and program in the documentation runs in a test, or has a reason why not; the exceptions are counted here."""
    not_run: dict[str, int] = {}
    for page in TEXTS:
        name = page.relative_to(ROOT).as_posix()
        outside = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
        indented = re.findall(r"^    (?:tufline|make|pip|docker|python3?|bao) .*$", outside, re.MULTILINE)
        assert not indented, f"{name}: put commands into a fenced block of sh"
        for block in (block for block in blocks(page) if block.is_program):
            if block.reason:
                not_run[name] = not_run.get(name, 0) + 1
            else:
                assert name in RUN, f"{name}: no test runs {block.text!r}; add one, or <!-- not-run: REASON --> in front of it"
                assert page.name in (ROOT / RUN[name]).read_text()
    assert not_run == NOT_RUN


def test_no_text_advises_to_install_by_name() -> None:
    """The package is not published, so no text advises to install it by its name, which another project could register."""
    sources = [
        file for folder in ("tufline", "cli", "services", "deploy") for file in (ROOT / folder).rglob("*.*") if file.suffix != ".pyc"
    ]
    for file in [*sources, *TEXTS]:
        assert not re.search(r"(?:install|tool run|uvx|add) ['\"]?tufline(?:\[|['\"\s]|$)", file.read_text()), file
