"""All published schemas are described: every property is explained, and every call has an example of its request and answer."""

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml

from tufline import json_schema
from tufline_ingest.rest import examples
from tufline_ingest.rest.openapi import _STRICTER, make
from tufline_ingest.rest.route import JSON, NDJSON
from tufline_ingest.routes import ROUTES
from tufline_testing.checkout import ROOT

FILES = ("openapi.json", "records.json", "event.json", "asyncapi.yaml")
FILLERS = frozenset(["a", "an", "and", "are", "as", "for", "in", "is", "it", "its", "of", "or", "that", "the", "this", "to"])
FEWEST_WORDS = 3
BY_NAME = "hashes"
"""Properties below it are named after algorithms."""


def words(text: str) -> set[str]:
    """Split a text into words, without plural endings."""
    return {word.removesuffix("s") if len(word) > 3 else word for word in re.findall(r"[a-z0-9]+", text.lower())}


def fault_of(name: str, schema: dict[str, Any]) -> str | None:
    """Return the problem with a property's description; None if there is none."""
    text = schema.get("description", "")
    if not text:
        return "it has no description"
    if not schema.keys() & {"type", "$ref", "anyOf", "const"}:
        return "it has no type"
    if not words(text) - FILLERS - words(name.replace("_", " ")):
        return f"{text!r} only repeats its name"
    if len(text.split()) < FEWEST_WORDS or text.split()[0] in {"Of", "As"}:
        return f"{text!r} is no full phrase"
    return None


def properties(schema: Any, *path: str) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """List all properties that a document describes, without those in mere restrictions and examples."""
    if isinstance(schema, list):
        for number, one in enumerate(schema):
            yield from properties(one, *path, str(number))
    if not isinstance(schema, dict):
        return
    for key, inner in schema.items():
        if key in {"anyOf", "example", "examples", BY_NAME} and path[-1:] != ("properties",):
            continue
        if key == "properties" and isinstance(inner, dict) and path[-1:] != ("properties",):
            for name, one in inner.items():
                yield (*path, name), one
                if name != BY_NAME:
                    yield from properties(one, *path, name)
        else:
            yield from properties(inner, *path, key)


@pytest.mark.parametrize("name", FILES)
def test_every_property_is_described(name: str) -> None:
    """Every property of every published schema has a type, and a description that says more than its name."""
    document = yaml.safe_load((ROOT / "schemas" / name).read_text())
    found = list(properties(document))
    assert len(found) > 5
    faults = [f"{'.'.join(path)}: {fault}" for path, schema in found if (fault := fault_of(path[-1], schema))]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("name", "schema", "fault"),
    [
        ("offset", {"type": "integer"}, "no description"),
        ("offset", {"description": "Where the record is in the topic."}, "no type"),
        ("number_of_bins", {"type": "integer", "description": "The number of the bins."}, "only repeats"),
        ("task_id", {"type": "string", "description": "Its id."}, "only repeats"),
        ("version", {"type": "integer", "description": "Of the role."}, "no full phrase"),
        ("length", {"type": "integer", "description": "In bytes."}, "no full phrase"),
    ],
)
def test_empty_descriptions_are_seen(name: str, schema: dict[str, Any], fault: str) -> None:
    """A missing description, one that only repeats the property's name, and one that is not a phrase are refused."""
    assert fault in (fault_of(name, schema) or "")


def operations() -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """List the operations of the OpenAPI document: name, operation, and the components that its schemas refer to."""
    document = make(ROUTES)
    return [
        (f"{method} {path}", operation, document["components"])
        for path, of_path in document["paths"].items()
        for method, operation in of_path.items()
    ]


@pytest.mark.parametrize(("name", "operation", "components"), operations(), ids=[name for name, *_ in operations()])
def test_every_operation_has_examples_that_fit(name: str, operation: dict[str, Any], components: dict[str, Any]) -> None:
    """Each body of a request or answer, including errors, has an example of the described form."""
    bodies = [*operation["responses"].values(), *([operation["requestBody"]] if "requestBody" in operation else [])]
    for body in bodies:
        for media_type, content in body["content"].items():
            values = [content["example"]] if "example" in content else [one["value"] for one in content["examples"].values()]
            assert values, name
            lines = [json.loads(line) for value in values for line in value.splitlines()] if media_type == NDJSON else values
            for value in lines:
                jsonschema.validate(value, {**content["schema"], "components": components})
    for parameter in operation.get("parameters", ()):
        jsonschema.validate(parameter["example"], parameter["schema"])


