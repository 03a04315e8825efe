"""A route of the REST API: one description, from which the route is served, documented and, later, authorized."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any, Final

from aiohttp import web

from tufline_ingest.context import Context
from tufline_ingest.errors import IngestError

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"

Handler = Callable[[Context, web.Request], Awaitable[web.Response]]


class Permission(StrEnum):
    """The permissions that a caller may have."""

    ARTIFACTS_ADD = "artifacts:add"
    ARTIFACTS_REMOVE = "artifacts:remove"
    ARTIFACTS_READ = "artifacts:read"
    TRUST_PROPOSE = "trust:propose"
    TRUST_SIGN = "trust:sign"
    SETTINGS = "settings"
    OBSERVE = "observe"


OPEN: Final[tuple[Permission, ...]] = ()
"""The permissions of a route that anybody may call."""


class Reads(Enum):
    """Which read models a handler uses. A request waits until these cover the whole log."""

    NOTHING = "nothing"
    TRUST = "trust"
    """The state of ``admin``, and the published commit."""
    HEADS = "heads"
    """The same as ``TRUST``, and the newest version of every role."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a path or a query.

    Attributes:
        name: the parameter's name in the URL.
        place: ``path`` or ``query``.
        description: for people.
        schema: JSON Schema of the value.
        example: a value.
        is_required: whether a request must have it.
    """

    name: str
    place: str
    description: str
    schema: dict[str, Any]
    example: str
    is_required: bool = True


@dataclass(frozen=True, slots=True)
class Body:
    """The body of a request or an answer.

    Attributes:
        kind: the type that reads or writes the body; for NDJSON, one line.
        example: a body of that type: JSON, or what msgspec writes as JSON; of NDJSON all lines as text.
        media_type: its Content-Type.
    """

    kind: Any
    example: Any
    media_type: str = JSON


@dataclass(frozen=True, slots=True)
class Route:
    """One call.

    Attributes:
        method: of HTTP.
        path: the path, with parameters in braces. It is served with and without a slash at the end, unless it ends with a parameter.
        summary: one line for people.
        handler: answers requests.
        permissions: the permissions that a caller needs; ``OPEN`` for none.
        reads: the read models that the handler uses.
        answers: status to the body of each answer except ``ErrorAnswer``.
        request: the body of the request; None for a call without one.
        errors: the errors with which a request may be refused.
        parameters: the parameters of the path and the query.
    """

    method: str
    path: str
    summary: str
    handler: Handler
    permissions: tuple[Permission, ...]
    reads: Reads
    answers: Mapping[int, Body]
    request: Body | None = None
    errors: tuple[type[IngestError], ...] = ()
    parameters: tuple[Parameter, ...] = ()
