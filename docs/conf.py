"""Sphinx configuration of the documentation: ``make docs`` builds it, and a warning is an error."""

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

import tufline

project = "Tufline"
author = "The Tufline maintainers"
copyright = author  # noqa: A001 (Sphinx's name)
version = release = tufline.__version__

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "adr/template.md"]
nitpicky = True

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

html_theme = "furo"
html_title = f"Tufline {release}"
html_copy_source = False
html_show_sphinx = False


def setup(app: Sphinx) -> None:
    """Show diagrams as their text: the site loads no script from elsewhere that would draw them."""
    app.add_lexer("mermaid", TextLexer)
