"""The REST API in OpenAPI 3.1: made from the table of routes, and from the types that read requests and write answers."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

import tufline
from tufline import json_schema
from tufline.json_schema import split_docstring
from tufline_ingest.errors import IngestError
from tufline_ingest.rest import examples
from tufline_ingest.rest.route import JSON, Body, Route
from tufline_ingest.rest.schemas.answers import ErrorAnswer, SubmittedAnswer
from tufline_ingest.rest.schemas.artifacts import BulkAnswer
from tufline_ingest.rest.schemas.tasks import TaskAnswer
from tufline_ingest.rest.schemas.trust import BootstrapAnswer

PERMISSIONS: Final = "x-tufline-permissions"
"""The field of an operation that lists the permissions that a caller will need."""

_TITLE: Final = "Tufline"

_RETRY_AFTER: Final = {
    "Retry-After": {"description": "After how many seconds to send the same request again.", "schema": {"type": "integer", "minimum": 1}}
}

_STRICTER: Final[Mapping[str, dict[str, Any]]] = {
    "RolesSettings": {"anyOf": [{"required": [name], "properties": {name: {"type": "object"}}} for name in ("bins", "delegations")]},
    "NewMetadata": {"anyOf": [{"required": [role], "properties": {role: {"type": "object"}}} for role in ("root", "targets")]},
    "ChangeRequest": {
        "anyOf": [
            {"required": ["op"], "properties": {"op": {"const": "remove"}}},
            {"required": ["info"], "properties": {"info": {"type": "object"}}},
        ]
    },
}
"""Dependencies between values, which a type can't express."""

_TASK_IDS: Final[Mapping[Any, str]] = {
    SubmittedAnswer: "$response.body#/data/task_id",
    BulkAnswer: "$response.body#/data/task_id",
    BootstrapAnswer: "$response.body#/data/id",
}
"""Where an answer has the id of the task that it started or tells of."""


def _operation_id(method: str, path: str) -> str:
    return re.sub(r"\W+", "_", f"{method.lower()} {path}").strip("_")


def _links(kind: Any, task: Route | None) -> dict[str, Any]:
    """Describe which call an answer leads to: the state of its task."""
    if task is None or kind not in _TASK_IDS:
        return {}
    link = {"operationId": _operation_id(task.method, task.path), "parameters": {task.parameters[0].name: _TASK_IDS[kind]}}
    return {"links": {"Task": {**link, "description": task.summary}}}


def _content(body: Body, schemas: Mapping[str, Any]) -> dict[str, Any]:
    return {"content": {body.media_type: {"schema": schemas[repr(body.kind)], "example": msgspec.to_builtins(body.example)}}}


def _refusals(errors: Sequence[type[IngestError]], schemas: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the answers that refuse a request: for each status, with an example of each of its errors."""
    by_status: dict[int, list[type[IngestError]]] = {}
    for error in errors:
        by_status.setdefault(error.status, []).append(error)
    refusals: dict[str, Any] = {}
    for status, some in sorted(by_status.items()):
        named = {error.__name__.removesuffix("Error"): {"value": {"detail": examples.ERRORS[error].detail}} for error in some}
        refusals[str(status)] = {
            "description": " ".join(split_docstring(error.__doc__ or "")[0].splitlines()[0] for error in some),
            "content": {JSON: {"schema": schemas[repr(ErrorAnswer)], "examples": named}},
            **({"headers": _RETRY_AFTER} if any(error.retriable for error in some) else {}),
        }
    fault = _content(Body(ErrorAnswer, ErrorAnswer("an unexpected fault; it is in the log of the service")), schemas)
    return {**refusals, "default": {"description": "A fault of the service, or a refusal by a proxy in front of it.", **fault}}


def _operation(route: Route, schemas: Mapping[str, Any], task: Route | None) -> dict[str, Any]:
    accepted = {
        str(status): {"description": route.summary, **_content(body, schemas), **_links(body.kind, task)}
        for status, body in route.answers.items()
    }
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": _operation_id(route.method, route.path),
        PERMISSIONS: [str(permission) for permission in route.permissions],
        "responses": {**accepted, **_refusals(route.errors, schemas)},
    }
    if route.request is not None:
        operation["requestBody"] = {"required": True, **_content(route.request, schemas)}
    if route.parameters:
        operation["parameters"] = [
            {
                "name": one.name,
                "in": one.place,
                "required": one.is_required,
                "description": one.description,
                "schema": one.schema,
                "example": one.example,
            }
            for one in route.parameters
        ]
    return operation


def make(routes: Iterable[Route]) -> dict[str, Any]:
    """Make the document.

    Args:
        routes: all of the API.

    Returns:
        An OpenAPI 3.1 document.
    """
    routes = tuple(routes)
    bodies = [body for route in routes for body in (route.request, *route.answers.values()) if body is not None]
    types = {repr(kind): kind for kind in (*(body.kind for body in bodies), ErrorAnswer)}
    ordered = sorted(types)
    schemas, components = json_schema.describe([types[name] for name in ordered], ref_template="#/components/schemas/{name}")
    by_type = dict(zip(ordered, schemas, strict=True))
    task = next((route for route in routes if any(body.kind is TaskAnswer for body in route.answers.values())), None)
    described: dict[str, dict[str, Any]] = {}
    for route in routes:
        described.setdefault(route.path, {})[route.method.lower()] = _operation(route, by_type, task)
    return {
        "openapi": "3.1.0",
        "info": {"title": _TITLE, "version": tufline.__version__, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        "paths": described,
        "components": {"schemas": {name: schema | _STRICTER.get(name, {}) for name, schema in components.items()}},
    }
