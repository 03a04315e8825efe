"""Artifacts: requests to add and remove them, bulk requests, and what is live."""

from datetime import datetime
from typing import Any

import msgspec

from tufline.records.events import ArtifactInfo, Path


class Artifact(msgspec.Struct, frozen=True, gc=False):
    """An artifact to add.

    Attributes:
        path: the target path.
        info: length, hashes and custom of the artifact, as the metadata will list them.
    """

    path: Path
    info: ArtifactInfo


class AddRequest(msgspec.Struct, frozen=True):
    """A request to add artifacts.

    Attributes:
        artifacts: the artifacts to add or to replace; if there are none, the task is done at once.
        add_task_id_to_custom: whether ``custom`` of each artifact gets the task id, in the field ``added_by_task_id``.
        publish_artifacts: whether to publish them; if not, they are held until POST /api/v1/artifacts/publish.
    """

    artifacts: list[Artifact]
    add_task_id_to_custom: bool = False
    publish_artifacts: bool = True


class AddEnvelope(msgspec.Struct, frozen=True):
    """An ``AddRequest`` whose artifacts are not parsed yet: those of a large request are parsed in turns.

    Attributes:
        artifacts: the artifacts, each an ``Artifact`` as JSON.
        add_task_id_to_custom: as there.
        publish_artifacts: as there.
    """

    artifacts: list[msgspec.Raw]
    add_task_id_to_custom: bool = False
    publish_artifacts: bool = True


class RemoveRequest(msgspec.Struct, frozen=True):
    """A request to remove artifacts.

    Attributes:
        artifacts: the target paths to remove; if there are none, the task is done at once.
        publish_artifacts: whether to publish the removal; if not, it is held until POST /api/v1/artifacts/publish.
    """

    artifacts: list[Path]
    publish_artifacts: bool = True


class RefusedLine(msgspec.Struct, frozen=True):
    """A line of a bulk request that was not accepted.

    Attributes:
        line: which line it is, from 1.
        reason: why it was refused, for people.
    """

    line: int
    reason: str


class BulkResult(msgspec.Struct, frozen=True):
    """The result of a bulk request.

    Attributes:
        task_id: the id to ask GET /api/v1/task/ with; null if no line was accepted.
        last_update: when the last line was accepted.
        accepted: how many lines are on the log.
        refused: how many lines were not accepted.
        refused_lines: the first of the refused lines.
    """

    task_id: str | None
    last_update: datetime
    accepted: int
    refused: int
    refused_lines: list[RefusedLine]


class BulkAnswer(msgspec.Struct, frozen=True):
    """The answer to a bulk request whose accepted lines are on the log.

    Attributes:
        data: the result of the lines.
        message: one sentence for people.
    """

    data: BulkResult
    message: str


class LiveArtifact(msgspec.Struct, frozen=True, omit_defaults=True):
    """An artifact in the published metadata.

    Attributes:
        path: the target path.
        length: the size of the artifact, in bytes.
        hashes: name of each algorithm to the hexadecimal digest.
        role: the name of the custom role or the bin that it is in.
        role_version: which version of the custom role or the bin is published.
        snapshot_version: the version of the published snapshot.
        custom: the object that the repository added; left out if there is none.
    """

    path: str
    length: int
    hashes: dict[str, str]
    role: str
    role_version: int
    snapshot_version: int
    custom: dict[str, Any] | None = None
