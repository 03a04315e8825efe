"""Whole numbers in requests. JSON Schema calls 1.0 an integer too, so it is read; ``request_json.whole`` refuses what has a fraction."""

from typing import Any

import msgspec

WholeNumber = int | float
"""The type that is read. The schema says ``integer``, with the metadata of ``whole_number``."""


def whole_number(**limits: Any) -> msgspec.Meta:
    """Describe a whole number.

    Args:
        limits: further keywords of its JSON Schema, and ``type`` for one that may be null.

    Returns:
        The metadata of a field of the type ``WholeNumber``.
    """
    return msgspec.Meta(extra_json_schema={"type": "integer", **limits})