@pytest.mark.parametrize(("name", "operation", "components"), operations(), ids=[name for name, *_ in operations()])
def test_every_operation_has_its_error_answers(name: str, operation: dict[str, Any], components: dict[str, Any]) -> None:
    """Every operation describes its answer to a fault, each one with a body its refusals, and each one that reads the log a 503."""
    statuses = set(operation["responses"])
    assert "default" in statuses
    assert components["schemas"]["ErrorAnswer"]["properties"]["detail"]
    if "requestBody" in operation:
        assert statuses >= {"400", "404", "415", "422", "503"}, name
    if name.startswith("get /api") and "openapi" not in name:
        assert "503" in statuses, name
    for status in statuses & {"503"}:
        refusal = operation["responses"][status]
        assert "Retry-After" in refusal.get("headers", {}) or name == "get /readyz"


def names_in(rule: dict[str, Any]) -> set[str]:
    """Return the names of the properties in a rule about an object."""
    alternatives = (names_in(one) for one in rule.get("anyOf", ()))
    return {*rule.get("required", ()), *rule.get("properties", ())}.union(*alternatives)


@pytest.mark.parametrize("name", _STRICTER)
def test_a_stricter_rule_is_about_a_type_that_exists(name: str) -> None:
    """Each rule that is added to a type's schema refers to an existing type, and only to its properties."""
    schemas = make(ROUTES)["components"]["schemas"]
    assert name in schemas, f"no type of the REST API is called {name}, so its rule has no effect"
    names = names_in(_STRICTER[name])
    assert names, f"the rule for {name} says nothing about a property"
    assert names <= schemas[name]["properties"].keys()


def test_examples_of_requests_are_read() -> None:
    """Each request that OpenAPI shows is read by the type that reads requests."""
    shown = [route.request for route in ROUTES if route.request is not None]
    assert {body.media_type for body in shown} == {JSON, NDJSON}
    for body in shown:
        for text in body.example.splitlines() if body.media_type == NDJSON else [msgspec.json.encode(body.example)]:
            msgspec.json.decode(text, type=body.kind)
    assert set(examples.ERRORS) >= {error for route in ROUTES for error in route.errors}


class Base(msgspec.Struct):
    """The first line.

    Attributes:
        v: the version of the form, which goes on
            on a second line: None for none.
    """

    v: int | None = None


class Derived(Base, tag="derived", tag_field="kind"):
    """A form that is told apart by ``kind``.

    Attributes:
        old_name: a field that JSON has under another name.
    """

    old_name: int = msgspec.field(name="new-name", default=0)


def test_every_task_id_of_an_answer_is_linked_to_its_task() -> None:
    """Each example of an answer with a task id has a link, which finds the id in it and names the call that takes it."""
    paths = make(ROUTES)["paths"]
    operations = {operation["operationId"]: operation for calls in paths.values() for operation in calls.values()}
    linked = set()
    for name, operation in operations.items():
        for answer in operation["responses"].values():
            for link in answer.get("links", {}).values():
                linked.add(name)
                (parameter,) = link["parameters"]
                assert parameter in {one["name"] for one in operations[link["operationId"]]["parameters"]}
                value: Any = json.loads(msgspec.json.encode(answer["content"][JSON]["example"]))
                for step in link["parameters"][parameter].removeprefix("$response.body#/").split("/"):
                    value = value[step]
                assert value
    with_id = {
        name for name, one in operations.items() if one is not operations["get_api_v1_task"] and '"task_id"' in json.dumps(one["responses"])
    }
    assert linked == with_id | {"get_api_v1_bootstrap"}


def test_docstrings_become_descriptions() -> None:
    """A property has the text of its field's docstring, also if it is inherited, renamed, or continues on a second line."""
    _, components = json_schema.describe([dict[str, list[Derived]]], ref_template="#/{name}")
    schema = components["Derived"]
    assert schema["description"] == "A form that is told apart by `kind`."
    assert {name: one["description"] for name, one in schema["properties"].items()} == {
        "kind": json_schema.TAG,
        "v": "The version of the form, which goes on on a second line: null for none.",
        "new-name": "A field that JSON has under another name.",
    }
    assert schema["properties"]["kind"]["type"] == "string"
