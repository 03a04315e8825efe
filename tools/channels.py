"""The topics as AsyncAPI 3 describes them (``schemas/asyncapi.yaml``): from the topics, their settings on Kafka and their records' types.

What is written here by hand is who writes and reads a topic, its key and its meaning; a test runs the services and compares.
"""

from dataclasses import dataclass
from typing import Any, Final

import tufline
from tufline import clock, json_schema, records
from tufline.audit.records import AuditBegin, AuditEnd, AuditUse
from tufline.bus.kafka.topic_admin import settings_of
from tufline.bus.topic import Cleanup, Topic
from tufline.config.settings import DEFAULT_PARTITIONS
from tufline.records import events, receipts, rejected, topics
from tufline.records.metadata import VECTOR_HEADER, VERSION_HEADER

BINDING: Final = "0.5.0"
REPLICAS: Final = 3

REPOSITORY: Final = "repository"
OPERATOR: Final = "operator"
INGEST: Final = "ingest"
SIGNER: Final = "signer"
PUBLISHER: Final = "publisher"


@dataclass(frozen=True, slots=True)
class Channel:
    """What can't be read from the code of a topic.

    Attributes:
        description: what stands in it.
        partitions: how many, in words.
        key: of a record.
        senders: who writes it.
        receivers: who reads it.
        messages: names in ``components.messages``.
    """

    description: str
    partitions: str
    key: str
    senders: tuple[str, ...]
    receivers: tuple[str, ...]
    messages: tuple[str, ...]


P: Final = "P (bus.partitions)"

CHANNELS: Final[dict[str, Channel]] = {
    topics.INBOX: Channel(
        "Events of repositories, written by themselves. See docs/how-to/inbox.md.",
        P,
        "The source of the event; a producer may choose another one, as long as all events of a source are in one partition.",
        (REPOSITORY, OPERATOR),
        (INGEST,),
        ("StructuredEvent", "BinaryEvent"),
    ),
    topics.REJECTED: Channel(
        "Records of inbox that are no acceptable event, byte for byte, with the reason behind their own headers; and marks of what was "
        "replayed.",
        f"{P}; the same as in inbox",
        "As in inbox; of a mark none.",
        (INGEST, OPERATOR),
        (OPERATOR,),
        ("Rejected", "Replayed"),
    ),
    topics.INBOX_PROGRESS: Channel(
        "How far each partition of inbox is moved, and which events were accepted lately. Partition i is written by the one writer that "
        "moves partition i of inbox.",
        P,
        "@claim, or @n for one of the last transactions.",
        (INGEST,),
        (INGEST,),
        ("InboxProgress", "Claim"),
    ),
    topics.ARTIFACTS: Channel(
        "Accepted changes, in their order.",
        f"{P}; by the bin of the path",
        "Names the request.",
        (INGEST,),
        (INGEST, SIGNER),
        ("Changes",),
    ),
    topics.METADATA: Channel(
        "The repository's metadata: the exact bytes of one file each, in order.",
        "1",
        "The role; '<version>.root' for a root, so that all roots stay.",
        (SIGNER,),
        (INGEST, SIGNER, PUBLISHER),
        ("MetadataFile",),
    ),
    topics.HEADS: Channel(
        "The newest version of each role, and how far its writer has come.",
        "P + 1; the last one is the commits'",
        "The role; @progress; @claim.",
        (SIGNER,),
        (INGEST, SIGNER, PUBLISHER),
        ("Head", "Progress", "Committed", "Claim"),
    ),
    topics.PUBLISHED: Channel(
        "What each origin shows.",
        "1",
        "Name of the origin.",
        (PUBLISHER,),
        (INGEST, PUBLISHER, REPOSITORY),
        ("Published",),
    ),
    topics.RECEIPTS: Channel(
        "What became of each event of inbox, and which changes did not simply happen.",
        f"{P}; the same as in inbox (EventReceipt), and as in artifacts (ChangeReceipt)",
        "Of an event its source; of a change its request.",
        (INGEST, SIGNER),
        (INGEST, REPOSITORY),
        ("ChangeReceipt", "EventReceipt"),
    ),
    topics.ADMIN: Channel(
        "What people settled: the bootstrap, that it has begun, the versions of root and targets that they gave since, and the losses of "
        "records that they accepted (docs/how-to/lost-input.md).",
        "1",
        "bootstrap; begun; root or targets; accepted-loss",
        (INGEST, SIGNER, OPERATOR),
        (INGEST, SIGNER, PUBLISHER),
        ("Bootstrap", "Begun", "NewMetadata", "AcceptedLoss"),
    ),
    topics.AUDIT: Channel(
        "Every use of an online key, on record before its signatures are used. See docs/how-to/audit.md.",
        "1",
        "Name of the chain: one for each life of a signer.",
        (SIGNER,),
        (SIGNER, OPERATOR),
        ("AuditBegin", "AuditUse", "AuditEnd"),
    ),
}

