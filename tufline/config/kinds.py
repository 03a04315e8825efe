"""What a setting may be: kinds of values, each with its range, and an error that says what to write.

A value out of its range is refused when the configuration is read: ``inf`` seconds, say, would be a standstill that nothing reports.
"""

import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import NoDecode

from tufline.errors import ConfigError

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

EMBEDDED: Final = "embedded:"
"""Before the file of a log for one process, in a URL."""

KAFKA: Final = "kafka:"
"""Before the brokers of a cluster, in a URL."""

_LABEL: Final = "[A-Za-z0-9_-]{1,63}"
_BROKER: Final = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*\.?|\[[0-9A-Fa-f:.]+\]):([0-9]{{1,5}})")
_LAST_PORT: Final = 65_535


def check_bus_url(url: str) -> str:
    """Make sure that a URL can be that of a bus.

    Args:
        url: ``embedded:<file>`` or ``kafka:<host>:<port>,…``.

    Returns:
        It.

    Raises:
        ConfigError: if it is not; with what to write.
    """
    if url.startswith(KAFKA):
        for broker in url.removeprefix(KAFKA).split(","):
            matched = _BROKER.fullmatch(broker.strip())
            if matched is None or not 1 <= int(matched[1]) <= _LAST_PORT:
                advice = f"write 'kafka:<host>:<port>,…' with ports from 1 to {_LAST_PORT}"
                raise ConfigError(f"{broker.strip()!r} in {url!r} is no broker: {advice}")
    elif not url.startswith(EMBEDDED) or url == EMBEDDED:
        raise ConfigError(f"{url!r} is no bus: write 'embedded:<file>' or 'kafka:<host>:<port>,…'")
    return url


BusUrl = Annotated[str, AfterValidator(check_bus_url)]

MAX_KAFKA_NAME: Final = 200
"""Of a prefix or a member's name, in characters: Kafka's names have at most 249, and what follows a prefix has to fit in too."""


def _check_kafka_name(name: str) -> str:
    if not re.fullmatch(rf"[A-Za-z0-9._-]{{0,{MAX_KAFKA_NAME}}}", name):
        raise ValueError(f"write at most {MAX_KAFKA_NAME} of the characters a-z, A-Z, 0-9, '.', '_' and '-', as Kafka's names have")
    return name


KafkaName = Annotated[str, AfterValidator(_check_kafka_name)]
"""A part of names on Kafka; may be empty."""


def _split(given: Any) -> Any:
    return [part.strip() for part in given.split(",")] if isinstance(given, str) else given


CommaSeparated: Final = (NoDecode, BeforeValidator(_split))
"""Of a list: how it is written in an environment variable."""
