"""The forms of requests and answers. ``schemas/openapi.json`` is made from them.

Requests are lenient at the top, as RSTUF is, and strict in what goes into metadata. What an artifact says is taken as any JSON here, and
judged by ``tufline.metadata.target``, whose reasons are for people.
"""

from datetime import datetime
from typing import Annotated, Any, Final, Literal, TypeVar, cast

import msgspec

from tufline.decoding import decode_json
from tufline.metadata.bins import MAX_BINS, MIN_BINS
from tufline.metadata.profiles import Profile
from tufline.records.events import ArtifactInfo, Path
from tufline.runtime.turns import MAX_VALUES
from tufline.trust.rules import MAX_BYTES, MAX_EXPIRATION_DAYS
from tufline_ingest.errors import BadRequestError

T = TypeVar("T")

METADATA_JSON_FACTOR: Final = 2
"""How many times as long as the file that clients get may be what is sent: white space and escapes."""

MAX_METADATA_VALUES: Final = 100_000
"""The most commas in root or targets that are parsed; what follows takes 10 µs for each."""

NUMBERS_OF_BINS: Final = [2**bits for bits in range(MIN_BINS.bit_length() - 1, MAX_BINS.bit_length())]

# What the server judges with reasons for people is in the description too.
_AT_LEAST_ONE: Final = msgspec.Meta(extra_json_schema={"minItems": 1})
_ONLY_TRUE: Final = msgspec.Meta(extra_json_schema={"enum": [True]})
_OBJECT: Final = msgspec.Meta(extra_json_schema={"type": "object"})
_OBJECT_OR_NULL: Final = msgspec.Meta(extra_json_schema={"type": ["object", "null"]})


def _null() -> msgspec.Raw:
    return msgspec.Raw(b"null")


class Artifact(msgspec.Struct, frozen=True, gc=False):
    """An artifact to add.

    Attributes:
        path: the target path.
        info: what is to be said of it.
    """

    path: Path
    info: ArtifactInfo


class AddRequest(msgspec.Struct, frozen=True):
    """POST /api/v1/artifacts/.

    Attributes:
        artifacts: at least one.
        add_task_id_to_custom: not supported yet.
        publish_artifacts: only true is supported yet.
    """

    artifacts: Annotated[list[Artifact], _AT_LEAST_ONE]
    add_task_id_to_custom: Annotated[bool, msgspec.Meta(extra_json_schema={"enum": [False]})] = False
    publish_artifacts: Annotated[bool, _ONLY_TRUE] = True


class AddEnvelope(msgspec.Struct, frozen=True):
    """An ``AddRequest`` of which no artifact is parsed yet: of a large one that is done in turns.

    Attributes:
        artifacts: each an ``Artifact``, as JSON.
        add_task_id_to_custom: as there.
        publish_artifacts: as there.
    """

    artifacts: list[msgspec.Raw]
    add_task_id_to_custom: bool = False
    publish_artifacts: bool = True


class RemoveRequest(msgspec.Struct, frozen=True):
    """POST /api/v1/artifacts/delete.

    Attributes:
        artifacts: target paths, at least one.
        publish_artifacts: only true is supported yet.
    """

    artifacts: Annotated[list[Path], _AT_LEAST_ONE]
    publish_artifacts: Annotated[bool, _ONLY_TRUE] = True


class RoleSettings(msgspec.Struct, frozen=True):
    """Settings of a role.

    Attributes:
        expiration: days.
    """

    expiration: Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 1, "maximum": MAX_EXPIRATION_DAYS})]


class BinsSettings(RoleSettings, frozen=True):
    """Settings of the bins.

    Attributes:
        number_of_delegated_bins: a power of two, 2 to 16,384.
    """

    number_of_delegated_bins: Annotated[int, msgspec.Meta(extra_json_schema={"enum": NUMBERS_OF_BINS})]


class RolesSettings(msgspec.Struct, frozen=True):
    """Settings of all roles.

    Attributes:
        root: of root.
        targets: of targets.
        snapshot: of snapshot.
        timestamp: of timestamp.
        bins: of the bins.
        delegations: custom delegations in place of bins: not supported yet.
    """

    root: RoleSettings
    targets: RoleSettings
    snapshot: RoleSettings
    timestamp: RoleSettings
    bins: BinsSettings | None = None
    delegations: Annotated[dict[str, Any] | None, msgspec.Meta(extra_json_schema={"type": "null"})] = None


class BootstrapSettings(msgspec.Struct, frozen=True):
    """The settings of a bootstrap.

    Attributes:
        roles: of each role.
        client_profile: the clients that must be able to read the repository; without, ``rstuf`` if a key carries a field of RSTUF's, else
            ``standard``.
    """

    roles: RolesSettings
    client_profile: Profile | None = None


