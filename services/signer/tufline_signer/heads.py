"""Takes over a partition of ``heads``, and reads its state.

A head that can't be decoded (anyone with write access can write anything) is rebuilt from the newest file of its role in ``metadata``, and
appended. Otherwise a writer would believe that the role does not exist, and start it again at version 1.

A record whose bytes are damaged does not even tell its role. It stops the takeover: the contents of a lost head (``applied``) and of a lost
progress (the index of receipts) are nowhere else, and ``metadata`` may be visible only up to an older version.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import structlog

from tufline import records
from tufline.bus import Bus, Message, Record, Writer
from tufline.bus.scan import last_record
from tufline.errors import MetadataError, RecordUnreadableError
from tufline.metadata import envelope
from tufline.records import Committed, Head, Held, Pending, Progress, Proposed, is_role_key, slot_of_key, topics
from tufline.records.heads import PROPOSED_PREFIX
from tufline.records.metadata import role_of_key
from tufline.runtime import takeover
from tufline.runtime.passed_over import PassedOver
from tufline_signer.errors import DamagedHeadsError

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class OwnedHeads:
    """A partition of ``heads`` that this process has taken over.

    Attributes:
        writer: the only writer that the fence lets through.
        partition: the partition's number.
        heads: role to its newest head.
        claimed_at: when the bus accepted the claim, in milliseconds since 1970.
        held: the number of each slot for a held change to its newest record.
        pending: the same for pending changes.
        proposed: role to its next version, for the custom roles that people sign.
        progress: the newest progress of this partition's writer; None if there is none yet.
        passed: collects the records that can't be decoded.
        unreadable: key to the last record that can't be decoded, if no valid one has followed it.
    """

    writer: Writer
    partition: int
    claimed_at: int
    passed: PassedOver
    heads: dict[str, Head] = field(default_factory=dict)
    held: dict[int, Held] = field(default_factory=dict)
    pending: dict[int, Pending] = field(default_factory=dict)
    proposed: dict[str, Proposed] = field(default_factory=dict)
    progress: Progress | Committed | None = None
    unreadable: dict[str, Record] = field(default_factory=dict)

    def take(self, record: Record) -> None:
        """Apply the next record of the partition.

        Args:
            record: a record of ``heads``.
        """
        match self.passed.decode(records.heads_decoder, record):
            case None:
                self.unreadable[record.key] = record
            case Head() as head:
                self.heads[record.key] = head
                self.unreadable.pop(record.key, None)
            case Held() as held if (slot := slot_of_key(record.key)) is not None:
                self.held[slot] = held
            case Pending() as pending if (slot := slot_of_key(record.key)) is not None:
                self.pending[slot] = pending
            case Proposed() as proposed:
                self.proposed[record.key.removeprefix(PROPOSED_PREFIX)] = proposed
            case Progress() | Committed() as progress:
                self.progress = progress
            case _:
                pass


@asynccontextmanager
async def take_over(bus: Bus, writer_id: str, partition: int, passed: PassedOver) -> AsyncIterator[OwnedHeads]:
    """Become the only writer of a partition of ``heads``, and read back its state. After the block the writer is released.

    Args:
        bus: the log, to read and write.
        writer_id: identifies this partition's writer; a later one with the same id fences it.
        partition: partition of ``heads``.
        passed: collects the records that can't be decoded.

    Yields:
        The partition with its state.

    Raises:
        FencedError: if another writer took it over meanwhile.
        DamagedHeadsError: if a record that may name the newest version of a role can't be read.
        BusError: if the bus does not answer.
    """
    async with takeover.take_over(bus, writer_id, topics.HEADS, partition) as taken:
        owned = OwnedHeads(taken.writer, partition, taken.claim.time, passed)
        try:
            try:
                await takeover.read_up_to(bus, taken.claim, owned.take)
                await _make_again(bus, owned)
            except RecordUnreadableError as error:
                raise DamagedHeadsError(partition, error) from error
            yield owned
        finally:
            passed.forget()


async def _make_again(bus: Bus, owned: OwnedHeads) -> None:
    for role, record in [*owned.unreadable.items()]:
        is_of_role = is_role_key(role)
        head = await _newest_on_log(bus, role, owned.heads.get(role)) if is_of_role else None
        if head is None:
            continue
        await owned.writer.commit([Message(topics.HEADS, role, records.encode(head), owned.partition)])
        owned.heads[role] = head
        del owned.unreadable[role]
        owned.passed.good(record)
        _log.warning("heads.made_again", role=role, version=head.version, partition=owned.partition)


async def _newest_on_log(bus: Bus, role: str, known: Head | None) -> Head | None:
    """Build the head of a role from its newest file.

    Args:
        bus: the log, to read ``metadata``.
        role: the role's name.
        known: the newest head that can be decoded.

    Returns:
        The head; None if the log has no file of the role. It takes ``applied`` from ``known``, so changes that the file already contains
        may be applied once more, in their order.
    """
    found: Head | None = None

    def take(record: Record) -> bool:
        nonlocal found
        if role_of_key(record.key) != role:
            return False
        try:
            file = envelope.disassemble(record.value)
            common = envelope.read_common(file.signed)
        except MetadataError:
            return False
        if known is not None and common.version < known.version:
            return False
        found = Head(
            version=common.version,
            sha256=envelope.sha256(record.value),
            length=len(record.value),
            expires=common.expires,
            offset=record.offset,
            keyids=[entry.keyid for entry in file.signatures],
            applied=0 if known is None else known.applied,
        )
        return True

    await last_record(bus, topics.METADATA, 0, take)
    return found
