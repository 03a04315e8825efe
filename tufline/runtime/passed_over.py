"""Records that a follower can't use: it goes on past them, and health names them until a later record of the same key is good.

Anybody who may write to a topic can write something there that nobody can read. That must neither stop who follows the topic nor go unseen.
What is passed over is a warning: the process does all that it can, so it stays ready.
"""

from collections import OrderedDict
from typing import Final, TypeVar

import msgspec
import structlog

from tufline import records
from tufline.bus import Bus, Record
from tufline.errors import RecordError, RecordUnreadableError, SchemaError
from tufline.runtime.health import Health

MOST: Final = 1000
"""How many keys with such a record are kept in mind; beyond that the oldest are forgotten."""

DAMAGED: Final = "@"
"""In place of the key of a damaged record, followed by its offset."""

_log = structlog.get_logger(__name__)
T = TypeVar("T")


class PassedOver:
    """The records that a follower passed over."""

    def __init__(self, health: Health, part: str) -> None:
        """Start with none.

        Args:
            health: of the process.
            part: name of the follower; what it passes over is a part of its own, ``<part>.records``.
        """
        self._health = health
        self._part = f"{part}.records"
        self._of_key: OrderedDict[tuple[str, int, str], tuple[int, str]] = OrderedDict()
        self.count = 0
        """How many times a record was passed over: who reads a range of records sees by it whether it got all of them."""

    def decode(self, decoder: "msgspec.json.Decoder[T]", record: Record) -> T | None:
        """Read a record, or pass it over.

        Args:
            decoder: from ``records.decoder``.
            record: of the log, in order.

        Returns:
            What it says; None if it can't be read.

        Raises:
            SchemaError: if it has a newer schema: an upgrade reads it, so nothing may go on past it.
        """
        try:
            content = records.decode(decoder, record.value)
        except SchemaError:
            raise
        except RecordError as error:
            self.add(record, str(error))
            return None
        self.good(record)
        return content

    def add(self, record: Record, reason: str) -> None:
        """Pass a record over.

        Args:
            record: of the log.
            reason: why it can't be used, for a human.
        """
        where = f"offset {record.offset} of {record.topic}/{record.partition}"
        self._note((record.topic, record.partition, record.key), record.offset, f"{where} (key {record.key[:100]!r}): {reason[:500]}")

    def damaged(self, error: RecordUnreadableError) -> None:
        """Pass over a record whose bytes can't be decoded.

        Args:
            error: that a reader raised at it.
        """
        # Its key can't be read either: no later record makes up for it.
        self._note((error.topic, error.partition, f"{DAMAGED}{error.offset}"), error.offset, str(error))

    def _note(self, key: tuple[str, int, str], offset: int, text: str) -> None:
        self.count += 1
        if self._of_key.get(key) != (offset, text):  # who answers queries comes by the same one often
            _log.error("record.passed_over", part=self._part, key=key[2], what=text)
        self._of_key[key] = offset, text
        self._of_key.move_to_end(key)
        if len(self._of_key) > MOST:
            self._of_key.popitem(last=False)
        self._report()

    def good(self, record: Record) -> None:
        """Take note of a record that can be used: what was passed over of its key counts no more.

        Args:
            record: of the log.
        """
        key = record.topic, record.partition, record.key
        if key in self._of_key and self._of_key[key][0] <= record.offset:
            del self._of_key[key]
            self._report()

    async def drop_gone(self, bus: Bus) -> None:
        """Report no longer what is gone from the log.

        Args:
            bus: the log.

        Raises:
            BusError: if the bus can't be asked now.
        """
        for topic, partition in {key[:2] for key in self._of_key}:
            start = await bus.start(topic, partition)
            for key in [key for key, (offset, _) in self._of_key.items() if key[:2] == (topic, partition) and offset < start]:
                del self._of_key[key]
        self._report()

    def is_in_doubt(self, topic: str, key: str) -> bool:
        """Say whether the newest record of a key may be one that was passed over.

        Args:
            topic: without the prefix.
            key: of the record.

        Returns:
            Whether a record of that key was passed over and no good one has followed, or a damaged one whose key nobody knows.
        """
        return any(other == topic and (of == key or of.startswith(DAMAGED)) for other, _, of in self._of_key)

    def forget(self) -> None:
        """Report nothing any more: the follower has ended, or starts again from where it will come by all of them."""
        self._of_key.clear()
        self._report()

    def _report(self) -> None:
        if not self._of_key:
            self._health.gone(self._part)
            return
        _, newest = next(reversed(self._of_key.values()))
        others = f" (and {len(self._of_key) - 1} more, see the log)" if len(self._of_key) > 1 else ""
        self._health.warn(self._part, f"passed over what can't be used: {newest}{others}; find out who wrote it")
