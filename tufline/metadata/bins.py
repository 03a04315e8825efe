"""Hash bins: which bin a path belongs to, and a bin as a list of encoded entries.

A bin is a delegated targets role. Its parent names all bins at once in ``succinct_roles`` (TAP 15), and the leading bits of a path's
SHA-256 choose the bin. A bin's content is the list of its canonical entries sorted by path, so that a change replaces one entry, and one
join makes the signed bytes. The property tests compare them with python-tuf's own serialisation.

In: paths, entries, a version and an expiry. Out: bytes to sign. No I/O, no clock.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Callable
from functools import lru_cache
from typing import Final

import msgspec

from tufline.decoding import decode
from tufline.errors import BinFullError, MetadataError
from tufline.metadata import canonical
from tufline.metadata.envelope import SPEC_VERSION
from tufline.metadata.target import Target, TargetEntry

MIN_BINS: Final = 2
MAX_BINS: Final = 16_384

MAX_BIN_BYTES: Final = 4_000_000
"""The largest bin that the signer signs, in bytes; python-tuf's client refuses targets metadata of more than 5,000,000."""

DEFAULT_NAME_PREFIX: Final = "bins"

ENTRY_OVERHEAD_BYTES: Final = 160
"""Memory per entry in addition to its bytes: two objects' headers, two list slots and the path's share (CPython 3.11)."""


class BinLayout(msgspec.Struct, frozen=True):
    """How paths are spread over bins (TAP 15, ``succinct_roles``).

    Attributes:
        bit_length: how many leading bits of SHA-256(path) choose the bin, 1 to 14.
        name_prefix: the prefix of the bins' role names.
    """

    bit_length: int
    name_prefix: str = DEFAULT_NAME_PREFIX

    @classmethod
    def of(cls, number_of_bins: int, name_prefix: str = DEFAULT_NAME_PREFIX) -> "BinLayout":
        """Make the layout for a number of bins.

        Args:
            number_of_bins: a power of two, ``MIN_BINS`` to ``MAX_BINS``.
            name_prefix: the prefix of the bins' role names.

        Returns:
            The layout.

        Raises:
            ValueError: for any other number.
        """
        if not MIN_BINS <= number_of_bins <= MAX_BINS or number_of_bins & (number_of_bins - 1):
            raise ValueError(f"the number of bins must be a power of two from {MIN_BINS} to {MAX_BINS}, not {number_of_bins}")
        return cls(number_of_bins.bit_length() - 1, name_prefix)

    @property
    def number_of_bins(self) -> int:
        """The number of bins."""
        return 1 << self.bit_length

    def index_of(self, path: str) -> int:
        """Return the bin that a path belongs to.

        Args:
            path: a target path.

        Returns:
            The bin's index, from 0.
        """
        return int.from_bytes(hashlib.sha256(path.encode()).digest()[:4], "big") >> (32 - self.bit_length)

    def name(self, index: int) -> str:
        """Return the role name of a bin.

        Args:
            index: the bin's index, from 0.

        Returns:
            Such as ``bins-03ff``; as many hexadecimal digits as the last index needs.
        """
        return _names(self)[index]


@lru_cache(maxsize=16)
def _names(layout: BinLayout) -> list[str]:
    # Cached because every change asks for a name; this way all of them also share one string per bin.
    digits = len(f"{layout.number_of_bins - 1:x}")
    return [f"{layout.name_prefix}-{index:0{digits}x}" for index in range(layout.number_of_bins)]


class _SignedBin(msgspec.Struct):
    targets: dict[str, msgspec.Raw]


class _TargetInfo(msgspec.Struct):
    length: int
    hashes: dict[str, str]
    custom: dict[str, object] | None = None


_bin_decoder = msgspec.json.Decoder(_SignedBin)
_info_decoder = msgspec.json.Decoder(_TargetInfo)


def _not_a_bin(reason: str) -> MetadataError:
    return MetadataError(f"not a bin: {reason}")


