"""Examples of requests and answers, for the OpenAPI document: one small repository, from its bootstrap to a published artifact.

Answers are values of the types that write them. Signed metadata is shortened: a whole root would fill an example with keys.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

from tufline.records import cursor
from tufline.records.cursor import Cursor, Task
from tufline.runtime.operations import Readiness
from tufline_ingest.errors import (
    BadRequestError,
    BootstrappedError,
    BrokenRequestError,
    IngestError,
    NotBootstrappedError,
    NothingToSignError,
    NotLiveError,
    NotNowError,
    TooLargeError,
    TooManyPendingError,
    UnsupportedEncodingError,
)
from tufline_ingest.rest.schemas.answers import Submitted, SubmittedAnswer
from tufline_ingest.rest.schemas.artifacts import BulkAnswer, BulkResult, LiveArtifact, RefusedLine
from tufline_ingest.rest.schemas.delegations import CurrentDelegations, CurrentRole, DelegationsAnswer
from tufline_ingest.rest.schemas.publishing import FreezeAnswer, FreezeState
from tufline_ingest.rest.schemas.repository_settings import CurrentSettings, CustomRoleSettings, SettingsAnswer
from tufline_ingest.rest.schemas.signatures import MissingSignatures, ProposedAnswer, ProposedVersions
from tufline_ingest.rest.schemas.status import StatusAnswer
from tufline_ingest.rest.schemas.tasks import TaskAnswer, TaskData, TaskResult
from tufline_ingest.rest.schemas.trust import BootstrapAnswer, BootstrapState, TrustAnswer, TrustedRole

PATH: Final = "demo/demo-1.0.tar.gz"

_LOG: Final = "5f0c6ad3b1e94c27"
_NOW: Final = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
_SHA256: Final = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_KEYID: Final = "c1e0f5d2a86b47339b5a1f0de7c4826f90a7b3d5e6f8012c4d9a3b7e5f60c18d"
_OTHER_KEYID: Final = "4be7a90c3d15f2688e0b71c9a6d4f35270c8e1b9d2a7f6034e5b8c1d9f0a2e63"
_OTHER_KEY: Final = {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": _SHA256}}


def _task(task: Task, partition: int, offset: int) -> str:
    return cursor.encode(Cursor(cursor.FORMAT, task, _LOG, int(_NOW.timestamp()), {partition: [offset]}))


def _signed(role: str, version: int, **fields: Any) -> dict[str, Any]:
    signed = {"_type": role, "spec_version": "1.0.31", "version": version, "expires": "2027-03-01T12:00:00Z", **fields}
    return {"signatures": [{"keyid": _KEYID, "sig": "30450221..."}], "signed": signed}


TASK_ID: Final = _task(Task.ADD, 3, 41)
AFTER: Final = "kwMpzQPo"

ADD: Final = {"artifacts": [{"path": PATH, "info": {"length": 4096, "hashes": {"sha256": _SHA256}, "custom": {"channel": "stable"}}}]}
ADDED: Final = SubmittedAnswer(Submitted(TASK_ID, _NOW, [PATH]), "New Artifact(s) successfully submitted.")

REMOVE: Final = {"artifacts": [PATH]}
REMOVED: Final = SubmittedAnswer(Submitted(_task(Task.REMOVE, 3, 42), _NOW, [PATH]), "Remove Artifact(s) successfully submitted.")

PUBLISHED: Final = SubmittedAnswer(Submitted(_task(Task.PUBLISH, 0, 5), _NOW), "Publish artifacts successfully submitted.")
FROZEN: Final = FreezeAnswer(FreezeState(_NOW), "Changes of artifacts wait until they are thawed.")
THAWED: Final = FreezeAnswer(FreezeState(None), "Changes of artifacts are applied.")

LINES: Final = (
    f'{{"path": "{PATH}", "info": {{"length": 4096, "hashes": {{"sha256": "{_SHA256}"}}}}}}\n'
    '{"path": "demo/demo-0.9.tar.gz", "op": "remove"}\n'
)
IMPORTED: Final = BulkAnswer(
    BulkResult(_task(Task.BULK, 3, 43), _NOW, 2, 1, [RefusedLine(3, "info is missing: it has the artifact's length and hashes")]),
    "Lines submitted.",
)

LIVE: Final = LiveArtifact(PATH, 4096, {"sha256": _SHA256}, "bins-3a", 7, 12, {"channel": "stable"})

TASK: Final = TaskAnswer(
    TaskData(
        TASK_ID,
        "SUCCESS",
        TaskResult(
            "Artifact(s) Added",
            Task.ADD.value,
            _NOW,
            {"added_artifacts": [PATH], "invalid_paths": [], "artifact_roles": ["bins-3a"]},
            status=True,
        ),
    )
)

_ROOT: Final = _signed("root", 1, consistent_snapshot=True, keys={}, roles={})

BOOTSTRAP: Final = {
    "settings": {
        "roles": {
            "root": {"expiration": 365},
            "targets": {"expiration": 365},
            "snapshot": {"expiration": 7},
            "timestamp": {"expiration": 1},
            "bins": {"expiration": 7, "number_of_delegated_bins": 256},
        }
    },
    "metadata": {"root": _ROOT},
}
STARTED: Final = SubmittedAnswer(Submitted(_task(Task.BOOTSTRAP, 0, 0), _NOW), "Bootstrap accepted.")
BOOTSTRAPPED: Final = BootstrapAnswer(BootstrapState(True, "finished", _task(Task.BOOTSTRAP, 0, 0)), "System LOCKED for bootstrap.")

METADATA: Final = {"metadata": {"root": _signed("root", 2, consistent_snapshot=True, keys={}, roles={})}}
UPDATED: Final = SubmittedAnswer(Submitted(_task(Task.METADATA, 0, 2), _NOW), "Metadata update accepted.")

RENEWAL: Final = {"roles": ["targets", "snapshot"]}
RENEWED: Final = SubmittedAnswer(Submitted(_task(Task.RENEW, 0, 6), _NOW), "Force online metadata update accepted.")

PROPOSED: Final = ProposedAnswer(
    "Metadata role(s) pending signing",
    ProposedVersions(
        {"root": METADATA["metadata"]["root"], "trusted_root": _ROOT},
        {"root": [MissingSignatures(1, [_OTHER_KEYID], {_OTHER_KEYID: _OTHER_KEY})]},
        {},
    ),
)
SIGNATURE: Final = {"role": "root", "signature": {"keyid": _OTHER_KEYID, "sig": "30450220..."}}
SIGNED: Final = SubmittedAnswer(Submitted(_task(Task.SIGN, 0, 3), _NOW), "Metadata sign accepted.")
WITHDRAWAL: Final = {"role": "root"}
WITHDRAWN: Final = SubmittedAnswer(Submitted(_task(Task.WITHDRAW, 0, 4), _NOW), "Metadata sign delete accepted.")

NEW_DELEGATIONS: Final = {
    "delegations": {
        "keys": {},
        "roles": [
            {"name": "dev", "terminating": True, "keyids": [], "threshold": 1, "paths": ["dev/*/*"], "x-rstuf-expire-policy": 7},
        ],
    }
}
DELETED_ROLES: Final = {"delegations": {"roles": [{"name": "dev"}]}}


def _delegated(action: str) -> SubmittedAnswer:
    return SubmittedAnswer(Submitted(_task(Task.DELEGATE, 0, 7), _NOW), f"Metadata delegation {action} accepted.")


DELEGATED: Final = _delegated("add")
DELEGATIONS_UPDATED: Final = _delegated("update")
DELEGATIONS_DELETED: Final = _delegated("delete")
DELEGATIONS: Final = DelegationsAnswer(
    CurrentDelegations([CurrentRole("dev", ["dev/*/*"], True, [], 1, 7, 1, "2026-03-08T12:00:00Z", [_KEYID])], {})
)

NEW_SETTINGS: Final = {"settings": {"expiration": {"bins": 7, "timestamp": 1}}}
NEW_SETTINGS_ACCEPTED: Final = SubmittedAnswer(Submitted(_task(Task.SETTINGS, 0, 5), _NOW), "Settings successfully submitted.")
SETTINGS: Final = SettingsAnswer(
    CurrentSettings(
        bootstrap=_task(Task.BOOTSTRAP, 0, 0),
        client_profile="rstuf",
        root_expiration=365,
        root_threshold=2,
        root_num_keys=3,
        targets_expiration=365,
        targets_threshold=1,
        targets_num_keys=1,
        targets_online_key=True,
        snapshot_expiration=7,
        snapshot_threshold=1,
        snapshot_num_keys=1,
        timestamp_expiration=1,
        timestamp_threshold=1,
        timestamp_num_keys=1,
        bins_expiration=7,
        bins_threshold=1,
        bins_num_keys=1,
        number_of_delegated_bins=256,
        custom_roles={"dev": CustomRoleSettings(7, 1, 1)},
    )
)

TRUST: Final = TrustAnswer(
    TrustedRole(1, 1, _ROOT),
    TrustedRole(1, None, None),
    {"timestamp": [_KEYID], "snapshot": [_KEYID], "targets": [_KEYID]},
    {_KEYID: 256},
    256,
    {"dev": [_KEYID]},
    None,
)

STATUS: Final = StatusAnswer(
    version="1.0.0",
    log=_LOG,
    bootstrap="finished",
    client_profile="rstuf",
    unreadable_hashes={"blake2b-256": ["tuf-js", "go-tuf"]},
    number_of_bins=256,
    number_of_custom_roles=1,
    timestamp=20,
    snapshot=12,
    backlog=3,
    waiting_seconds=1,
    held=0,
    frozen_since=None,
    expires={
        "root": "2027-03-01T12:00:00Z",
        "timestamp": "2026-03-02T12:00:00Z",
        "bins": "2026-03-05T08:30:00Z",
        "custom": "2026-03-08T12:00:00Z",
    },
    problems={},
    warnings=[],
)

READY: Final = Readiness(ready=True, parts={"ingest": "", "ingest.log": ""})
NOT_READY: Final = Readiness(ready=False, parts={"ingest": "", "ingest.log": "reading what the log has"})

DESCRIPTION: Final = {"openapi": "3.1.0", "info": {"title": "Tufline", "version": "1.0.0"}, "paths": {}}
METRICS: Final = '# HELP tufline_ingest_changes_total Changes that were accepted.\ntufline_ingest_changes_total{op="add"} 1.0\n'

ERRORS: Final[Mapping[type[IngestError], IngestError]] = MappingProxyType(
    {
        type(error): error
        for error in (
            BrokenRequestError("the connection broke before the request was read"),
            BadRequestError("artifacts[0] ('a//b') can't be accepted: the path has an empty segment; nothing of this request was accepted"),
            TooLargeError(8_000_000),
            UnsupportedEncodingError("the content encoding 'br' is not supported: send gzip, x-gzip, deflate, or no encoding"),
            NotBootstrappedError(None),
            BootstrappedError("finished"),
            NothingToSignError("no version of 'root' waits for signatures: GET /api/v1/metadata/sign lists the versions that wait"),
            TooManyPendingError("nightly", 10_000),
            NotLiveError("'demo/demo-2.0.tar.gz' is not live"),
            NotNowError("the log takes no more for now; part of the request may be on the log; sending it again is safe"),
        )
    }
)
