"""``tufline config``: prints every setting, its value, and the value's source."""

from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from tufline.config.loading import load
from tufline.config.settings import Config
from tufline_cli.options import config_option

PIPED_WIDTH: Final = 10_000
"""The longest line that is printed to something other than a terminal, in characters."""


@click.command("config")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def config(path: Path | None, as_json: bool) -> None:
    """Print the settings in effect, and the source of each.

    To set NAME of [SECTION] in the environment, use TUFLINE_SECTION__NAME.
    """
    loaded, sources = load(path)
    values = loaded.model_dump(mode="json")
    rows = {dotted: values[dotted.partition(".")[0]][dotted.partition(".")[2]] for dotted in sources}
    console = Console()
    if as_json:
        console.print_json(data={dotted: {"value": value, "source": sources[dotted]} for dotted, value in rows.items()})
        return
    if not console.is_terminal:
        console = Console(width=PIPED_WIDTH)  # one uncut line per setting, for grep and similar tools
    table = Table("setting", Column("value", overflow="fold"), Column("from", overflow="fold"), "meaning", box=None)
    for dotted, value in rows.items():
        section, _, name = dotted.partition(".")
        kind = Config.model_fields[section].annotation
        meaning = kind.model_fields[name].description if kind is not None else ""
        table.add_row(dotted, *map(escape, (str(value), sources[dotted], meaning or "")))
    console.print(table)
