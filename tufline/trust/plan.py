"""What a repository costs: bytes for clients, signatures and bytes for the server. Pure; docs/explanation/plan.md has the formulas.

In: the number of files and bins, a rate of changes, the signer's timing. Out: the sizes of the metadata, measured on files that the
product's own encoders make, and the work of a day, computed.
"""

import gzip
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from tuf.api.metadata import Metadata

from tufline.metadata import envelope
from tufline.metadata.bins import MAX_BIN_BYTES, Bin, BinLayout
from tufline.metadata.envelope import SignatureEntry
from tufline.metadata.snapshot import Snapshot, encode_timestamp
from tufline.metadata.target import Target, encode_entry
from tufline.trust import ceremony
from tufline.trust.ceremony import DEFAULT_DAYS

DAY_SECONDS: Final = 86_400.0

SAMPLE: Final = 400
"""How many entries of a bin are really encoded and compressed; a larger bin is extrapolated from them."""

SIGNATURE_BYTES: Final = 71
"""The usual size of a signature by a P-256 key; each has 70 to 72 bytes."""

GZIP_LEVEL: Final = 6

FEW: Final = 1e-3
"""With fewer changes of a bin than this between two renewals, a series replaces the formula, which would subtract nearly equal numbers."""


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a file.

    Attributes:
        raw: in bytes.
        gzip: compressed, in bytes.
    """

    raw: float
    gzip: float

    def __add__(self, other: "Size") -> "Size":
        """Add the sizes of two files."""
        return Size(self.raw + other.raw, self.gzip + other.gzip)


@dataclass(frozen=True, slots=True)
class Load:
    """The size of a repository, and the changes that it gets.

    Attributes:
        files: how many files it has.
        bins: the number of bins.
        changes: how many files are added, replaced or removed a day.
        per_request: how many of them arrive at the same time, as one request.
        path_bytes: the length of a target path, on average.
    """

    files: int
    bins: int
    changes: float
    per_request: float = 1.0
    path_bytes: int = 60


@dataclass(frozen=True, slots=True)
class Timing:
    """The signer's settings on which the work depends.

    Attributes:
        commit_interval: the shortest time between two snapshots, in seconds.
        commit_delay: how long a commit waits for more changes, in seconds.
        renew_fraction: a role is renewed when less than this fraction of its lifetime is left.
        renewal_check: how often the bins of a partition are looked through for renewal, in seconds.
        partitions: number of partitions of ``artifacts``.
        days: role to lifetime, in days.
    """

    commit_interval: float
    commit_delay: float
    renew_fraction: float
    renewal_check: float
    partitions: int
    days: Mapping[str, int] = field(default_factory=lambda: DEFAULT_DAYS)

    def longest(self, role: str) -> float:
        """Return the longest time until a role is signed again, in seconds."""
        return self.days[role] * DAY_SECONDS * (1 - self.renew_fraction)


@dataclass(frozen=True, slots=True)
class Work:
    """How many files are signed, in a day.

    Attributes:
        changed: bins that are signed because of changes.
        renewed: bins that are signed because they approach their expiry.
        snapshots: snapshots.
        timestamps: timestamps.
    """

    changed: float
    renewed: float
    snapshots: float
    timestamps: float

    @property
    def signatures(self) -> float:
        """How many signatures are made; during the change of an online key twice as many."""
        return self.changed + self.renewed + self.snapshots + self.timestamps


def touched(bins: int, changes: float) -> float:
    """Return how many bins a request changes, on average.

    Args:
        bins: the number of bins.
        changes: how many files it adds or removes.
    """
    return bins * (1 - math.pow(1 - 1 / bins, changes))


def work(load: Load, timing: Timing) -> Work:
    """Compute the work of an average day; requests arrive independently of each other.

    Args:
        load: the repository.
        timing: the signer's settings.

    Returns:
        The work.
    """
    requests = load.changes / load.per_request / DAY_SECONDS
    changed = requests * touched(load.bins, load.per_request)
    renewed = load.bins * _renewals(changed / load.bins, timing.longest("bins"))
    # The due bins of a partition are found together, each time that the signer checks all bins of the partition.
    check = timing.renewal_check / timing.partitions
    found = -math.expm1(-renewed * check) / check
    events = requests + found
    commits = 1 / (timing.commit_interval + timing.commit_delay + math.exp(-events * timing.commit_interval) / events)
    snapshots = _at_least(commits, timing.longest("snapshot"))
    timestamps = _at_least(snapshots, timing.longest("timestamp"))
    return Work(*(DAY_SECONDS * rate for rate in (changed, renewed, snapshots, timestamps)))


def _renewals(rate: float, longest: float) -> float:
    """Return how often a bin is renewed, in 1/s, if changes sign it at a rate in 1/s.

    A version is renewed at an age that is spread evenly over the second half of ``longest``, unless a change has signed it before.
    """
    expected = rate * longest
    if expected < FEW:
        between = longest * (3 / 4 - expected * 7 / 24 + expected**2 * 15 / 192)
    else:
        between = (1 - 2 / expected * (math.exp(-expected / 2) - math.exp(-expected))) / rate
    return max(0.0, 1 / between - rate)


def _at_least(rate: float, longest: float) -> float:
    """Return how often a role is signed, in 1/s, if events at ``rate`` (in 1/s) cause it, and ``longest`` seconds without one do too."""
    return rate / -math.expm1(-rate * longest)


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of a repository's metadata.

    Attributes:
        files: the name of each kind of file to its size; ``bin`` is the bin of a file, which is larger than an average bin: more files are
            in large bins than in small ones.
        average_bin: the size of a bin with the average number of files.
        is_too_large: whether a bin is larger than Tufline allows.
    """

    files: Mapping[str, Size]
    average_bin: Size
    is_too_large: bool

    @property
    def new_client(self) -> Size:
        """What a client loads for its first file: one of each kind."""
        return sum(self.files.values(), Size(0, 0))

    @property
    def returning_client(self) -> Size:
        """What a client loads for a file later: timestamp, snapshot and the file's bin, if all of them have changed."""
        return self.files["timestamp"] + self.files["snapshot"] + self.files["bin"]

    def written(self, done: Work) -> float:
        """Return the uncompressed bytes of metadata that are written to the origin in a day; the log gets as many.

        Args:
            done: the work of the day.
        """
        bins = done.changed * self.files["bin"].raw + done.renewed * self.average_bin.raw
        return bins + done.snapshots * self.files["snapshot"].raw + done.timestamps * self.files["timestamp"].raw


