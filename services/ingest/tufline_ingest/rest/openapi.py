"""The REST API in OpenAPI 3.1, from the very types that read and write it."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

import tufline
from tufline.records.cursor import MAX_TEXT_LENGTH
from tufline.records.events import ChangeRequest
from tufline_ingest.rest import schemas as wire
from tufline_ingest.rest.bulk_tasks import MAX_AFTER_LENGTH

PREFIX: Final = "/api/v1"

_TITLE: Final = "Tufline"

_CALLS: Final[tuple[tuple[str, str, str, type | None, int, type | None], ...]] = (
    ("post", f"{PREFIX}/artifacts/", "Add artifacts", wire.AddRequest, 202, wire.SubmittedAnswer),
    ("post", f"{PREFIX}/artifacts/delete", "Remove artifacts", wire.RemoveRequest, 202, wire.SubmittedAnswer),
    ("post", f"{PREFIX}/artifacts/bulk", "Add and remove artifacts, one a line (NDJSON)", ChangeRequest, 202, wire.BulkAnswer),
    ("get", f"{PREFIX}/artifacts/{{path}}", "What the published metadata say of an artifact", None, 200, wire.LiveArtifact),
    ("get", f"{PREFIX}/task/", "The state of a task", None, 200, wire.TaskAnswer),
    ("get", f"{PREFIX}/bootstrap/", "The state of the bootstrap", None, 200, wire.BootstrapAnswer),
    ("post", f"{PREFIX}/bootstrap/", "Begin a repository", wire.BootstrapRequest, 202, wire.SubmittedAnswer),
    ("post", f"{PREFIX}/metadata/", "Give new versions of root and targets", wire.MetadataRequest, 202, wire.SubmittedAnswer),
    ("get", f"{PREFIX}/trust", "Which root and targets are shown and given, and which keys sign", None, 200, wire.TrustAnswer),
    ("get", f"{PREFIX}/status", "What is live, and what is not yet", None, 200, wire.StatusAnswer),
    ("get", f"{PREFIX}/openapi.json", "This description", None, 200, None),
    ("get", "/healthz", "Whether the process lives", None, 200, None),
    ("get", "/readyz", "Whether every part of the process is ready", None, 200, None),
    ("get", "/metrics", "Metrics for Prometheus", None, 200, None),
)
"""Method, path, summary, request body, status and body of the answer."""

_PARAMETERS: Final[Mapping[str, list[dict[str, Any]]]] = {
    f"{PREFIX}/artifacts/{{path}}": [{"name": "path", "in": "path", "required": True, "schema": {"type": "string"}}],
    f"{PREFIX}/task/": [
        {"name": "task_id", "in": "query", "required": True, "schema": {"type": "string", "minLength": 1, "maxLength": MAX_TEXT_LENGTH}},
        {
            "name": "after",
            "in": "query",
            "required": False,
            "description": "result.details.after of the page before, for the next page of a bulk task's refused changes",
            "schema": {"type": "string", "maxLength": MAX_AFTER_LENGTH},
        },
    ],
}

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


def paths() -> Iterator[tuple[str, str]]:
    """List all calls.

    Yields:
        Method, in capitals, and path.
    """
    for method, path, *_ in _CALLS:
        yield method.upper(), path


def _content(kind: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"content": {kind: {"schema": schema}}}


def make() -> dict[str, Any]:
    """Make the description.

    Returns:
        An OpenAPI 3.1 document.
    """
    types = {kind for call in _CALLS for kind in (call[3], call[5]) if kind is not None} | {wire.ErrorAnswer}
    ordered = sorted(types, key=lambda kind: kind.__name__)
    schemas, components = msgspec.json.schema_components(ordered, ref_template="#/components/schemas/{name}")
    by_type = dict(zip(ordered, schemas, strict=True))
    refused = {"description": "Refused; detail says why and what to do.", **_content("application/json", by_type[wire.ErrorAnswer])}
    described: dict[str, dict[str, Any]] = {}
    for method, path, summary, body, status, result in _CALLS:
        operation: dict[str, Any] = {
            "summary": summary,
            "operationId": re.sub(r"\W+", "_", f"{method} {path}").strip("_"),
            "responses": {str(status): {"description": summary}, "default": refused},
        }
        if body is not None:
            kind = "application/x-ndjson" if body is ChangeRequest else "application/json"
            operation["requestBody"] = {"required": True, **_content(kind, by_type[body])}
        if result is not None:
            operation["responses"][str(status)] |= _content("application/json", by_type[result])
        if path in _PARAMETERS:
            operation["parameters"] = _PARAMETERS[path]
        described.setdefault(path, {})[method] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": _TITLE, "version": tufline.__version__, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        "paths": described,
        "components": {"schemas": {name: schema | _STRICTER.get(name, {}) for name, schema in components.items()}},
    }