TYPES: Final = (
    events.Event,
    events.EventData,
    records.Changes,
    records.Head,
    records.Progress,
    records.Committed,
    records.Claim,
    records.InboxProgress,
    records.Published,
    receipts.ChangeReceipt,
    receipts.EventReceipt,
    records.Bootstrap,
    records.Begun,
    records.NewMetadata,
    records.AcceptedLoss,
    AuditBegin,
    AuditUse,
    AuditEnd,
)

_HEADERS: Final[dict[str, dict[str, Any]]] = {
    "StructuredEvent": {
        "content-type": {
            "type": "string",
            "pattern": f"^{events.STRUCTURED_TYPE}",
            "description": "Says that the value is a whole CloudEvent.",
        }
    },
    "BinaryEvent": {
        **{
            f"{events.ATTRIBUTE_PREFIX}{name}": {
                "type": "string",
                "description": f"The attribute {name} of the CloudEvent; see Event.",
            }
            for name in events.REQUIRED
        },
        "content-type": {"type": "string", "description": "The media type of the value, which is JSON."},
    },
    "MetadataFile": {
        VERSION_HEADER: {"type": "string", "description": "Version of the role, in decimal."},
        VECTOR_HEADER: {"type": "string", "description": "On a timestamp, how far its commit goes (Vector, as JSON)."},
    },
    "Rejected": {
        rejected.REASON_HEADER: {"type": "string", "description": "Why it was rejected, for people."},
        rejected.TOPIC_HEADER: {"type": "string", "description": "The topic that the record was in: inbox."},
        rejected.PARTITION_HEADER: {"type": "string", "description": "Partition of inbox, in decimal."},
        rejected.OFFSET_HEADER: {"type": "string", "description": "Offset in inbox, in decimal."},
        rejected.CUT_HEADER: {"type": "string", "description": "Size of the whole record, where only its beginning is kept."},
    },
    "Replayed": {
        rejected.REPLAYED_HEADER: {
            "type": "string",
            "pattern": "^[0-9]+-[0-9]+$",
            "description": "First and last offset of the records in this partition that are in inbox again; those that are cut are not.",
        },
    },
}
_REQUIRED_HEADERS: Final[dict[str, list[str]]] = {
    "BinaryEvent": [f"{events.ATTRIBUTE_PREFIX}{name}" for name in events.REQUIRED],
    "MetadataFile": [VERSION_HEADER],
    "Rejected": [rejected.REASON_HEADER, rejected.TOPIC_HEADER, rejected.PARTITION_HEADER, rejected.OFFSET_HEADER],
    "Replayed": [rejected.REPLAYED_HEADER],
}
_PAYLOADS: Final[dict[str, dict[str, Any]]] = {
    "StructuredEvent": {"$ref": "#/components/schemas/Event"},
    "BinaryEvent": {"$ref": "#/components/schemas/EventData"},
    "MetadataFile": {
        "type": "object",
        "description": "A metadata file, as the specification of TUF describes it.",
        "required": ["signatures", "signed"],
        "properties": {
            "signatures": {"type": "array", "description": "The keyid and the signature of each signer."},
            "signed": {"type": "object", "description": "The role's metadata, which is what the signatures are made of."},
        },
    },
    "Rejected": {"description": "The bytes of the inbox record."},
    "Replayed": {"description": "Empty."},
}
_CONTENT_TYPES: Final = {
    "StructuredEvent": events.STRUCTURED_TYPE,
    "Rejected": "application/octet-stream",
    "Replayed": "application/octet-stream",
}