class BootstrapMetadata(msgspec.Struct, frozen=True):
    """The metadata of a bootstrap.

    Attributes:
        root: signed by its threshold.
        targets: signed by its threshold, when targets are offline (PEP 458).
    """

    root: Annotated[msgspec.Raw, _OBJECT]
    targets: Annotated[msgspec.Raw, _OBJECT_OR_NULL] = msgspec.field(default_factory=_null)


class BootstrapRequest(msgspec.Struct, frozen=True):
    """POST /api/v1/bootstrap/.

    Attributes:
        settings: of each role.
        metadata: root, and targets when they are offline.
        timeout: RSTUF's; no meaning here.
        replace: it comes in place of an earlier one, of which nothing is published yet.
    """

    settings: BootstrapSettings
    metadata: BootstrapMetadata
    timeout: int | None = 300
    replace: bool = False


class NewMetadata(msgspec.Struct, frozen=True):
    """New versions of roles that people sign.

    Attributes:
        root: signed by its threshold, and by that of the root before.
        targets: signed by its threshold, where targets are offline (PEP 458).
    """

    root: Annotated[msgspec.Raw, _OBJECT_OR_NULL] = msgspec.field(default_factory=_null)
    targets: Annotated[msgspec.Raw, _OBJECT_OR_NULL] = msgspec.field(default_factory=_null)


class MetadataRequest(msgspec.Struct, frozen=True):
    """POST /api/v1/metadata/.

    Attributes:
        metadata: what is given.
        skip_overlap: the online keys before these are lost: nothing waits until it is signed by both. Clients may fail for a moment.
    """

    metadata: NewMetadata
    skip_overlap: bool = False


