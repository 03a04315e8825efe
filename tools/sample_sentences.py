"""Draws 100 sentences of the repository's prose, for a second reader to judge: ``python -m tools.sample_sentences SEED``.

Each sentence that has to be read twice is a fault: rewrite it, and look for others like it.
"""

import functools
import random
import sys
from typing import Final

from tools.prose import prose_of, sentences, tracked
from tufline_testing.checkout import ROOT

SAMPLE: Final = 100
LEFT_OUT: Final = ("tests/fixtures/", "CHANGELOG.md")
"""Where sentences are data, or history."""


@functools.cache
def _all() -> tuple[str, ...]:
    found = {
        f"{one.path}:{one.line}: {one.text}"
        for path in tracked(ROOT)
        if not path.startswith(LEFT_OUT)
        for piece in prose_of(path, (ROOT / path).read_text())
        for one in sentences(piece)
    }
    return tuple(sorted(found))


def draw(seed: int, count: int = SAMPLE) -> list[str]:
    """Draw sentences.

    Args:
        seed: the same seed draws the same sentences from the same files.
        count: how many.

    Returns:
        Each with its place, ``PATH:LINE: SENTENCE``.
    """
    return random.Random(seed).sample(_all(), count)


if __name__ == "__main__":
    print("\n".join(draw(int(sys.argv[1]))))
