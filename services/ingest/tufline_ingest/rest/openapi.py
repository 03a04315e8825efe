"""The REST API in OpenAPI 3.1: from the table of routes, and the very types that read and write requests and answers."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

import tufline
from tufline_ingest.rest.route import JSON, Body, Route
from tufline_ingest.rest.schemas.answers import ErrorAnswer

PERMISSIONS: Final = "x-tufline-permissions"
"""The field of an operation that lists the permissions that a caller will need."""

_TITLE: Final = "Tufline"

_STRICTER: Final[Mapping[str, dict[str, Any]]] = {
    "RolesSettings": {"required": ["root", "targets", "snapshot", "timestamp", "bins"]},
    "NewMetadata": {"anyOf": [{"required": [role], "properties": {role: {"type": "object"}}} for role in ("root", "targets")]},
    "ChangeRequest": {
        "anyOf": [
            {"required": ["op"], "properties": {"op": {"const": "remove"}}},
            {"required": ["info"], "properties": {"info": {"type": "object"}}},
        ]
    },
}
"""What a type can't say of its values: which of them need one another."""


def _content(body: Body, schemas: Mapping[type, Any]) -> dict[str, Any]:
    return {"content": {body.media_type: {"schema": schemas[body.kind]}}}


def _operation(route: Route, schemas: Mapping[type, Any]) -> dict[str, Any]:
    accepted = {} if route.answer is None else _content(route.answer, schemas)
    refused = {"description": "Refused; detail says why and what to do.", **_content(Body(ErrorAnswer, JSON), schemas)}
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": re.sub(r"\W+", "_", f"{route.method.lower()} {route.path}").strip("_"),
        PERMISSIONS: [str(permission) for permission in route.permissions],
        "responses": {str(route.status): {"description": route.summary, **accepted}, "default": refused},
    }
    if route.request is not None:
        operation["requestBody"] = {"required": True, **_content(route.request, schemas)}
    if route.parameters:
        operation["parameters"] = [
            {"name": one.name, "in": one.place, "required": one.is_required, "description": one.description, "schema": one.schema}
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
    types = {body.kind for route in routes for body in (route.request, route.answer) if body is not None} | {ErrorAnswer}
    ordered = sorted(types, key=lambda kind: kind.__name__)
    schemas, components = msgspec.json.schema_components(ordered, ref_template="#/components/schemas/{name}")
    by_type = dict(zip(ordered, schemas, strict=True))
    described: dict[str, dict[str, Any]] = {}
    for route in routes:
        described.setdefault(route.path, {})[route.method.lower()] = _operation(route, by_type)
    return {
        "openapi": "3.1.0",
        "info": {"title": _TITLE, "version": tufline.__version__, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        "paths": described,
        "components": {"schemas": {name: schema | _STRICTER.get(name, {}) for name, schema in components.items()}},
    }