class Submitted(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an accepted request is answered with.

    Attributes:
        task_id: for GET /api/v1/task/.
        last_update: when it was accepted.
        artifacts: the paths.
    """

    task_id: str
    last_update: datetime
    artifacts: list[str] | None = None


class SubmittedAnswer(msgspec.Struct, frozen=True):
    """202: the log has it.

    Attributes:
        data: the task.
        message: for people.
    """

    data: Submitted
    message: str


class RefusedLine(msgspec.Struct, frozen=True):
    """A line of a bulk request that was not accepted.

    Attributes:
        line: its number, from 1.
        reason: for people.
    """

    line: int
    reason: str


class BulkResult(msgspec.Struct, frozen=True):
    """What became of a bulk request.

    Attributes:
        task_id: for GET /api/v1/task/; None if no line was accepted.
        last_update: when the last line was accepted.
        accepted: how many lines.
        refused: how many lines.
        refused_lines: the first of them.
    """

    task_id: str | None
    last_update: datetime
    accepted: int
    refused: int
    refused_lines: list[RefusedLine]


class BulkAnswer(msgspec.Struct, frozen=True):
    """202: the log has the accepted lines.

    Attributes:
        data: what became of the lines.
        message: for people.
    """

    data: BulkResult
    message: str


class RefusedArtifact(msgspec.Struct, frozen=True):
    """A change of a bulk request that was accepted, and refused later.

    Attributes:
        path: the target path; empty if the record with it is no longer kept, or if it is unknown whether and which changes were refused.
        reason: for people.
    """

    path: str
    reason: str


class TaskResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of a task.

    Attributes:
        message: for people.
        status: whether it succeeded.
        task: RSTUF's name of what was asked for.
        last_update: when it was accepted.
        details: depends on the task. Where it can't be read any more what became of some artifacts, ``unknown_artifacts`` has their paths,
            and the task is ERRORED. Of a bulk task: ``refused``, how many changes were refused, on this page and those before;
            ``refused_artifacts``, those of this page, with ``path`` and ``reason``; and ``after``, where there is another page: the
            parameter ``after`` for it.
        error: why it failed; left out if it did not.
    """

    message: str
    status: bool
    task: str
    last_update: datetime
    details: dict[str, Any]
    error: str | None = None


class TaskData(msgspec.Struct, frozen=True, omit_defaults=True):
    """A task.

    Attributes:
        task_id: its id.
        state: RSTUF's: PENDING if this repository does not know the task, or not any more; RUNNING until it is finished; then SUCCESS or
            ERRORED.
        result: once it is finished; left out before.
    """

    task_id: str
    state: Literal["PENDING", "RUNNING", "SUCCESS", "ERRORED"]
    result: TaskResult | None = None


class TaskAnswer(msgspec.Struct, frozen=True):
    """200: the state of a task.

    Attributes:
        data: the task.
        message: for people.
    """

    data: TaskData
    message: str = "Task state."


class BootstrapState(msgspec.Struct, frozen=True):
    """The state of the bootstrap.

    Attributes:
        bootstrap: whether there is a repository.
        state: None before, ``pre`` until its first metadata are published, then ``finished``.
        id: task id of the bootstrap.
    """

    bootstrap: bool
    state: Literal["pre", "signing", "finished"] | None
    id: str | None


class BootstrapAnswer(msgspec.Struct, frozen=True):
    """200: whether there is a repository.

    Attributes:
        data: the state.
        message: for people.
    """

    data: BootstrapState
    message: str


class LiveArtifact(msgspec.Struct, frozen=True, omit_defaults=True):
    """200: what the published metadata say of an artifact.

    Attributes:
        path: the target path.
        length: in bytes.
        hashes: algorithm to hexadecimal digest.
        role: the bin that it is in.
        role_version: of the bin.
        snapshot_version: of the published snapshot.
        custom: the repository's own.
    """

    path: str
    length: int
    hashes: dict[str, str]
    role: str
    role_version: int
    snapshot_version: int
    custom: dict[str, Any] | None = None


class TrustedRole(msgspec.Struct, frozen=True):
    """A role that people sign.

    Attributes:
        current: the version that the newest commit has.
        pending: the newest version that was submitted, the current one if none is newer; None where the signer makes the role.
        metadata: of that version.
    """

    current: int
    pending: int | None
    metadata: dict[str, Any] | None


class TrustAnswer(msgspec.Struct, frozen=True):
    """200: whom clients trust now and soon, and who signs.

    Attributes:
        root: the root.
        targets: the top-level targets.
        keyids: role to the keys that signed its newest version.
        bins: keyid to how many bins' newest version it signed.
        number_of_bins: how many there are.
    """

    root: TrustedRole
    targets: TrustedRole
    keyids: dict[str, list[str]]
    bins: dict[str, int]
    number_of_bins: int


class StatusAnswer(msgspec.Struct, frozen=True):
    """200: what is live, and what is not yet.

    Attributes:
        version: of Tufline.
        log: id of the log.
        bootstrap: its state, as in GET /api/v1/bootstrap/.
        number_of_bins: None before the bootstrap.
        timestamp: version that the origin shows; 0 before the first.
        snapshot: version that the origin shows; 0 before the first.
        backlog: accepted records of artifacts that are not live yet; about, where there are many.
        waiting_seconds: for how long the oldest of them has waited; 0 if there is none.
        expires: role to when its newest version expires; of the bins the first one to expire.
        problems: part of this process to what is wrong with it; on Kafka signer and publisher have a /readyz of their own. And
            ``expiry.<role>`` for root and offline targets that expire soon.
        warnings: the parts of ``problems`` that do not keep this process from being ready.
    """

    version: str
    log: str
    bootstrap: str | None
    number_of_bins: int | None
    timestamp: int
    snapshot: int
    backlog: int
    waiting_seconds: int
    expires: dict[str, str]
    problems: dict[str, str]
    warnings: list[str]


class ErrorAnswer(msgspec.Struct, frozen=True):
    """4xx, 5xx: why not.

    Attributes:
        detail: a sentence, or an object with one.
    """

    detail: Any


def decode(kind: type[T], body: bytes | msgspec.Raw, what: str = "the request") -> T:
    """Read a request, or a part of it.

    Args:
        kind: its form.
        body: as sent, decoded.
        what: what it is, for the message.

    Returns:
        The request.

    Raises:
        BadRequestError: with what is wrong, and where.
    """
    if bytes(body).count(b",") > MAX_VALUES:
        raise BadRequestError(f"{what} has more than {MAX_VALUES} values: send it in parts, or as lines to /api/v1/artifacts/bulk")
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    return cast("T", decode_json(decoder, body, what, BadRequestError))


def read_metadata(role: str, content: msgspec.Raw) -> dict[str, Any] | None:
    """Read root or targets of a request. Their size is judged before anything of them is parsed.

    Args:
        role: ``root`` or ``targets``.
        content: JSON.

    Returns:
        The object; None for null.

    Raises:
        BadRequestError: if it is too large, or no object.
    """
    raw, most_bytes = bytes(content), METADATA_JSON_FACTOR * MAX_BYTES[role]
    if len(raw) > most_bytes:
        raise BadRequestError(f"metadata.{role} is {len(raw)} bytes of JSON; at most {most_bytes} are read")
    if raw.count(b",") > MAX_METADATA_VALUES:
        raise BadRequestError(f"metadata.{role} has more than {MAX_METADATA_VALUES} values")
    found: dict[str, Any] | None = decode_json(_metadata_decoder, raw, f"metadata.{role}", BadRequestError)
    return found


_metadata_decoder: Final = msgspec.json.Decoder(dict[str, Any] | None)

# One for each kind of request, made once.
_decoders: Final[dict[type, msgspec.json.Decoder[Any]]] = {}
