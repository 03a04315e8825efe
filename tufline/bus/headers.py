"""Headers of records, and the checks of a message before it is appended. Both implementations of the bus share them.

On Kafka other programs write too, and their records may hold any bytes. A key or a header's value that is not UTF-8 becomes text through
Python's ``surrogateescape``, so that appending it again writes the bytes that were read. A header's name may occur more than once.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from tufline.bus.topic import Cleanup, Topic

ESCAPE: Final = "surrogateescape"
"""The error handler of Python's codecs that keeps bytes that are not UTF-8."""


class Headers(Mapping[str, str]):
    """Headers in which a name occurs more than once. As a mapping it has the last value of each name."""

    __slots__ = ("pairs",)

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Keep all headers, in their order.

        Args:
            pairs: name and value of each header.
        """
        self.pairs = tuple(pairs)

    def __getitem__(self, name: str) -> str:
        """Return the last value of a name."""
        return dict(self.pairs)[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the distinct names."""
        return iter(dict(self.pairs))

    def __len__(self) -> int:
        """Return the number of distinct names."""
        return len(dict(self.pairs))


def pairs_of(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """List all headers, including repeated names.

    Args:
        headers: the headers of a record or a message.

    Returns:
        Name and value of each header, in their order.
    """
    return headers.pairs if isinstance(headers, Headers) else tuple(headers.items())


def make_headers(pairs: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """Make headers from pairs.

    Args:
        pairs: name and value of each header.

    Returns:
        A dict if no name occurs twice, otherwise ``Headers``.
    """
    kept = tuple(pairs)
    unique = dict(kept)
    return unique if len(unique) == len(kept) else Headers(kept)


def check_message(topic: Topic, partition: int, key: str, headers: Mapping[str, str]) -> None:
    """Refuse a message that can't be appended.

    Args:
        topic: the message's topic.
        partition: the message's partition, from 0.
        key: the message's key.
        headers: the message's headers.

    Raises:
        ValueError: if the key or a header is not valid text, the partition does not exist, or a message for a compacted topic has no key.
    """
    if not key and topic.cleanup is Cleanup.COMPACT:
        raise ValueError(f"a record of the compacted topic {topic.name} needs a key")
    if not 0 <= partition < topic.partitions:
        raise ValueError(f"the topic {topic.name} has no partition {partition}")
    key.encode(errors=ESCAPE)  # raises for invalid text, such as half a surrogate pair
    for name, value in pairs_of(headers):
        name.encode()
        value.encode(errors=ESCAPE)
