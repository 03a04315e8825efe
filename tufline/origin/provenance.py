"""Whether a log may publish to an origin: the metadata published there must come from this log, and must not be newer than the log.

``examine`` checks three things. Every root at the origin must be in this log. The timestamp must verify under one of this log's roots: then
it comes from this log, even if the log no longer has it (the publisher died before it recorded the publication, and compaction has deleted
that version since). And it must not be newer than the log's newest timestamp: otherwise the log is an older copy, and clients that have
seen the published timestamp would refuse all metadata that the log has.

In: the log and the origin. Out: the published version, or an error that says why nothing may be written there. Nothing is changed.
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
from tufline.trust import roles
from tufline.trust.admin_records import fold
from tufline.trust.admin_state import AdminState

_FILE_NAME: Final = re.compile(r"([1-9][0-9]*)\.([^/]+)\.json")


@dataclass(frozen=True, slots=True)
class PublishedAtOrigin:
    """The metadata that is published at an origin.

    Attributes:
        version: the timestamp's version; 0 if there is none that clients accept.
        damage: why the timestamp at the origin verifies under no root of this log; empty if it does, or if there is none.
        has_root: whether the origin has a root of this log.
    """

    version: int = 0
    damage: str = ""
    has_root: bool = False


def parse_name(name: str) -> tuple[str, int] | None:
    """Parse the name of a versioned metadata file.

    Args:
        name: the name of a file at an origin.

    Returns:
        Role and version; None for any other name.
    """
    matched = _FILE_NAME.fullmatch(name)
    return (matched[2], int(matched[1])) if matched is not None else None


async def examine(bus: Bus, store: Store, passed: PassedOver | None = None) -> PublishedAtOrigin:
    """Check that the metadata published at an origin comes from a log, and is not newer than the log.

    Args:
        bus: the log.
        store: the origin.
        passed: notified of damaged records, which are skipped; without it they are an error.

    Returns:
        What is published.

    Raises:
        ForeignOriginError: if it belongs to another repository, or is newer than the log.
        BusError: if the log can't be read.
        StoreError: if the origin can't be read.
    """
    roots = await _roots(bus, passed)
    has_root = await _check_roots(store, roots) > 0
    content = await store.get(TIMESTAMP)
    if content is None:
        return PublishedAtOrigin(has_root=has_root)
    try:
        version = _verified_version(content, roots)
    except MetadataError as error:
        return PublishedAtOrigin(damage=str(error), has_root=has_root)
    newest = await last_record(bus, topics.METADATA, 0, _is_timestamp, passed)
    last = 0 if newest is None else version_of(newest)
    if version > last:
        raise ForeignOriginError(ahead(version, last))
    return PublishedAtOrigin(version, has_root=has_root)


def _is_timestamp(record: Record) -> bool:
    if record.key != Timestamp.type:
        return False
    try:
        version_of(record)
    except RecordError:
        return False  # whoever can write to the topic can append a record without a version; the publisher skips such records too
    return True


def ahead(published: int, newest: int) -> str:
    """Return the error message for an origin that is ahead of its log.

    Args:
        published: the version of the published timestamp.
        newest: the version of the log's newest timestamp.

    Returns:
        The message.
    """
    return (
        f"the origin has timestamp version {published}, but the newest in this log is {newest}, so the log is an older copy and nothing is "
        "published until it has passed that version: clients would refuse an older one. Leave the origin as it is, and see 'A log that was "
        "restored from an older copy' in docs/how-to/fsck.md"
    )


async def _roots(bus: Bus, passed: PassedOver | None) -> Sequence[Root]:
    # From 'admin', which is small and has every version. It also has roots not released yet, but nothing published verifies under those.
    state = AdminState()
    async for batch in scan(bus, topics.ADMIN, 0, passed=passed):
        for record in batch:
            state = fold(state, record)
    return [submitted.signed for submitted in state.roots]


def intact_root(content: bytes) -> Root | None:
    """Read a root that was found at an origin.

    Args:
        content: the file's bytes.

    Returns:
        The root, of any repository; None if its own keys have not signed it, for example because the file is damaged.
    """
    try:
        return roles.verified(Root, content, roles.root_keys(roles.parse(Root, content).signed, Root.type))
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
        found = intact_root(content)
        if found is None:
            continue  # damaged, so it can't show whose origin this is
        if found == ours.get(version):
            count += 1
        else:
            raise ForeignOriginError(
                f"the origin has {name}, which does not belong to this log, so another repository publishes there: "
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
            roles.root_keys(root, Timestamp.type).verify(Timestamp.type, file)
        except MetadataError:
            continue
        return common.version
    raise MetadataError("it is not signed by the timestamp keys of any root of this log")
