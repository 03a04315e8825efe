"""What a setting may be: kinds of values, each with its range, and an error that says what to write.

A value out of its range is refused when the configuration is read: ``inf`` seconds, say, would be a standstill that nothing reports.
"""

from typing import Annotated, Final

from pydantic import AfterValidator, Field

HOUR_SECONDS: Final = 3_600.0
YEAR_SECONDS: Final = 366 * 24 * HOUR_SECONDS

LEAST_SECONDS: Final = 0.001
"""Of what may be short but not nothing: a deadline, a pause in a loop."""


def seconds(least: float, most: float) -> AfterValidator:
    """Make the check of a number of seconds.

    Args:
        least: the shortest time.
        most: the longest one; a number, so that neither ``inf`` nor ``nan`` passes.

    Returns:
        The check, for an annotation.
    """

    def check(value: float) -> float:
        if not least <= value <= most:  # nan is not in any range
            raise ValueError(f"write a number of seconds from {least:g} to {most:g}")
        return value

    return AfterValidator(check)


Pause = Annotated[float, seconds(0, HOUR_SECONDS)]
"""Something waits so long: a commit, say, which must not wait until the timestamp before it has expired."""

Interval = Annotated[float, seconds(LEAST_SECONDS, HOUR_SECONDS)]
"""Something happens so often, or has so long to happen."""

Keeping = Annotated[float, seconds(0, YEAR_SECONDS)]
"""Something stays so long after its end."""

Bytes = Annotated[int, Field(gt=0)]
Port = Annotated[int, Field(ge=0, le=65_535)]
