"""Every decoder of foreign bytes, with its documented errors and examples of valid input.

The property tests (tests/unit/test_decoders.py) and the coverage-guided fuzzer (testing/tufline_testing/fuzz/decoders.py) drive each of
them by this list.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Final

import msgspec
from aiokafka import TopicPartition
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from tuf.api.metadata import Root, Targets

from tufline import records
from tufline.audit.records import Anchor, AuditBegin, Requester, seal, unseal
from tufline.bus import Record
from tufline.bus.kafka.record_batches import DamagedError, Fetched, read_committed, read_uncommitted
from tufline.checks import fsck
from tufline.clock import milliseconds_of, utc_now
from tufline.errors import (
    InvalidCursorError,
    InvalidEventError,
    InvalidInputError,
    InvalidTargetError,
    MetadataError,
    RecordError,
    SchemaError,
)
from tufline.metadata import bins, canonical, envelope, snapshot, target
from tufline.records import (
    Add,
    Bootstrap,
    Changes,
    Claim,
    Committed,
    FileRef,
    Head,
    Held,
    InboxProgress,
    NewLifetimes,
    NewMetadata,
    Part,
    Pending,
    Progress,
    Proposed,
    Published,
    Remove,
    Renewal,
    RoleSignature,
    Settings,
    Vector,
    cursor,
    events,
    rejected,
    topics,
)
from tufline.records.cursor import Cursor, Task
from tufline.records.receipts import ChangeReceipt, EventReceipt, PublishReceipt, receipt_decoder
from tufline.trust import admin_records, ceremony, roles
from tufline.trust.admin_state import AdminState
from tufline_ingest.errors import BadRequestError
from tufline_ingest.rest import bulk
from tufline_ingest.rest.request_json import decode
from tufline_ingest.rest.schemas.artifacts import AddRequest, RemoveRequest
from tufline_ingest.rest.schemas.trust import BootstrapRequest, MetadataRequest
from tufline_testing.log import DEFAULT_DAYS, settings_of

LOG_ID: Final = "0123456789abcdef"
ALLOWED: Final = target.DEFAULT_RULES


@dataclass(frozen=True, slots=True)
class Target:
    """A decoder.

    Attributes:
        read: the function that decodes bytes.
        errors: the errors that it may raise; any other one is a fault.
        examples: valid inputs.
    """

    read: Callable[[bytes], Any]
    errors: tuple[type[Exception], ...]
    examples: tuple[bytes, ...]


def _record(value: bytes, headers: Mapping[str, str] | None = None, time: int = 1_900_000_000_000) -> Record:
    return Record(topics.ADMIN, 0, 0, time, "key", value, headers or {})


def _text(content: bytes) -> str:
    # The way the bus reads text that is not UTF-8.
    return content.decode(errors="surrogateescape")


def _read_binary_event(content: bytes) -> events.Event:
    attributes, _, value = content.partition(b"\n")
    texts = _text(attributes).split("\t")
    return events.read(value, {f"ce_{name}": text for name, text in zip(events.REQUIRED, texts, strict=False)})


def _fold(content: bytes) -> AdminState:
    return admin_records.fold(AdminState(), _record(content))


@cache
def _repository() -> AdminState:
    held = ceremony.hold(ceremony.Plan(4, ceremony.RSTUF, "ed25519", days=DEFAULT_DAYS, online={}))
    metadata: Any = held.payload["metadata"]
    settings = settings_of(4, 2, DEFAULT_DAYS)
    now = milliseconds_of(utc_now())
    state = admin_records.fold(
        AdminState(), _record(_json(Bootstrap(v=settings.schema, settings=settings, root=metadata["root"])), time=now)
    )
    assert state.bootstrapped is not None, state.refused
    return state


def _fold_into_a_repository(content: bytes) -> AdminState:
    return admin_records.fold(_repository(), _record(content))


def _fold_at_any_time(content: bytes) -> AdminState:
    time = int.from_bytes(content[:8], "big", signed=True)
    return admin_records.fold(AdminState(), _record(content[8:], time=time))


def _parse_rejected(content: bytes) -> rejected.Rejected:
    lines = _text(content).split("\n")
    return rejected.parse(_record(b"", dict(zip(lines[::2], lines[1::2], strict=False))))


def _check_canonical(content: bytes) -> None:
    canonical.check(msgspec.json.decode(content), "it")


def _read_uncommitted(content: bytes) -> None:
    read_uncommitted(Fetched(content, (), 1), 0)


def _read_committed(content: bytes) -> None:
    read_committed(Fetched(content, ((1, 0),), 1), TopicPartition("t", 0), 0)


def _fit(content: bytes) -> bytes:
    # With a correct length and checksum, so that the fields after them are read too.
    rest = content[21:]
    length = len(content) - 12
    return content[:8] + length.to_bytes(4, "big") + content[12:17] + calc_crc32c(rest).to_bytes(4, "big") + rest if rest else content


def _batch(codec: int = 0, *, transactional: bool = False) -> bytes:
    builder = DefaultRecordBatchBuilder(2, codec, int(transactional), 1 if transactional else -1, 0 if transactional else -1, 0, 10_000)
    for offset in range(2):
        builder.append(offset, 1_900_000_000_000, b"key", b"value" * 20, [("name", b"header")])
    return bytes(builder.build())


def _file(signed: bytes) -> bytes:
    return envelope.assemble(signed, [envelope.SignatureEntry("00", "ab")])


_SETTINGS = Settings(16, "bins", 3, {"root": 1})
_HASHES = {"sha256": "ab" * 32}
_INFO: Any = {"length": 1, "hashes": _HASHES, "custom": {"a": [1, {"b": "c"}]}}
_CHANGES = [{"path": "a", "info": _INFO}, {"path": "b", "op": "remove"}]
_SNAPSHOT = snapshot.Snapshot({"bins-0": 1, "targets": 2}).encode(1, "2030-01-01T00:00:00Z")
_TIMESTAMP = snapshot.encode_timestamp(1, "2030-01-01T00:00:00Z", 1, b"")
_FILLED = bins.Bin()
_FILLED.add(target.encode_entry(target.Target("a", 1, _HASHES, {"b": 1})))
_BIN = _FILLED.encode(1, "2030-01-01T00:00:00Z")
_ROOT: dict[str, Any] = {
    "signatures": [{"keyid": "00", "sig": "ab"}],
    "signed": {
        "_type": "root",
        "version": 1,
        "spec_version": "1.0.31",
        "expires": "2030-01-01T00:00:00Z",
        "consistent_snapshot": True,
        "keys": {"00": {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": "ab" * 32}}},
        "roles": {role: {"keyids": ["00"], "threshold": 1} for role in ("root", "targets", "snapshot", "timestamp")},
    },
}
_TARGETS: dict[str, Any] = {
    "signatures": [{"keyid": "00", "sig": "ab"}],
    "signed": {
        "_type": "targets",
        "version": 1,
        "spec_version": "1.0.31",
        "expires": "2030-01-01T00:00:00Z",
        "targets": {"a": {"length": 1, "hashes": _HASHES}},
        "delegations": {
            "keys": {},
            "succinct_roles": {"keyids": ["00"], "threshold": 1, "bit_length": 4, "name_prefix": "bins"},
        },
    },
}
_EVENT: dict[str, Any] = {"specversion": "1.0", "id": "i", "source": "s", "type": events.TYPE, "data": {"changes": _CHANGES}}
_DAYS: Any = {"expiration": 1}
_BOOTSTRAP: dict[str, Any] = {
    "settings": {
        "roles": {
            **dict.fromkeys(("root", "targets", "snapshot", "timestamp"), _DAYS),
            "bins": {"expiration": 1, "number_of_delegated_bins": 16},
        }
    },
    "metadata": {"root": _ROOT, "targets": _TARGETS},
}
_FILE = FileRef(1, 2, "00")
_BEGIN = AuditBegin(chain="c", number=0, previous="00", time="t", requester=Requester("h", 1, "signer"), after=Anchor("c", 1, "00"))
_BATCHES = (_batch(), _batch(1), _batch(2), _batch(3), _batch(4), _batch(transactional=True))
_json = msgspec.json.encode


def _of_records(decoder: "msgspec.json.Decoder[Any]", *examples: Any) -> Target:
    return Target(partial(records.decode, decoder), (RecordError,), tuple(map(_json, examples)))


_IN_METADATA = (MetadataError,)
_IN_REQUESTS = (BadRequestError,)

TARGETS: Final[Mapping[str, Target]] = {
    "file": Target(envelope.disassemble, _IN_METADATA, (_file(_SNAPSHOT), _file(_BIN))),
    "signed": Target(envelope.read_common, _IN_METADATA, (_SNAPSHOT,)),
    "expires": Target(lambda content: envelope.parse_expires(_text(content)), _IN_METADATA, (b"2030-01-01T00:00:00Z",)),
    "snapshot": Target(snapshot.read_snapshot, _IN_METADATA, (_SNAPSHOT,)),
    "bin": Target(bins.Bin.decode, _IN_METADATA, (_BIN,)),
    "target in a bin": Target(lambda content: bins.find_target(content, "a"), _IN_METADATA, (_BIN,)),
    "timestamp": Target(snapshot.read_timestamp, _IN_METADATA, (_TIMESTAMP,)),
    "timestamp of an origin": Target(fsck._snapshot_of, (), (_file(_TIMESTAMP),)),
    "root": Target(partial(roles.parse, Root), _IN_METADATA, (_json(_ROOT),)),
    "targets": Target(partial(roles.parse, Targets), _IN_METADATA, (_json(_TARGETS),)),
    "artifacts": _of_records(
        records.changes_decoder,
        Changes(request="r", admin=1, changes=[Add("a", 1, _HASHES, {"x": [1]}), Remove("b")]),
        Changes(request="r", admin=1, changes=[Remove("b")], parts=(Part(0, 1, 1), Part(2, 0, 3))),
        Changes(v=7, request="r", admin=1, changes=[], sign=RoleSignature("r", 2, "00", "k", "00")),
    ),
    "heads": _of_records(
        records.heads_decoder,
        Head(version=1, sha256="00", length=1, expires="2030-01-01T00:00:00Z", offset=2, keyids=["k"]),
        Progress(offset=1),
        Held(path="a", entry='"a":{}', offset=1),
        Pending(role="r", path="a", entry='"a":{}', offset=1),
        Proposed(version=2, expires="2030-01-01T00:00:00Z", sha256="00", base=1, end=3, seen=3, signatures={"k": "00"}),
        Committed(vector=Vector([1, 2], 3)),
        Claim(writer="w"),
    ),
    "published": _of_records(
        records.published_decoder, Published(origin="o", timestamp=_FILE, snapshot=_FILE, vector=Vector([1], 1), next_offset=3)
    ),
    "inbox-progress": _of_records(records.inbox_decoder, InboxProgress(number=1, offset=2, accepted={"00": "t"})),
    "admin": _of_records(
        records.admin_decoder,
        Bootstrap(settings=_SETTINGS, root=_ROOT, targets=_TARGETS),
        NewMetadata(role="root", metadata=_ROOT),
        NewLifetimes(days={"bins": 3}),
        Renewal(roles=["bins"], since=1),
    ),
    "vector": _of_records(records.vector_decoder, Vector([1, 2], 3)),
    "receipts": _of_records(
        receipt_decoder,
        ChangeReceipt(offset=1, index=0, path="a", outcome="refused", reason="full"),
        EventReceipt(partition=1, offset=2, source="s", id="i", outcome="accepted", task="t"),
        PublishReceipt(publish=1, roles=("bins-0",)),
    ),
    "audit": Target(unseal, (RecordError,), (seal(_BEGIN)[0],)),
    "admin, folded": Target(
        _fold,
        (SchemaError,),
        (_json(Bootstrap(settings=_SETTINGS, root=_ROOT, targets=_TARGETS)), _json(NewMetadata(role="root", metadata=_ROOT))),
    ),
    "admin, folded into a repository": Target(
        _fold_into_a_repository, (SchemaError,), (_json(NewLifetimes(days={"bins": 3})), _json(Renewal(roles=["bins"], since=1)))
    ),
    "admin, at any time": Target(
        _fold_at_any_time, (SchemaError,), (b"\x40" + bytes(7) + _json(Bootstrap(settings=_SETTINGS, root=_ROOT)),)
    ),
    "rejected": Target(_parse_rejected, (RecordError,), (b"tufline-reason\nbad\ntufline-partition\n1\ntufline-offset\n2",)),
    "task id": Target(
        lambda content: cursor.decode(_text(content), LOG_ID),
        (InvalidCursorError,),
        tuple(cursor.encode(Cursor(1, task, LOG_ID, 1, {0: [0, 2], 1: [5]})).encode() for task in Task),
    ),
    "event": Target(lambda content: events.read(content, {}), (InvalidEventError,), (_json(_EVENT),)),
    "binary event": Target(_read_binary_event, (InvalidEventError,), (f"1.0\ti\ts\t{events.TYPE}\n".encode() + _json(_EVENT["data"]),)),
    "add request": Target(partial(decode, AddRequest), _IN_REQUESTS, (_json({"artifacts": [{"path": "a", "info": _INFO}]}),)),
    "remove request": Target(partial(decode, RemoveRequest), _IN_REQUESTS, (_json({"artifacts": ["a"]}),)),
    "bootstrap request": Target(partial(decode, BootstrapRequest), _IN_REQUESTS, (_json(_BOOTSTRAP),)),
    "metadata request": Target(
        partial(decode, MetadataRequest), _IN_REQUESTS, (_json({"metadata": {"root": _ROOT, "targets": _TARGETS}}),)
    ),
    "bulk line": Target(
        lambda content: bulk.read_line(content, ALLOWED), (BadRequestError, InvalidTargetError), tuple(map(_json, _CHANGES))
    ),
    "kafka, uncommitted": Target(_read_uncommitted, (DamagedError,), _BATCHES),
    "kafka, uncommitted, right checksum": Target(lambda content: _read_uncommitted(_fit(content)), (DamagedError,), _BATCHES),
    "kafka, committed": Target(_read_committed, (DamagedError,), _BATCHES),
    "kafka, committed, right checksum": Target(lambda content: _read_committed(_fit(content)), (DamagedError,), _BATCHES),
    "canonical": Target(_check_canonical, (InvalidInputError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError), (_json(_INFO),)),
}
"""Name to decoder."""
