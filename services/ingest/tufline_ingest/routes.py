"""The REST API as one table: the request, answers, read models and permissions of each route.

The application, the OpenAPI document and authorization are made from it, so every served call is documented and has a permission. No
permission is enforced yet: every caller has all of them. A new call needs a handler in ``rest``, the types of its body and answer in
``rest.schemas``, an example of each in ``rest.examples``, and a row here; then run ``make schemas`` and ``make reference``.
"""

from functools import cache
from typing import Any, Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from tufline.records.cursor import MAX_TEXT_LENGTH
from tufline.records.events import ChangeRequest
from tufline.runtime import operations
from tufline_ingest.context import Context
from tufline_ingest.errors import (
    BadRequestError,
    BootstrappedError,
    BrokenRequestError,
    NotBootstrappedError,
    NothingToSignError,
    NotLiveError,
    NotNowError,
    TooLargeError,
    TooManyPendingError,
    UnsupportedEncodingError,
)
from tufline_ingest.rest import (
    artifacts,
    bootstrap,
    delegations,
    examples,
    openapi,
    publishing,
    repository_settings,
    signatures,
    status,
    tasks,
    trust,
)
from tufline_ingest.rest.bulk_tasks import MAX_AFTER_LENGTH
from tufline_ingest.rest.responses import answer
from tufline_ingest.rest.route import NDJSON, OPEN, Body, Parameter, Permission, Reads, Route
from tufline_ingest.rest.schemas.answers import SubmittedAnswer
from tufline_ingest.rest.schemas.artifacts import AddRequest, BulkAnswer, LiveArtifact, RemoveRequest
from tufline_ingest.rest.schemas.delegations import DelegationsAnswer, DelegationsRequest, DeleteDelegationsRequest
from tufline_ingest.rest.schemas.publishing import FreezeAnswer
from tufline_ingest.rest.schemas.repository_settings import SettingsAnswer, SettingsRequest
from tufline_ingest.rest.schemas.signatures import ProposedAnswer, SignRequest, WithdrawRequest
from tufline_ingest.rest.schemas.status import StatusAnswer
from tufline_ingest.rest.schemas.tasks import TaskAnswer
from tufline_ingest.rest.schemas.trust import BootstrapAnswer, BootstrapRequest, MetadataRequest, RenewalRequest, TrustAnswer

PREFIX: Final = "/api/v1"


@cache
def description() -> dict[str, Any]:
    """Make the OpenAPI document of all routes.

    Returns:
        The document; always the same object, which must not be changed.
    """
    return openapi.make(ROUTES)


async def _describe(_: Context, __: web.Request) -> web.Response:
    return answer(description())


async def _live(_: Context, __: web.Request) -> web.Response:
    return operations.liveness()


async def _ready(context: Context, _: web.Request) -> web.Response:
    return operations.readiness(context.health)


async def _metrics(_: Context, __: web.Request) -> web.Response:
    return operations.metrics()


_ARTIFACT_PATH: Final = Parameter("path", "path", "The target path of the artifact.", {"type": "string"}, examples.PATH)

_TASK_ID: Final = Parameter(
    "task_id",
    "query",
    "The id that the answer to the request had.",
    {"type": "string", "minLength": 1, "maxLength": MAX_TEXT_LENGTH},
    examples.TASK_ID,
)

_AFTER: Final = Parameter(
    "after",
    "query",
    "Where the next page of a bulk task's refused changes starts: result.details.after of the page before.",
    {"type": "string", "maxLength": MAX_AFTER_LENGTH},
    examples.AFTER,
    is_required=False,
)

_OF_BODY: Final = (BrokenRequestError, TooLargeError, UnsupportedEncodingError, BadRequestError)

