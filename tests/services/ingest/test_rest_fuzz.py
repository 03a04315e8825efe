"""The REST API answers as its OpenAPI document describes, whatever it is asked."""

from pathlib import Path

import pytest

from tufline_testing.fuzz import rest

pytestmark = pytest.mark.slow

EXAMPLES = {"with a repository": 100, "before the bootstrap": 10}
"""How many examples each operation gets in each phase; ``make nightly`` has five times as many."""


@pytest.mark.parametrize("state", rest.STATES)
async def test_every_answer_is_as_described(tmp_path: Path, state: str) -> None:
    """Requests that fit the description, break one rule of it, or follow its links get answers that it describes, and no 5xx."""
    faults, count = await rest.run(state, tmp_path, EXAMPLES[state], seed=1)
    assert not faults, faults
    assert int(count) > 500
