"""Writes the table of docs/paths.md: what each TUF client asks for when it fetches a target path. ``make paths`` runs it."""

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from helpers.clients import all_clients  # noqa: E402 (found by the path above)
from helpers.paths import BEGIN, END, table  # noqa: E402 (likewise)

PAGE = ROOT / "docs" / "paths.md"


def main() -> None:
    """Put the table of now in place of the one that is there."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    with all_clients() as clients, tempfile.TemporaryDirectory() as directory:
        made = table(clients, Path(directory))
    PAGE.write_text(f"{before}{BEGIN}\n{made}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
