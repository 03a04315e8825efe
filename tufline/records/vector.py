"""The vector of a commit, which is in records of ``heads`` and ``published``, and in a header of ``metadata``."""

from typing import Final

import msgspec

from tufline.records.codec import decoder


class Vector(msgspec.Struct, frozen=True):
    """The offsets up to which a commit covers its inputs: records below them are live once it is published.

    Attributes:
        artifacts: an offset for each partition of ``artifacts``; every record below it is applied.
        admin: an offset in ``admin``; every record below it is applied, except publishes.
        publishes: an offset in ``admin``; the changes that publishes below it release are applied.
        admin_end: an offset in ``admin``, not below ``admin`` if it is not 0; every record below it is applied, except publishes and those
            in ``waiting``. 0 if none waits.
        waiting: offsets in ``admin``, in order: changes of the custom delegations of which a role waits for its keys.
    """

    artifacts: list[int]
    admin: int
    publishes: int = 0
    admin_end: int = 0
    waiting: tuple[int, ...] = ()

    @property
    def end(self) -> int:
        """An offset in ``admin``: what is at or above it is not applied, nor is what is in ``waiting``."""
        return max(self.admin, self.admin_end)

    def has_applied(self, offset: int) -> bool:
        """Return whether a record of ``admin``, other than a publish, is applied.

        Args:
            offset: its offset.
        """
        return offset < self.admin or (offset < self.admin_end and offset not in self.waiting)

    def covers(self, other: "Vector") -> bool:
        """Return whether no offset of this vector is below that of another one.

        Args:
            other: a vector of the same repository.

        Returns:
            Whether all of ``other`` is covered.
        """
        pairs = zip(self.artifacts, other.artifacts, strict=True)
        is_behind = self.admin < other.admin or self.publishes < other.publishes
        return not is_behind and all(mine >= theirs for mine, theirs in pairs)


_encoder: Final = msgspec.json.Encoder()
vector_decoder: Final[msgspec.json.Decoder[Vector]] = decoder(Vector)


def encode_vector(vector: Vector) -> str:
    """Encode a vector for ``VECTOR_HEADER``.

    Args:
        vector: the vector of a commit.

    Returns:
        JSON.
    """
    return _encoder.encode(vector).decode()
