"""Generates ``schemas/`` from the code; with ``--check`` it only checks that the files are up to date.

records.json: JSON Schema of every record on the bus, by topic. event.json: JSON Schema of the events that repositories send to the inbox.
asyncapi.yaml: all topics. openapi.json: the REST API.
"""

import json
import sys
from pathlib import Path
from typing import Any, Final

import yaml

from tools import channels
from tufline import json_schema, records
from tufline.audit.records import AuditBegin, AuditEnd, AuditUse
from tufline.records import events, receipts, topics
from tufline_ingest import routes

SCHEMAS: Final = Path(__file__).resolve().parent.parent / "schemas"

BY_TOPIC: Final[dict[str, tuple[type, ...]]] = {
    topics.ARTIFACTS: (records.Changes,),
    topics.HEADS: (records.Head, records.Progress, records.Held, records.Pending, records.Proposed, records.Committed, records.Claim),
    topics.PUBLISHED: (records.Published,),
    topics.INBOX_PROGRESS: (records.InboxProgress, records.Claim),
    topics.RECEIPTS: (receipts.ChangeReceipt, receipts.EventReceipt, receipts.PublishReceipt),
    topics.ADMIN: (
        records.Bootstrap,
        records.BootstrapStarted,
        records.NewMetadata,
        records.Signature,
        records.Withdrawal,
        records.NewLifetimes,
        records.Renewal,
        records.AcceptedLoss,
        records.Publish,
        records.Freeze,
    ),
    topics.AUDIT: (AuditBegin, AuditUse, AuditEnd),
}
"""The types of records in each topic; ``metadata`` has the bytes of metadata files, which TUF specifies."""


def make_records() -> dict[str, Any]:
    """Make the JSON Schema of every record."""
    types = [kind for kinds in BY_TOPIC.values() for kind in kinds]
    schemas, components = json_schema.describe(types, ref_template="#/$defs/{name}")
    by_type = dict(zip(types, schemas, strict=True))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The records of Tufline's topics",
        "description": f"Versions {records.SCHEMA_VERSION} to {records.NEWEST_SCHEMA} of the schema. "
        "Validate a record against #/properties/<topic>.",
        "type": "object",
        "properties": {
            topic: {"description": channels.CHANNELS[topic].description, "anyOf": [by_type[kind] for kind in kinds]}
            for topic, kinds in BY_TOPIC.items()
        },
        "$defs": components,
    }


def make_event() -> dict[str, Any]:
    """Make the JSON Schema of an event in structured mode."""
    (schema,), components = json_schema.describe([events.Event], ref_template="#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "An event of a repository",
        "description": "A CloudEvent in structured mode, as a record of the topic inbox; see docs/how-to/inbox.md.",
        **schema,
        "$defs": components,
    }


def make_all() -> dict[str, str]:
    """Make every file: name to content."""
    contents = {"records.json": make_records(), "event.json": make_event(), "openapi.json": routes.description()}
    as_json = {name: json.dumps(content, indent=2, sort_keys=True) + "\n" for name, content in contents.items()}
    asyncapi = yaml.dump(channels.make(), Dumper=_Plain, sort_keys=False, allow_unicode=True, width=120)
    return {**as_json, "asyncapi.yaml": asyncapi}


class _Plain(yaml.SafeDumper):  # type: ignore[misc]  # PyYAML has no types here
    """Writes repeated values in full, without anchors."""

    def ignore_aliases(self, _: Any) -> bool:
        return True


def main() -> int:
    """Write the files, or check them."""
    drifted = [name for name, content in make_all().items() if not (SCHEMAS / name).exists() or (SCHEMAS / name).read_text() != content]
    if "--check" in sys.argv[1:]:
        for name in drifted:
            print(f"schemas/{name} is out of date: run make schemas")
        return 1 if drifted else 0
    SCHEMAS.mkdir(exist_ok=True)
    for name, content in make_all().items():
        (SCHEMAS / name).write_text(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
