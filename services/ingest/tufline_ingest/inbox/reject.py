"""Records of ``rejected``: a record of ``inbox`` byte for byte, with the reason in additional headers.

These headers come last, so that headers of the same names that the producer may have sent are unchanged.
"""

from typing import Final

from tufline.bus import Message, Record
from tufline.bus.headers import make_headers, pairs_of
from tufline.records import topics
from tufline.records.rejected import CUT_HEADER, OFFSET_HEADER, PARTITION_HEADER, REASON_HEADER, TOPIC_HEADER, size_of

KEPT_BYTES: Final = 4_000_000
"""How much of a record is kept, in bytes. A record that was compressed may be larger than the log accepts when it is appended again."""

KEPT_KEY: Final = 1000
"""How much of the key is kept, in characters, if a record is too large even without its value."""


def make_message(record: Record, reason: str) -> Message:
    """Make the record of ``rejected``.

    Args:
        record: of ``inbox``.
        reason: why it is rejected, for people.

    Returns:
        The message, for the same partition.
    """
    key, value, pairs = record.key, record.value, list(pairs_of(record.headers))
    ours = [(REASON_HEADER, reason), (TOPIC_HEADER, record.topic), (PARTITION_HEADER, str(record.partition))]
    ours.append((OFFSET_HEADER, str(record.offset)))
    size = size_of(record)
    if size > KEPT_BYTES:
        room = KEPT_BYTES - (size - len(value))
        if room < 0:
            key, pairs, room = key[:KEPT_KEY], [], KEPT_BYTES
        value = value[:room]
        ours.append((CUT_HEADER, str(size)))
    return Message(topics.REJECTED, key, value, record.partition, make_headers([*pairs, *ours]))