class Bin:
    """The content of one bin: its entries, sorted by their raw paths.

    The encoded entries would sort differently, because of their escapes and quotes.
    """

    __slots__ = ("_encoded", "_paths", "size")

    def __init__(self) -> None:
        """Make an empty bin."""
        self._paths: list[str] = []
        self._encoded: list[bytes] = []
        self.size = 0
        """The size of all entries in bytes, without the commas between them."""

    @classmethod
    def decode(cls, signed: bytes | msgspec.Raw) -> "Bin":
        """Read a bin from the bytes that ``encode`` writes.

        Args:
            signed: the signed part of the bin's metadata file, canonical.

        Returns:
            The bin.

        Raises:
            MetadataError: if it is not a bin.
        """
        targets = decode(_bin_decoder, signed, _not_a_bin).targets
        self = cls()
        self._paths = list(targets)
        self._encoded = [canonical.encode(path) + b":" + bytes(info) for path, info in targets.items()]
        self.size = sum(map(len, self._encoded))
        return self

    def __len__(self) -> int:
        """Return the number of targets."""
        return len(self._paths)

    @property
    def memory(self) -> int:
        """An estimate of the bin's memory, in bytes."""
        return 2 * self.size + ENTRY_OVERHEAD_BYTES * len(self._paths)

    def add(self, entry: TargetEntry) -> bool:
        """Add an entry, replacing an older one of the same path.

        Args:
            entry: from ``target.encode_entry``.

        Returns:
            Whether the bin changed: False if it already has the same entry.

        Raises:
            BinFullError: if the bin would exceed ``MAX_BIN_BYTES``; it is left unchanged.
        """
        at = bisect_left(self._paths, entry.path)
        known = at < len(self._paths) and self._paths[at] == entry.path
        if known and self._encoded[at] == entry.encoded:
            return False
        grown = self.size + len(entry.encoded) - (len(self._encoded[at]) if known else 0)
        if grown + len(self._paths) > MAX_BIN_BYTES:
            raise BinFullError(f"the bin would exceed {MAX_BIN_BYTES} bytes, which TUF clients refuse: the repository needs more bins")
        if known:
            self._encoded[at] = entry.encoded
        else:
            self._paths.insert(at, entry.path)
            self._encoded.insert(at, entry.encoded)
        self.size = grown
        return True

    def remove(self, path: str) -> bool:
        """Remove a path's entry.

        Args:
            path: a target path.

        Returns:
            Whether it was in the bin.
        """
        at = bisect_left(self._paths, path)
        if at == len(self._paths) or self._paths[at] != path:
            return False
        self.size -= len(self._encoded[at])
        del self._paths[at], self._encoded[at]
        return True

    def keep(self, is_kept: Callable[[str], bool]) -> int:
        """Remove the entries of some paths.

        Args:
            is_kept: returns whether a path's entry stays.

        Returns:
            How many were removed.
        """
        gone = [path for path in self._paths if not is_kept(path)]
        for path in gone:
            self.remove(path)
        return len(gone)

    def encode(self, version: int, expires: str) -> bytes:
        """Write the bytes to sign: the bin as canonical targets metadata (TUF specification, 4.5).

        Args:
            version: the bin's version, from 1.
            expires: from ``envelope.format_expires``.

        Returns:
            Canonical JSON.
        """
        head = f'{{"_type":"targets","expires":"{expires}","spec_version":"{SPEC_VERSION}","targets":{{'.encode()
        tail = f'}},"version":{version}}}'.encode()
        if not self._encoded:
            return head + tail
        # In one join: one more copy of half a megabyte would cost as much as a signature.
        parts = self._encoded.copy()
        parts[0] = head + parts[0]
        parts[-1] += tail
        return b",".join(parts)


def find_target(signed: bytes | msgspec.Raw, path: str) -> Target | None:
    """Find one target in a bin's signed bytes.

    Args:
        signed: the signed part of a bin's metadata file.
        path: a target path.

    Returns:
        The target, or None if the bin does not have the path.

    Raises:
        MetadataError: if it is not a bin.
    """
    info = decode(_bin_decoder, signed, _not_a_bin).targets.get(path)
    if info is None:
        return None
    found = decode(_info_decoder, info, _not_a_bin)
    return Target(path, found.length, found.hashes, found.custom)
