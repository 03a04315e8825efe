"""The types of settings: each has a range, and an error that says what to write.

A value out of range is refused when the configuration is read: ``inf`` seconds, for example, would stop work without any report.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field, GetCoreSchemaHandler
from pydantic_core.core_schema import CoreSchema, no_info_after_validator_function
from pydantic_settings import NoDecode

from tufline.errors import ConfigError

HOUR_SECONDS: Final = 3_600.0
YEAR_SECONDS: Final = 366 * 24 * HOUR_SECONDS

LEAST_SECONDS: Final = 0.001
"""The shortest time that must not be zero, such as a deadline or a pause in a loop."""


@dataclass(frozen=True, slots=True)
class Seconds:
    """The range of a setting that is a number of seconds; an annotation of a ``float``, also read by ``make reference``.

    Attributes:
        least: the shortest time, in seconds.
        most: the longest time, in seconds; a finite number, so that ``inf`` and ``nan`` are refused.
    """

    least: float
    most: float

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Make pydantic check the range, as its protocol for annotations asks."""
        return no_info_after_validator_function(self._check, handler(source))

    def _check(self, value: float) -> float:
        if not self.least <= value <= self.most:  # nan is not in any range
            raise ValueError(f"write a number of seconds from {in_digits(self.least)} to {in_digits(self.most)}")
        return value


def in_digits(number: float) -> str:
    """Write a number without an exponent, and without a fraction that is zero.

    Args:
        number: a limit of a setting.

    Returns:
        The number, as it can be written into a configuration.
    """
    return f"{number:.3f}".rstrip("0").rstrip(".")


Pause = Annotated[float, Seconds(0, HOUR_SECONDS)]
"""How long something waits. These times are limited because, for example, a commit must not wait until the previous timestamp has
expired."""

Interval = Annotated[float, Seconds(LEAST_SECONDS, HOUR_SECONDS)]
"""How often something happens, or how long it may take."""

Keeping = Annotated[float, Seconds(0, YEAR_SECONDS)]
"""How long something is kept after its end."""

Bytes = Annotated[int, Field(gt=0)]
Port = Annotated[int, Field(ge=0, le=65_535)]

EMBEDDED: Final = "embedded:"
"""The prefix of a bus URL that names the file of an embedded log."""

KAFKA: Final = "kafka:"
"""The prefix of a bus URL that names the brokers of a cluster."""

_LABEL: Final = "[A-Za-z0-9_-]{1,63}"
_BROKER: Final = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*\.?|\[[0-9A-Fa-f:.]+\]):([0-9]{{1,5}})")
_LAST_PORT: Final = 65_535


def check_bus_url(url: str) -> str:
    """Check the URL of a bus.

    Args:
        url: ``embedded:<file>`` or ``kafka:<host>:<port>,…``.

    Returns:
        The URL, unchanged.

    Raises:
        ConfigError: if it is not valid; with what to write instead.
    """
    if url.startswith(KAFKA):
        for broker in url.removeprefix(KAFKA).split(","):
            matched = _BROKER.fullmatch(broker.strip())
            if matched is None or not 1 <= int(matched[1]) <= _LAST_PORT:
                advice = f"write 'kafka:<host>:<port>,…' with ports from 1 to {_LAST_PORT}"
                raise ConfigError(f"{broker.strip()!r} in {url!r} is not a valid broker address: {advice}")
    elif not url.startswith(EMBEDDED) or url == EMBEDDED:
        raise ConfigError(f"{url!r} is not a valid bus URL: write 'embedded:<file>' or 'kafka:<host>:<port>,…'")
    return url


BusUrl = Annotated[str, AfterValidator(check_bus_url)]

MAX_KAFKA_NAME: Final = 200
"""The longest prefix or member name, in characters: Kafka's names have at most 249, and the rest of a name has to fit after the prefix."""


def _check_kafka_name(name: str) -> str:
    if not re.fullmatch(rf"[A-Za-z0-9._-]{{0,{MAX_KAFKA_NAME}}}", name):
        raise ValueError(f"write at most {MAX_KAFKA_NAME} of the characters a-z, A-Z, 0-9, '.', '_' and '-', which Kafka's names allow")
    return name


KafkaName = Annotated[str, AfterValidator(_check_kafka_name)]
"""A part of names in Kafka; may be empty."""


def _split(value: Any) -> Any:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


CommaSeparated: Final = (NoDecode, BeforeValidator(_split))
"""Annotations of a list that an environment variable has as comma-separated text."""
