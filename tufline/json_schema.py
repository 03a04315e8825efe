"""JSON Schema of msgspec types, with descriptions from their docstrings.

In: Structs whose docstrings list their fields below ``Attributes:``. Out: schemas in which the type and every property have a description,
so that the published schemas (``schemas/``, OpenAPI) are described where the types are defined.
"""

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec
from msgspec.inspect import Metadata, StructType, Type, multi_type_info

ATTRIBUTES: Final = "\nAttributes:\n"
_FIELD: Final = re.compile(r"    (\w+): (.*)")

TAG: Final = "Tells which of several forms this is."
"""The description of the field that msgspec adds to distinguish the members of a union."""


def describe(types: Iterable[Any], ref_template: str) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """Make the schemas of types.

    Args:
        types: Structs, or any other types that msgspec supports.
        ref_template: the form of a reference to a component, with ``{name}`` for its name.

    Returns:
        A schema for each type, in their order; and the components that they refer to, by name.
    """
    types = list(types)
    schemas, components = msgspec.json.schema_components(types, ref_template=ref_template)
    for name, struct in {struct.cls.__name__: struct for info in multi_type_info(types) for struct in _structs(info)}.items():
        if name in components:
            components[name] = _described(components[name], struct)
    return [_typed(schema) for schema in schemas], {name: _typed(schema) for name, schema in components.items()}


def _structs(info: Type, seen: set[type] | None = None) -> Iterator[StructType]:
    """Find all Structs in a type."""
    seen = set() if seen is None else seen
    if isinstance(info, StructType):
        if info.cls in seen:
            return
        seen.add(info.cls)
        yield info
    inner = [info.type] if isinstance(info, Metadata) else [getattr(info, name, ()) for name in ("item_type", "key_type", "value_type")]
    inner += [*getattr(info, "types", ()), *getattr(info, "item_types", ()), *(field.type for field in getattr(info, "fields", ()))]
    for one in inner:
        if isinstance(one, Type):
            yield from _structs(one, seen)


def split_docstring(docstring: str) -> tuple[str, dict[str, str]]:
    """Split the docstring of a class into the descriptions of the class and of its fields.

    Args:
        docstring: has the fields below ``Attributes:``; continuation lines are indented further.

    Returns:
        The description of the class, and those of the fields by name.
    """
    summary, _, listed = inspect.cleandoc(docstring).partition(ATTRIBUTES)
    fields: dict[str, str] = {}
    name = ""
    for line in listed.splitlines():
        if match := _FIELD.fullmatch(line):
            name, text = match.groups()
            fields[name] = text
        elif name and line.strip():
            fields[name] += f" {line.strip()}"
    return _as_text(summary), {name: _as_text(text) for name, text in fields.items()}


def _as_text(text: str) -> str:
    plain = re.sub(r"\bNone\b", "null", text.strip().replace("``", "`"))
    return plain[:1].upper() + plain[1:]


def _described(schema: Mapping[str, Any], struct: StructType) -> dict[str, Any]:
    texts: dict[str, str] = {}
    for cls in reversed(struct.cls.__mro__):
        texts |= split_docstring(cls.__doc__ or "")[1] if issubclass(cls, msgspec.Struct) else {}
    texts |= {field.encode_name: texts[field.name] for field in struct.fields if field.name in texts}
    if struct.tag_field is not None:
        texts.setdefault(struct.tag_field, TAG)
    found = {**schema, "description": split_docstring(struct.cls.__doc__ or "")[0]}
    if "properties" in schema:
        found["properties"] = {name: _with_text(inner, texts.get(name)) for name, inner in schema["properties"].items()}
    if "prefixItems" in schema:  # an array-like struct has its fields in their order, after the tag
        names = [*([""] if struct.tag is not None else []), *(field.encode_name for field in struct.fields)]
        found["prefixItems"] = [_with_text(inner, texts.get(name)) for name, inner in zip(names, schema["prefixItems"], strict=True)]
    return found


def _with_text(schema: Mapping[str, Any], text: str | None) -> dict[str, Any]:
    return {**schema} if text is None else {**schema, "description": text}


def _typed(schema: Any) -> Any:
    """Name the type of values that are listed: msgspec lists them alone."""
    if isinstance(schema, list):
        return [_typed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: _typed(inner) for name, inner in schema.items()}
    if "type" in found:  # named for a union of types that are read, of which the schema says less
        found.pop("anyOf", None)
    listed = found.get("enum")
    if isinstance(listed, list) and "type" not in found and all(isinstance(one, str) for one in listed):
        found["type"] = "string"
    return found
