"""Records that a follower can't use: it skips them, and the process's health reports them until a later record of the same key is usable.

Anyone with write access to a topic can write records there that nobody can read. Such a record must not stop a follower of the topic, but
it must be reported. It is reported as a warning, so the process stays ready.
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
"""How many keys with such a record are remembered; beyond that the oldest are dropped."""

DAMAGED: Final = "@"
"""The prefix that stands for the unreadable key of a damaged record; the record's offset follows it."""

_log = structlog.get_logger(__name__)
T = TypeVar("T")


class PassedOver:
    """The records that a follower skipped."""

    def __init__(self, health: Health, part: str) -> None:
        """Start with none.

        Args:
            health: the process's health.
            part: the follower's name; skipped records are reported as the part ``<part>.records``.
        """
        self._health = health
        self._part = f"{part}.records"
        self._of_key: OrderedDict[tuple[str, int, str], tuple[int, str]] = OrderedDict()
        self.count = 0
        """How often a record was skipped. A reader of a range compares it before and after to know whether it got all records."""

    def decode(self, decoder: "msgspec.json.Decoder[T]", record: Record) -> T | None:
        """Decode a record, or skip it.

        Args:
            decoder: from ``records.decoder``.
            record: the next record of the partition.

        Returns:
            The record's content; None if it can't be read.

        Raises:
            SchemaError: if it has a newer schema. A newer Tufline can read it, so it must not be skipped.
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
        """Note a skipped record.

        Args:
            record: the record.
            reason: why it can't be used, for people.
        """
        where = f"offset {record.offset} of {record.topic}/{record.partition}"
        self._note((record.topic, record.partition, record.key), record.offset, f"{where} (key {record.key[:100]!r}): {reason[:500]}")

    def damaged(self, error: RecordUnreadableError) -> None:
        """Note a skipped record whose bytes can't be decoded.

        Args:
            error: what the reader raised; it names the record's topic, partition and offset.
        """
        # Its key can't be read either, so no later record can be known to replace it.
        self._note((error.topic, error.partition, f"{DAMAGED}{error.offset}"), error.offset, str(error))

    def _note(self, key: tuple[str, int, str], offset: int, text: str) -> None:
        self.count += 1
        if self._of_key.get(key) != (offset, text):  # logged once, although queries may read the same record many times
            _log.error("record.passed_over", part=self._part, key=key[2], what=text)
        self._of_key[key] = offset, text
        self._of_key.move_to_end(key)
        if len(self._of_key) > MOST:
            self._of_key.popitem(last=False)
        self._report()

    def good(self, record: Record) -> None:
        """Note a usable record: skipped records of its key are no longer reported.

        Args:
            record: the record.
        """
        key = record.topic, record.partition, record.key
        if key in self._of_key and self._of_key[key][0] <= record.offset:
            del self._of_key[key]
            self._report()

    async def drop_gone(self, bus: Bus) -> None:
        """Stop reporting records that are gone from the log.

        Args:
            bus: the log.

        Raises:
            BusError: if the bus is temporarily unavailable.
        """
        for topic, partition in {key[:2] for key in self._of_key}:
            start = await bus.start(topic, partition)
            for key in [key for key, (offset, _) in self._of_key.items() if key[:2] == (topic, partition) and offset < start]:
                del self._of_key[key]
        self._report()

    def is_in_doubt(self, topic: str, key: str) -> bool:
        """Return whether the newest record of a key may be a skipped one.

        Args:
            topic: the topic's name, without the prefix.
            key: a key of its records.

        Returns:
            True if a record of that key was skipped and no usable one has followed; also if a damaged record was skipped, as its key is
            unknown.
        """
        return any(other == topic and (of == key or of.startswith(DAMAGED)) for other, _, of in self._of_key)

    def forget(self) -> None:
        """Stop reporting all records: the follower has ended, or will read all of them again."""
        self._of_key.clear()
        self._report()

    def _report(self) -> None:
        if not self._of_key:
            self._health.gone(self._part)
            return
        _, newest = next(reversed(self._of_key.values()))
        others = f" (and {len(self._of_key) - 1} more, see the log)" if len(self._of_key) > 1 else ""
        self._health.warn(self._part, f"a record that can't be used was skipped: {newest}{others}; find out who wrote it")
