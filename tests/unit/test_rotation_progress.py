"""What tufline keys rotate says that a rotation waits for."""

from typing import Any

import pytest

from tufline_cli.commands.rotation_steps import Rotation, waits_for

ROTATION = Rotation(old="old", new="new", uri="fn:old", skip_overlap=False)


@pytest.mark.parametrize(
    ("bins", "custom", "expected"),
    [
        ({"old": 8, "new": 7}, {}, "7 of 8 bins are signed with the new key"),
        ({"old": 8, "new": 7}, {"dev": ["old", "new"], "doc": ["old"], "own": ["other"]}, "8 of 10 bins and custom roles are signed"),
        ({"new": 8}, {"doc": ["old"]}, "8 of 9 bins and custom roles are signed with the new key; if the old key is doc's own"),
        ({"other": 8}, {"doc": ["old"], "dev": ["other"]}, "0 of 1 bins and custom roles are signed with the new key"),
        ({"new": 8}, {"dev": ["new"], "own": ["other"], "fresh": []}, ""),
    ],
)
def test_progress_counts_bins_and_custom_roles(bins: dict[str, int], custom: dict[str, list[str]], expected: str) -> None:
    """Custom roles count if the old or the new key signs them; the old key is not done as long as it alone signs one."""
    answer: dict[str, Any] = {"bins": bins, "number_of_bins": 8, "custom_roles": custom, "keyids": {"timestamp": ["new"]}}
    found = waits_for(answer, ROTATION, {})
    assert found.startswith(expected)
    assert bool(found) is bool(expected)