def make() -> dict[str, Any]:
    """Make the document.

    Returns:
        It, to be written as YAML.
    """
    _, schemas = json_schema.describe(TYPES, ref_template="#/components/schemas/{name}")
    every = topics.topics(DEFAULT_PARTITIONS)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Tufline's topics",
            "version": tufline.__version__,
            "description": "The log that all services share. Generated from the code (make schemas). Repositories write inbox, and learn "
            "from receipts and published what became of their events; all else is Tufline's own.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "kafka": {
                "host": "{bootstrap}",
                "protocol": "kafka",
                "description": "Apache Kafka 4, as bus.url names it.",
                "variables": {"bootstrap": {"default": "127.0.0.1:9092"}},
            }
        },
        "channels": {name: _channel(every[name], channel) for name, channel in CHANNELS.items()},
        "operations": dict(_operation(name, action, who) for name, action, who in operations()),
        "components": {
            "messages": {name: _message(name) for channel in CHANNELS.values() for name in channel.messages},
            "schemas": _without_discriminator(schemas),
        },
    }


def operations() -> list[tuple[str, str, str]]:
    """List who does what.

    Returns:
        Topic, ``send`` or ``receive``, and who.
    """
    return [
        (name, action, who)
        for name, channel in CHANNELS.items()
        for action, some in (("send", channel.senders), ("receive", channel.receivers))
        for who in some
    ]


def _channel(topic: Topic, channel: Channel) -> dict[str, Any]:
    return {
        "address": f"{{prefix}}{topic.name}",
        "title": topic.name,
        "description": f"{channel.description} Partitions: {channel.partitions}. Kept: {_kept(topic)}.",
        "servers": [{"$ref": "#/servers/kafka"}],
        "parameters": {"prefix": {"default": "tufline.", "description": "kafka.prefix: one for each repository."}},
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in channel.messages},
        "bindings": {"kafka": {"partitions": topic.partitions, "topicConfiguration": _configuration(topic), "bindingVersion": BINDING}},
    }


def _kept(topic: Topic) -> str:
    match topic.cleanup:
        case Cleanup.COMPACT:
            return "the newest record of each key, for ever"
        case Cleanup.DELETE:
            return f"{topic.seconds / clock.DAY_SECONDS:g} days"
        case Cleanup.KEEP:
            return KEPT[topic.name]


KEPT: Final = {
    topics.INBOX: "until it is moved, and seven days at least",
    topics.ARTIFACTS: "until it is live, and thirty days at least",
    topics.ADMIN: "for ever",
    topics.AUDIT: "for ever",
}


def _configuration(topic: Topic) -> dict[str, Any]:
    settings = settings_of(topic, REPLICAS)
    numbers: dict[str, Any] = {
        name: int(settings[name]) for name in ("retention.ms", "retention.bytes", "max.message.bytes") if name in settings
    }
    return {"cleanup.policy": [settings["cleanup.policy"]], **numbers}


def _operation(topic: str, action: str, who: str) -> tuple[str, dict[str, Any]]:
    channel = f"#/channels/{topic}"
    return f"{who}.{action}.{topic}", {
        "action": action,
        "title": f"{who}: {action} {topic}",
        "channel": {"$ref": channel},
        "tags": [{"name": who}],
        "messages": [{"$ref": f"{channel}/messages/{name}"} for name in CHANNELS[topic].messages],
    }


def _without_discriminator(schema: Any) -> Any:
    # OpenAPI's; in AsyncAPI the word means something else. The tags are in the schemas anyway.
    if isinstance(schema, dict):
        return {name: _without_discriminator(inner) for name, inner in schema.items() if name != "discriminator"}
    return [_without_discriminator(inner) for inner in schema] if isinstance(schema, list) else schema


def _message(name: str) -> dict[str, Any]:
    keys = {channel.key for channel in CHANNELS.values() if name in channel.messages}
    headers = _HEADERS.get(name)
    return {
        "name": name,
        "title": name,
        "contentType": _CONTENT_TYPES.get(name, "application/json"),
        "payload": _PAYLOADS.get(name) or {"$ref": f"#/components/schemas/{name}"},
        **({"headers": {"type": "object", "properties": headers, "required": _REQUIRED_HEADERS.get(name, [])}} if headers else {}),
        "bindings": {"kafka": {"key": {"type": "string", "description": " / ".join(sorted(keys))}, "bindingVersion": BINDING}},
    }