ROUTES: Final[tuple[Route, ...]] = (
    Route(
        "POST",
        f"{PREFIX}/artifacts/",
        "Add artifacts",
        artifacts.add_artifacts,
        (Permission.ARTIFACTS_ADD,),
        Reads.TRUST,
        {202: Body(SubmittedAnswer, examples.ADDED)},
        request=Body(AddRequest, examples.ADD),
        errors=(*_OF_BODY, NotBootstrappedError, TooManyPendingError, NotNowError),
    ),
    Route(
        "POST",
        f"{PREFIX}/artifacts/delete",
        "Remove artifacts",
        artifacts.remove_artifacts,
        (Permission.ARTIFACTS_REMOVE,),
        Reads.TRUST,
        {202: Body(SubmittedAnswer, examples.REMOVED)},
        request=Body(RemoveRequest, examples.REMOVE),
        errors=(*_OF_BODY, NotBootstrappedError, TooManyPendingError, NotNowError),
    ),
    Route(
        "POST",
        f"{PREFIX}/artifacts/publish/",
        "Publish the changes that are held",
        publishing.publish_artifacts,
        (Permission.ARTIFACTS_ADD, Permission.ARTIFACTS_REMOVE),
        Reads.TRUST,
        {202: Body(SubmittedAnswer, examples.PUBLISHED)},
        errors=(NotBootstrappedError, NotNowError),
    ),
    Route(
        "POST",
        f"{PREFIX}/freeze",
        "Let changes of artifacts wait",
        publishing.freeze,
        (Permission.SETTINGS,),
        Reads.TRUST,
        {200: Body(FreezeAnswer, examples.FROZEN)},
        errors=(NotBootstrappedError, NotNowError),
    ),
    Route(
        "POST",
        f"{PREFIX}/thaw",
        "Let changes of artifacts be applied again",
        publishing.thaw,
        (Permission.SETTINGS,),
        Reads.TRUST,
        {200: Body(FreezeAnswer, examples.THAWED)},
        errors=(NotBootstrappedError, NotNowError),
    ),
    Route(
        "POST",
        f"{PREFIX}/artifacts/bulk",
        "Add and remove artifacts, one a line (NDJSON)",
        artifacts.import_lines,
        (Permission.ARTIFACTS_ADD, Permission.ARTIFACTS_REMOVE),
        Reads.TRUST,
        {202: Body(BulkAnswer, examples.IMPORTED)},
        request=Body(ChangeRequest, examples.LINES, NDJSON),
        errors=(BrokenRequestError, UnsupportedEncodingError, BadRequestError, NotBootstrappedError, NotNowError),
    ),
    Route(
        "GET",
        f"{PREFIX}/artifacts/{{path}}",
        "What the published metadata says of an artifact",
        artifacts.get_artifact,
        (Permission.ARTIFACTS_READ,),
        Reads.TRUST,
        {200: Body(LiveArtifact, examples.LIVE)},
        errors=(BadRequestError, NotBootstrappedError, NotLiveError, NotNowError),
        parameters=(_ARTIFACT_PATH,),
    ),
    Route(
        "GET",
        f"{PREFIX}/task/",
        "The state of a task",
        tasks.get_task,
        (Permission.ARTIFACTS_READ,),
        Reads.TRUST,
        {200: Body(TaskAnswer, examples.TASK)},
        errors=(BadRequestError, NotNowError),
        parameters=(_TASK_ID, _AFTER),
    ),
    Route(
        "GET",
        f"{PREFIX}/bootstrap/",
        "The state of the bootstrap",
        bootstrap.get_bootstrap,
        (Permission.OBSERVE,),
        Reads.TRUST,
        {200: Body(BootstrapAnswer, examples.BOOTSTRAPPED)},
        errors=(NotNowError,),
    ),
    Route(
        "POST",
        f"{PREFIX}/bootstrap/",
        "Start a repository",
        bootstrap.post_bootstrap,
        (Permission.TRUST_PROPOSE,),
        Reads.HEADS,
        {202: Body(SubmittedAnswer, examples.STARTED)},
        request=Body(BootstrapRequest, examples.BOOTSTRAP),
        errors=(*_OF_BODY, BootstrappedError, NotNowError),
    ),
    Route(
        "POST",
        f"{PREFIX}/metadata/",
        "Submit new versions of root and targets",
        trust.post_metadata,
        (Permission.TRUST_PROPOSE,),
        Reads.TRUST,
        {202: Body(SubmittedAnswer, examples.UPDATED)},
        request=Body(MetadataRequest, examples.METADATA),
        errors=(*_OF_BODY, NotBootstrappedError, NotNowError),
    ),
    Route(
        "POST",
        f"{PREFIX}/metadata/online",
        "Renew roles that the signer signs",
        trust.post_renewal,
        (Permission.TRUST_PROPOSE,),
        Reads.TRUST,
        {202: Body(SubmittedAnswer, examples.RENEWED)},
        request=Body(RenewalRequest, examples.RENEWAL),
        errors=(*_OF_BODY, NotBootstrappedError, NotNowError),
    ),
    Route(
        "GET",
        f"{PREFIX}/metadata/sign",
        "What waits for signatures, and whose",
        signatures.get_proposed,
        (Permission.OBSERVE,),
        Reads.TRUST,
        {200: Body(ProposedAnswer, examples.PROPOSED)},
        errors=(NotNowError,),
    ),
    Route(
        "POST",
        f"{PREFIX}/metadata/sign",
        "Sign a version that waits for signatures",
        signatures.post_signature,
        (Permission.TRUST_SIGN,),
        Reads.TRUST,
        {202: Body(SubmittedAnswer, examples.SIGNED)},
        request=Body(SignRequest, examples.SIGNATURE),
        errors=(*_OF_BODY, NothingToSignError, NotNowError),
    ),
    Route(
        "POST",
        f"{PREFIX}/metadata/sign/delete",
        "Withdraw a version that waits for signatures",
        signatures.post_withdrawal,
        (Permission.TRUST_PROPOSE,),
        Reads.TRUST,
        {202: Body(SubmittedAnswer, examples.WITHDRAWN)},
        request=Body(WithdrawRequest, examples.WITHDRAWAL),
        errors=(*_OF_BODY, NothingToSignError, NotNowError),
    ),
    Route(
        "GET",
        f"{PREFIX}/delegations/",
        "The custom roles",
        delegations.get_delegations,
        (Permission.OBSERVE,),
        Reads.HEADS,
        {200: Body(DelegationsAnswer, examples.DELEGATIONS)},
        errors=(NotBootstrappedError, NotNowError),
    ),
    Route(
        "POST",
        f"{PREFIX}/delegations/",
        "Add custom roles",
        delegations.post_delegations,
        (Permission.TRUST_PROPOSE,),
        Reads.TRUST,
        {202: Body(SubmittedAnswer, examples.DELEGATED)},
        request=Body(DelegationsRequest, examples.NEW_DELEGATIONS),
        errors=(*_OF_BODY, NotBootstrappedError, NotNowError),
    ),
    Route(
        "PUT",
        f"{PREFIX}/delegations/",
        "Change paths, keys or lifetimes of custom roles",
        delegations.put_delegations,
        (Permission.TRUST_PROPOSE,),
        Reads.TRUST,
        {202: Body(SubmittedAnswer, examples.DELEGATIONS_UPDATED)},
        request=Body(DelegationsRequest, examples.NEW_DELEGATIONS),
        errors=(*_OF_BODY, NotBootstrappedError, NotNowError),
    ),
    Route(
        "POST",
        f"{PREFIX}/delegations/delete",
        "Delete custom roles",
        delegations.delete_delegations,
        (Permission.TRUST_PROPOSE,),
        Reads.TRUST,
        {202: Body(SubmittedAnswer, examples.DELEGATIONS_DELETED)},
        request=Body(DeleteDelegationsRequest, examples.DELETED_ROLES),
        errors=(*_OF_BODY, NotBootstrappedError, NotNowError),
    ),
    Route(
        "GET",
        f"{PREFIX}/config/",
        "The settings of the repository",
        repository_settings.get_settings,
        (Permission.OBSERVE,),
        Reads.TRUST,
        {200: Body(SettingsAnswer, examples.SETTINGS)},
        errors=(NotBootstrappedError, NotNowError),
    ),
    Route(
        "PUT",
        f"{PREFIX}/config/",
        "Change the lifetimes of roles that the signer signs",
        repository_settings.put_settings,
        (Permission.SETTINGS,),
        Reads.TRUST,
        {202: Body(SubmittedAnswer, examples.NEW_SETTINGS_ACCEPTED)},
        request=Body(SettingsRequest, examples.NEW_SETTINGS),
        errors=(*_OF_BODY, NotBootstrappedError, NotNowError),
    ),
    Route(
        "GET",
        f"{PREFIX}/trust",
        "Which root and targets are current and pending, and which keys sign",
        trust.get_trust,
        (Permission.OBSERVE,),
        Reads.HEADS,
        {200: Body(TrustAnswer, examples.TRUST)},
        errors=(NotBootstrappedError, NotNowError),
    ),
    Route(
        "GET",
        f"{PREFIX}/status",
        "What is live, and what is not yet",
        status.get_status,
        (Permission.OBSERVE,),
        Reads.HEADS,
        {200: Body(StatusAnswer, examples.STATUS)},
        errors=(NotNowError,),
    ),
    Route(
        "GET",
        f"{PREFIX}/openapi.json",
        "This description",
        _describe,
        OPEN,
        Reads.NOTHING,
        {200: Body(dict[str, Any], examples.DESCRIPTION)},
    ),
    Route(
        "GET",
        "/healthz",
        "Whether the process lives",
        _live,
        OPEN,
        Reads.NOTHING,
        {200: Body(operations.Alive, operations.Alive(alive=True))},
    ),
    Route(
        "GET",
        "/readyz",
        "Whether every part of the process is ready",
        _ready,
        OPEN,
        Reads.NOTHING,
        {200: Body(operations.Readiness, examples.READY), 503: Body(operations.Readiness, examples.NOT_READY)},
    ),
    Route(
        "GET",
        "/metrics",
        "Metrics for Prometheus",
        _metrics,
        (Permission.OBSERVE,),
        Reads.NOTHING,
        {200: Body(str, examples.METRICS, CONTENT_TYPE_LATEST)},
    ),
)
