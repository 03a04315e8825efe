"""Checks what must be true after a soak, from the log, its files and a TUF client. Pure: records in, problems out.

To detect changes that were applied twice or reverted, the states of a path in the consecutive versions of its bin are compared with the
states that its producer sent: they must be some of those, in that order, and the final state must be the last one. Each version of a bin
must also differ from the one before, because nothing is renewed in so short a time. A bin that was written without a change had its changes
applied twice, unless a path was added and removed, or removed and added, in one batch.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from tuf.api.metadata import Root, Timestamp

from tufline import records
from tufline.bus import Record
from tufline.metadata.bins import BinLayout
from tufline.metadata.envelope import sha256
from tufline.records import PROGRESS_KEY, Committed, Head, Progress
from tufline.records.metadata import VERSION_HEADER, metadata_key, role_of_key
from tufline_testing.soak.load import History

BIN: Final = re.compile(r"bins-[0-9a-f]+")
BATCH: Final = re.compile(r"baseOffset: (?P<offset>\d+) .*producerId: (?P<producer>-?\d+) producerEpoch: (?P<epoch>-?\d+)")


def versions(metadata: Sequence[Record]) -> Iterator[str]:
    """Check that the versions of each role are consecutive, and that each has one content.

    Args:
        metadata: all records of topic ``metadata``.

    Yields:
        Problems.
    """
    newest: dict[str, int] = {}
    contents: dict[tuple[str, int], str] = {}
    for record in metadata:
        version, known = int(record.headers[VERSION_HEADER]), newest.get(record.key, 0)
        if contents.setdefault((record.key, version), sha256(record.value)) != sha256(record.value):
            yield f"{record.key} version {version} has two contents"
        # A commit that only moves the vector repeats the timestamp; a root has its version in its key.
        if version != known + 1 and not (record.key == Timestamp.type and version == known) and role_of_key(record.key) != Root.type:
            yield f"{record.key} goes from version {known} to {version}"
        newest[record.key] = version


def states(metadata: Sequence[Record], history: History, layout: BinLayout) -> Iterator[str]:
    """Check that each path went through the states that its producer sent, in that order and up to the last one; see the module.

    Args:
        metadata: all records of topic ``metadata``.
        history: the sent changes of each path.
        layout: layout of the bins.

    Yields:
        Problems.
    """
    lengths: dict[str, dict[str, int]] = defaultdict(dict)
    given = {path: [None, *states] for path, states in history.items()}
    reached = dict.fromkeys(given, 0)
    paths = defaultdict(list)
    for path in given:
        paths[layout.name(layout.index_of(path))].append(path)
    for record in metadata:
        if not BIN.fullmatch(record.key):
            continue
        before = lengths[record.key]
        after = {path: target["length"] for path, target in json.loads(record.value)["signed"]["targets"].items()}
        lengths[record.key] = after
        changed = [path for path in {**before, **after} if before.get(path) != after.get(path)]
        version = int(record.headers[VERSION_HEADER])
        if not changed and version > 1 and not any(before.get(path) in given[path][reached[path] + 1 :] for path in paths[record.key]):
            yield f"{record.key} version {version} changes nothing: a change was applied twice"
        for path in changed:
            now = after.get(path)
            if path not in given:
                yield f"{path} is there, and nobody sent it"
            elif now in given[path][reached[path] + 1 :]:
                reached[path] = given[path].index(now, reached[path] + 1)
            else:
                yield f"{path} becomes {now} out of order: it was reverted, applied twice, or never sent"
    for path, every in given.items():
        if (last := lengths[layout.name(layout.index_of(path))].get(path)) != every[-1]:
            yield f"{path} is {last} on the log, and {every[-1]} was accepted last"


def heads(of_partition: Sequence[Record], metadata: Mapping[int, Record]) -> Iterator[str]:
    """Check a partition of ``heads``: nothing in it goes back, and each head names a file on the log.

    Args:
        of_partition: the partition's records.
        metadata: offset to record.

    Yields:
        Problems.
    """
    newest: dict[str, Head] = {}
    progress: Progress | Committed | None = None
    for record in of_partition:
        where = f"heads {record.partition} offset {record.offset}"
        match records.decode(records.heads_decoder, record.value):
            case Head() as head:
                before = newest.get(record.key)
                # A commit that only moves the vector repeats the timestamp.
                if before is not None and (
                    head.version < before.version
                    or (head.version == before.version and head.sha256 != before.sha256)
                    or head.applied < before.applied
                ):
                    yield f"{where}: {record.key} goes back to version {head.version}, applied {head.applied}"
                named = metadata.get(head.offset)
                key = metadata_key(record.key, head.version)
                if named is None or named.key != key or sha256(named.value) != head.sha256:
                    yield f"{where}: the head of {record.key} names a file that is not on the log"
                newest[record.key] = head
            case Progress() as new:
                if isinstance(progress, Progress) and new.offset < progress.offset:
                    yield f"{where}: the progress goes back from {progress.offset} to {new.offset}"
                progress = new
            case Committed() as new_commit:
                if isinstance(progress, Committed) and not new_commit.vector.covers(progress.vector):
                    yield f"{where}: a commit covers less than the one before"
                progress = new_commit
            case _:
                pass
    if progress is None:
        yield f"heads {of_partition[0].partition if of_partition else ''} has no {PROGRESS_KEY}"


def epochs(dumped: str) -> Iterator[str]:
    """Check that no fenced producer has written anything: the epochs of a producer never go back.

    Args:
        dumped: output of Kafka's ``DumpLogSegments`` for the files of one partition.

    Yields:
        Problems.
    """
    newest: dict[str, int] = {}
    for batch in BATCH.finditer(dumped):
        producer, epoch = batch["producer"], int(batch["epoch"])
        if epoch < newest.get(producer, epoch):
            yield f"offset {batch['offset']}: producer {producer} wrote in epoch {epoch}, fenced by epoch {newest[producer]}"
        newest[producer] = epoch
    if not newest:
        yield "the dump has no batch"


def live(length_of: Callable[[str], int | None], history: History) -> Iterator[str]:
    """Check that a client sees the last accepted change of each path.

    Args:
        length_of: looks a path up; returns None for a missing one.
        history: the sent changes of each path.

    Yields:
        Problems.
    """
    for path, lengths in history.items():
        if (found := length_of(path)) != lengths[-1]:
            yield f"{path} is {found} for a client, and {lengths[-1]} was accepted last"
