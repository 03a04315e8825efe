"""Headers of records, and the checks of what may be appended: what both implementations of the bus say the same of.

On Kafka others write too, and a record of theirs may hold any bytes. A key or a header's value that is not UTF-8 is text all the same, by
Python's ``surrogateescape``: what is appended again has the very bytes that were read. A name may stand more than once.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from tufline.bus.topic import Cleanup, Topic

ESCAPE: Final = "surrogateescape"
"""How bytes that are not UTF-8 stand in text (Python's name of an error handler)."""


class Headers(Mapping[str, str]):
    """Headers in which a name stands more than once. As a mapping it gives the last value of each name."""

    __slots__ = ("pairs",)

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Keep all of them, in their order.

        Args:
            pairs: name and value of each.
        """
        self.pairs = tuple(pairs)

    def __getitem__(self, name: str) -> str:
        """The last value of a name."""
        return dict(self.pairs)[name]

    def __iter__(self) -> Iterator[str]:
        """Every name once."""
        return iter(dict(self.pairs))

    def __len__(self) -> int:
        """How many names there are."""
        return len(dict(self.pairs))


def pairs_of(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """List headers, each as often as it stands there.

    Args:
        headers: of a record or message.

    Returns:
        Name and value of each, in their order.
    """
    return headers.pairs if isinstance(headers, Headers) else tuple(headers.items())


def make_headers(pairs: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """Make headers of pairs.

    Args:
        pairs: name and value of each.

    Returns:
        A dict where no name stands twice, else ``Headers``.
    """
    kept = tuple(pairs)
    unique = dict(kept)
    return unique if len(unique) == len(kept) else Headers(kept)


def check_message(topic: Topic, partition: int, key: str, headers: Mapping[str, str]) -> None:
    """Refuse what can't be appended.

    Args:
        topic: that it is for.
        partition: of it.
        key: of the message.
        headers: of the message.

    Raises:
        ValueError: if it is no text, the partition does not exist, or the key is empty where compaction goes by it.
    """
    if not key and topic.cleanup is Cleanup.COMPACT:
        raise ValueError(f"a record of {topic.name} has no key")
    if not 0 <= partition < topic.partitions:
        raise ValueError(f"the topic {topic.name} has no partition {partition}")
    key.encode(errors=ESCAPE)  # raises for what is no text, such as half a surrogate pair
    for name, value in pairs_of(headers):
        name.encode()
        value.encode(errors=ESCAPE)
