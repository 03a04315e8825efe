"""Checks that answers of the REST API are as its OpenAPI document describes them. The harness checks every answer that a test gets."""

import re
from functools import cache
from typing import Any, Final

import jsonschema

from tufline_ingest.routes import ROUTES, description


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(".+".join(map(re.escape, path.rstrip("/").split("{path}"))) + "/?")


PATTERNS: Final = [(route.method, route.path, _pattern(route.path)) for route in ROUTES]


@cache
def _validator(method: str, path: str, status: int) -> jsonschema.Draft202012Validator:
    described = description()
    responses = described["paths"][path][method.lower()]["responses"]
    found = responses.get(str(status)) or (responses["default"] if status == 500 else None)
    assert found is not None, f"{method} {path} was answered with {status}, which OpenAPI does not describe"
    return jsonschema.Draft202012Validator({**found["content"]["application/json"]["schema"], "components": described["components"]})


def check_answer(method: str, path: str, status: int, answer: Any) -> None:
    """Check an answer against the description of its call. Answers at unknown addresses have no description, and are accepted.

    Args:
        method: of the request.
        path: of the request, without its query.
        status: of the answer.
        answer: its JSON.

    Raises:
        AssertionError: if the description of the call does not have this status.
        ValidationError: if the answer does not fit its schema.
    """
    route = next((route for of, route, pattern in PATTERNS if of == method and pattern.fullmatch(path)), None)
    if route is not None:
        _validator(method, route, status).validate(answer)
