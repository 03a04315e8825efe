"""Hooks that teach schemathesis our REST API: how lines of JSON are sent, and which refusals of a valid request are correct.

Loaded by schemathesis (``SCHEMATHESIS_HOOKS``), not by tests.
"""

import json
import re
from typing import Any, Final

import schemathesis

FORM: Final = re.compile(r"has another form|is not JSON")
"""How the server says that a request has not the form that it expects (``tufline.decoding.decode_json``)."""


@schemathesis.serializer("application/x-ndjson")
def serialize_lines(_: Any, value: Any) -> bytes:
    """Send one line, or each element of a list as a line."""
    if isinstance(value, bytes):
        return value
    lines = value if isinstance(value, list) else [value]
    return "".join(f"{json.dumps(line)}\n" for line in lines).encode()


@schemathesis.check
def described_form_is_accepted(_: Any, response: Any, case: Any) -> None:
    """Fail if the server does not accept the form of a request that fits its schema.

    Content that a schema can't describe (paths, signatures, metadata) may be refused, so a 422 alone is no failure.
    """
    of_body = case.meta is not None and case.meta.generation.mode.is_positive
    if of_body and response.status_code == 422 and FORM.search(response.text):
        raise AssertionError(f"the request fits its schema, but its form is refused: {response.text[:300]}")
