"""Tools that read the repository's prose: the phrase lint, and the sample of sentences."""

import pytest

from tools.phrases import check, phrases
from tools.prose import Piece, prose_of, sentences
from tools.sample_sentences import draw

PROGRAM = '''"""A module that is mended. It has
two sentences here.

Args:
    path: to the file that is read.
"""

# A comment of a few words,
# which goes on for ever.
NAME = "beside"
raise ValueError(f"the file {NAME} can't be read anew, so it is left out")
'''

PAGE = """# A heading of a page that is long

A paragraph whose metadata are
on two lines. Another sentence of it.

    a block of code that is never anew

```
another block that is never anew
```

| a cell of five words here | another cell of five words |
|---|---|
"""


def found(path: str, content: str) -> list[str]:
    return [finding for piece in prose_of(path, content) for finding in check(piece, phrases())]


def test_phrases_of_a_program_are_found_where_they_are() -> None:
    """Docstrings, comments and messages are read; each finding has its line and the replacement, and code is ignored."""
    assert found("a.py", PROGRAM) == [
        "a.py:1: 'mended': write fix",
        "a.py:11: 'anew': write again",
        "a.py:9: 'for ever': write indefinitely, until cancelled",
    ]


def test_phrases_of_a_page_are_found_where_they_are() -> None:
    """Paragraphs and tables are read, including a phrase broken over two lines; code blocks are ignored."""
    assert found("a.md", PAGE) == ["a.md:3: 'metadata are': write metadata is, metadata has"]
    assert found("a.md", "The metadata\nare signed.\n") == ["a.md:1: 'metadata are': write metadata is, metadata has"]


@pytest.mark.parametrize("phrase", phrases(), ids=lambda phrase: str(phrase.pattern.pattern)[:30])
def test_no_phrase_is_recommended_that_is_refused(phrase: object) -> None:
    """The replacements in the list pass the lint themselves."""
    assert [list(check(Piece("a.md", 1, one.instead), phrases())) for one in phrases() if one == phrase] == [[]]


def test_text_is_split_into_sentences() -> None:
    """A docstring is split into its sentences and the descriptions of its arguments; cells of a table are separate sentences."""
    of_program = [(one.line, one.text) for piece in prose_of("a.py", PROGRAM) for one in sentences(piece)]
    assert (1, "A module that is mended.") in of_program
    assert (5, "path: to the file that is read.") in of_program
    assert (8, "A comment of a few words, which goes on for ever.") in of_program
    of_page = [one.text for piece in prose_of("a.md", PAGE) for one in sentences(piece)]
    assert "A paragraph whose metadata are on two lines." in of_page
    assert any(text.strip("| ") == "another cell of five words" for text in of_page)


def test_a_seed_draws_the_same_sentences() -> None:
    """The sample has the requested size; one seed always draws the same sentences, and another seed draws others."""
    assert len(set(draw(1))) == 100
    assert draw(1) == draw(1) != draw(2)
