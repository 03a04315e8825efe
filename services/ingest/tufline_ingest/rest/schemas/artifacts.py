"""Artifacts: requests to add and remove them, bulk requests, and what is live."""

from datetime import datetime
from typing import Annotated, Any, Final

import msgspec

from tufline.records.events import ArtifactInfo, Path

_AT_LEAST_ONE: Final = msgspec.Meta(extra_json_schema={"minItems": 1})
_ONLY_TRUE: Final = msgspec.Meta(extra_json_schema={"enum": [True]})


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
