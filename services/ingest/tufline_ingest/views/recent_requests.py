"""The records that this process accepted recently, so that most tasks are answered without reading the log (on Kafka, a connection each).

In: the records of a request, once the log has them, and where the records of a named request were found. Out: the same, in bounded memory;
other records have to be read from the log.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from tufline.bus import Message, Position
from tufline.records.cursor import Cursor

KEPT_BYTES: Final = 8_000_000
"""How many bytes of accepted records are kept."""

KEPT_NAMES: Final = 1000
"""How many named requests are remembered with the positions of their records."""

Place = tuple[int, int]
"""A partition of ``artifacts`` and an offset in it."""


class RecentRequests:
    """The records that this process accepted recently."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._values: OrderedDict[Place, bytes] = OrderedDict()
        self._size = 0
        self._named: OrderedDict[str, Cursor] = OrderedDict()

    def accepted(self, messages: Sequence[Message], positions: Sequence[Position]) -> None:
        """Remember a request that is on the log.

        Args:
            messages: its records.
            positions: of them.
        """
        for message, position in zip(messages, positions, strict=True):
            self._values[position.partition, position.offset] = message.value
            self._size += len(message.value)
        while self._size > KEPT_BYTES:
            self._size -= len(self._values.popitem(last=False)[1])

    def find(self, place: Place) -> bytes | None:
        """Find a record.

        Args:
            place: of the record.

        Returns:
            Its value; None if this process did not accept the record, or has forgotten it.
        """
        return self._values.get(place)

    def found(self, name: str, where: Cursor) -> None:
        """Remember where the records of a named request are.

        Args:
            name: the request's name.
            where: the cursor of its records.
        """
        self._named[name] = where
        while len(self._named) > KEPT_NAMES:
            self._named.popitem(last=False)

    def find_named(self, name: str) -> Cursor | None:
        """Find the records of a named request.

        Args:
            name: the request's name.

        Returns:
            The cursor of its records; None if this process does not know where they are.
        """
        return self._named.get(name)
