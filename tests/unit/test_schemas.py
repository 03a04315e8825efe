"""The schemas match the code."""

import json
from typing import Any

import jsonschema
import pytest
from openapi_spec_validator import validate

from tools import schemas
from tufline import records
from tufline.audit.records import Anchor, AuditBegin, AuditEnd, AuditUse, Requester, SignedDigest
from tufline.records import (
    Add,
    Bootstrap,
    BootstrapStarted,
    Changes,
    Claim,
    Committed,
    FileRef,
    Freeze,
    Head,
    Held,
    InboxProgress,
    Pending,
    Progress,
    Proposed,
    Publish,
    Published,
    Remove,
    RoleSignature,
    Settings,
    Vector,
    Versioned,
    topics,
)
from tufline.records.receipts import ChangeReceipt, EventReceipt, PublishReceipt
from tufline_ingest.rest import openapi
from tufline_ingest.routes import ROUTES
from tufline_testing.checkout import ROOT

FILE = FileRef(1, 2, "00")
LINK: dict[str, Any] = {"chain": "c", "number": 0, "previous": "00", "time": "t", "requester": Requester("h", 1, "signer")}
SETTINGS = Settings(16, "bins", 3, {"root": 1})
EXAMPLES: list[tuple[str, Versioned]] = [
    (topics.ARTIFACTS, Changes(request="r", admin=1, changes=[Add("a", 1, {"sha256": "00"}, {"x": [1]}), Remove("b")])),
    (topics.HEADS, Head(version=1, sha256="00", length=1, expires="2030-01-01T00:00:00Z", offset=2, keyids=["k"])),
    (topics.HEADS, Progress(offset=1)),
    (topics.HEADS, Held(path="a", entry='"a":{}', offset=1)),
    (topics.HEADS, Pending(role="r", path="a", entry='"a":{}', offset=1)),
    (topics.HEADS, Proposed(version=2, expires="2030-01-01T00:00:00Z", sha256="00", base=1, end=3, seen=3, signatures={"k": "00"})),
    (topics.ARTIFACTS, Changes(v=7, request="r", admin=1, changes=[], sign=RoleSignature("r", 2, "00", "k", "00"))),
    (topics.RECEIPTS, PublishReceipt(publish=1, roles=("bins-0",))),
    (topics.ADMIN, Publish(ends=[1, 2])),
    (topics.ADMIN, Freeze(frozen=True)),
    (topics.HEADS, Committed(vector=Vector([1, 2], 3))),
    (topics.HEADS, Claim(writer="w")),
    (
        topics.PUBLISHED,
        Published(origin="o", timestamp=FileRef(1, 2, "x"), snapshot=FileRef(1, 1, "y"), vector=Vector([1], 1), next_offset=3),
    ),
    (topics.INBOX_PROGRESS, InboxProgress(number=1, offset=2, accepted={"00": "t"})),
    (topics.RECEIPTS, ChangeReceipt(offset=1, index=0, path="a", outcome="refused", reason="full")),
    (topics.RECEIPTS, EventReceipt(partition=1, offset=2, source="s", id="i", outcome="accepted", task="t")),
    (topics.ADMIN, Bootstrap(settings=SETTINGS, root={"signed": {}}, targets=None)),
    (topics.ADMIN, BootstrapStarted(bootstrap=0)),
    (topics.AUDIT, AuditBegin(**LINK, after=Anchor("c", 1, "00"))),
    (topics.AUDIT, AuditUse(**LINK, keyid="k", key="fn:k", signatures=[SignedDigest("timestamp", 1, "00")])),
    (topics.AUDIT, AuditEnd(**LINK)),
]


def read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((ROOT / "schemas" / name).read_text())
    return content


def test_schemas_are_those_of_the_code() -> None:
    """The files in schemas/ are what the code generates."""
    generated = schemas.make_all()
    assert {name: (ROOT / "schemas" / name).read_text() for name in generated} == generated, "run make schemas"


@pytest.mark.parametrize(("topic", "example"), EXAMPLES, ids=[type(example).__name__ for _, example in EXAMPLES])
def test_every_record_fits_its_schema(topic: str, example: Versioned) -> None:
    """Every record written to a topic conforms to the topic's schema, and a record of another form does not."""
    schema = read("records.json")
    of_topic = {"$defs": schema["$defs"], **schema["properties"][topic]}
    jsonschema.validate(json.loads(records.encode(example)), of_topic)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"v": "one"}, of_topic)


def test_openapi_is_valid() -> None:
    """The description of the REST API is valid OpenAPI 3.1, and has an operation for every call."""
    described = read("openapi.json")
    validate(described)
    assert {(route.method, route.path) for route in ROUTES} == {
        (method.upper(), path) for path, operations in described["paths"].items() for method in operations
    }


def test_every_route_has_its_permissions_in_the_description() -> None:
    """Each route names its permission, OpenAPI shows it, and only these routes are public."""
    described = read("openapi.json")["paths"]
    shown = {(route.method, route.path): described[route.path][route.method.lower()][openapi.PERMISSIONS] for route in ROUTES}
    assert shown == {(route.method, route.path): [one.value for one in route.permissions] for route in ROUTES}
    assert {path for (_, path), permissions in shown.items() if not permissions} == {"/api/v1/openapi.json", "/healthz", "/readyz"}
