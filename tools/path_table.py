"""Writes the table of docs/reference/paths.md: the URL path that each TUF client requests for a target path. ``make paths`` runs it."""

import tempfile
from pathlib import Path

from tufline_testing.checkout import ROOT
from tufline_testing.clients.running import all_clients
from tufline_testing.clients.target_paths import BEGIN, END, table

PAGE = ROOT / "docs" / "reference" / "paths.md"


def main() -> None:
    """Replace the table in the page with the current one."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    with all_clients() as clients, tempfile.TemporaryDirectory() as directory:
        made = table(clients, Path(directory))
    PAGE.write_text(f"{before}{BEGIN}\n{made}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
