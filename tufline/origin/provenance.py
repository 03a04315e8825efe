"""Whether a log may publish to an origin: what is shown there must be of this log, and not newer than it.

Workflow of ``examine``. No root may be there that is not this log's. The timestamp must verify under a root of this log, any in its chain:
then it is this log's, also where the log no longer has it (its publisher died before it could say what it had published, and compaction has
taken the version since). And it must not be above the newest timestamp of the log: else the log is an older copy, and clients that have
seen what is shown would refuse all that the log has.

In: the log, the origin. Out: what is shown, or an error that says why nothing may be written there. Nothing is changed.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tuf.api.metadata import Root, Timestamp

from tufline.bus import Bus, Record
from tufline.bus.scan import last_record, scan
from tufline.errors import ForeignOriginError, MetadataError, RecordError
from tufline.metadata import envelope
from tufline.origin.store import TIMESTAMP, Store
from tufline.records import topics
from tufline.records.metadata import version_of
from tufline.runtime.passed_over import PassedOver
from tufline.trust import rules
from tufline.trust.admin_state import AdminState, fold

_FILE_NAME: Final = re.compile(r"([1-9][0-9]*)\.([^/]+)\.json")


@dataclass(frozen=True, slots=True)
class Shown:
    """What an origin shows.

    Attributes:
        version: of the timestamp; 0 if there is none that clients accept.
        damage: why clients accept the timestamp that is there under no root of this log; empty if they do, or there is none.
        has_root: whether a root of this log is there, and none of another.
    """

    version: int = 0
    damage: str = ""
    has_root: bool = False


def parse_name(name: str) -> tuple[str, int] | None:
    """Read the name of a versioned metadata file.

    Args:
        name: of a file at an origin.

    Returns:
        Role and version; None for all other names.
    """
    matched = _FILE_NAME.fullmatch(name)
    return (matched[2], int(matched[1])) if matched is not None else None


async def examine(bus: Bus, store: Store, passed: PassedOver | None = None) -> Shown:
    """Find out whether what an origin shows is of a log, and not newer than it.

    Args:
        bus: the log.
        store: the origin.
        passed: takes damaged records; without it they are an error.

    Returns:
        What is shown.

    Raises:
        ForeignOriginError: if it is another repository's, or newer than the log.
        BusError: if the log can't be read.
        StoreError: if the origin can't be read.
    """
    roots = await _roots(bus, passed)
    has_root = await _check_roots(store, roots) > 0
    content = await store.get(TIMESTAMP)
    if content is None:
        return Shown(has_root=has_root)
    try:
        version = _verified_version(content, roots)
    except MetadataError as error:
        return Shown(damage=str(error), has_root=has_root)
    newest = await last_record(bus, topics.METADATA, 0, _is_timestamp, passed)
    last = 0 if newest is None else version_of(newest)
    if version > last:
        raise ForeignOriginError(ahead(version, last))
    return Shown(version, has_root=has_root)


def _is_timestamp(record: Record) -> bool:
    if record.key != Timestamp.type:
        return False
    try:
        version_of(record)
    except RecordError:
        return False  # anybody who may write there can write one without a version: publishers pass it over, and so does this
    return True


def ahead(shown: int, newest: int) -> str:
    """Say that an origin is ahead of its log.

    Args:
        shown: version of the timestamp that is shown.
        newest: of the log's newest one.

    Returns:
        The message.
    """
    return (
        f"the origin shows timestamp version {shown}, and the newest of this log is {newest}: the log is an older copy, and clients would "
        "refuse what it has, so nothing is published until the log has passed what is shown; leave the origin as it is, and see "
        "'A log that was restored from an older copy' in docs/how-to/fsck.md"
    )


async def _roots(bus: Bus, passed: PassedOver | None) -> Sequence[Root]:
    # Of 'admin', which is small and has every version; what is not released yet can't have signed anything that is shown.
    state = AdminState()
    async for batch in scan(bus, topics.ADMIN, 0, passed=passed):
        for record in batch:
            state = fold(state, record)
    return [given.signed for given in state.roots]


def whole_root(content: bytes) -> Root | None:
    """Read a root that was found at an origin.

    Args:
        content: the file.

    Returns:
        The root, whoever's; None if its own keys have not signed it, as where the file is damaged.
    """
    try:
        return rules.verified(Root, content, rules.root_keys(rules.parse(Root, content).signed, Root.type))
    except MetadataError:
        return None


async def _check_roots(store: Store, roots: Sequence[Root]) -> int:
    count = 0
    ours = {root.version: root for root in roots}
    for name in sorted(await store.names()):
        role, version = parse_name(name) or ("", 0)
        content = await store.get(name) if role == Root.type else None
        if content is None:
            continue
        found = whole_root(content)
        if found is None:
            continue  # damaged: it is nobody's
        if found == ours.get(version):
            count += 1
        else:
            raise ForeignOriginError(
                f"the origin holds {name}, which does not belong to this log: another repository publishes there; "
                "set publisher.directory to an empty directory, or to this log's own"
            )
    return count


def _verified_version(timestamp: bytes, roots: Sequence[Root]) -> int:
    file = envelope.disassemble(timestamp)
    common = envelope.read_common(file.signed)
    if common.type != Timestamp.type:
        raise MetadataError(f"it is {common.type} metadata")
    for root in reversed(roots):
        try:
            rules.root_keys(root, Timestamp.type).verify(Timestamp.type, file)
        except MetadataError:
            continue
        return common.version
    raise MetadataError("no root of this log has keys that signed it")