def sizes(load: Load, root_keys: int = 3, targets_keys: int = 3) -> Sizes:
    """Measure the metadata of a repository. Hashes are as random as real ones; a third of each path is as random, too.

    Args:
        load: the repository.
        root_keys: how many keys root has; a majority signs.
        targets_keys: the same for targets.

    Returns:
        The sizes.
    """
    now = datetime.now(UTC)
    expires = envelope.expiry(now, timedelta(days=7))
    held = ceremony.hold(
        ceremony.Plan(
            load.bins,
            root_keys=root_keys,
            root_threshold=root_keys // 2 + 1,
            targets_keys=targets_keys,
            targets_threshold=targets_keys // 2 + 1,
        )
    )
    targets = Metadata.from_dict(held.payload["metadata"]["targets"]).to_bytes()
    layout = BinLayout.of(load.bins)
    # Versions have as many digits as after some thousand changes.
    snapshot = Snapshot({layout.name(index): 100 + _number(index) % 9_900 for index in range(load.bins)} | {"targets": 1})
    of_snapshot = _signed(snapshot.encode(123_456, expires))
    average = load.files / load.bins
    # The other files are spread evenly, whichever bin this one is in.
    bin_size = _bin(1 + max(0, load.files - 1) / load.bins, load.path_bytes, expires)
    found = {
        "root": _size(held.root_json),
        "timestamp": _size(_signed(encode_timestamp(234_567, expires, 123_456, of_snapshot))),
        "snapshot": _size(of_snapshot),
        "targets": _size(targets),
        "bin": bin_size,
    }
    return Sizes(found, _bin(average, load.path_bytes, expires), bin_size.raw > MAX_BIN_BYTES)


def _number(index: int) -> int:
    return int.from_bytes(_digest("number", index)[:4], "big")


def _digest(what: str, index: int) -> bytes:
    return hashlib.sha256(f"{what} {index}".encode()).digest()


def _signed(content: bytes) -> bytes:
    signature = b"".join(_digest("signature", part) for part in range(3))[:SIGNATURE_BYTES].hex()
    return envelope.assemble(content, [SignatureEntry(_digest("keyid", 0).hex(), signature)])


def _size(content: bytes) -> Size:
    return Size(len(content), len(gzip.compress(content, GZIP_LEVEL)))


def _bin(entries: float, path_bytes: int, expires: str) -> Size:
    """Return the size of a bin: of real files with few entries, and extrapolated from two of them for many."""
    most = min(math.ceil(entries), SAMPLE)
    least = min(math.floor(entries), SAMPLE // 2)
    low, high = (_size(_encoded(count, path_bytes, expires)) for count in (least, most))
    part = 0.0 if most == least else (entries - least) / (most - least)
    return Size(low.raw + part * (high.raw - low.raw), low.gzip + part * (high.gzip - low.gzip))


def _encoded(entries: int, path_bytes: int, expires: str) -> bytes:
    made = Bin()
    for index in range(entries):
        made.add(encode_entry(Target(_path(index, path_bytes), 10_000 + _number(index) % 90_000, {"sha256": _digest("file", index).hex()})))
    return _signed(made.encode(1_234, expires))


def _path(index: int, path_bytes: int) -> str:
    random = _digest("path", index).hex()[: max(8, path_bytes // 3)]
    words = "packages/example-package-name-1.0.0-py3-none-any.whl/" * (path_bytes // 50 + 1)
    return f"{words[: max(0, path_bytes - len(random) - 1)]}/{random}"[-path_bytes:] if path_bytes > len(random) else random
