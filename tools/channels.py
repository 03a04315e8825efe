"""The topics as AsyncAPI 3 describes them (``schemas/asyncapi.yaml``): from the topics, their settings on Kafka and their records' types.

Only each topic's writers and readers, its key and its meaning are written by hand here; a test compares them with running services.
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
    """The properties of a topic that can't be read from its code.

    Attributes:
        description: the topic's content.
        partitions: number of partitions, in words.
        key: the key of a record, in words.
        senders: the services that write it.
        receivers: the services that read it.
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
        "Events that repositories write themselves. See docs/how-to/inbox.md.",
        P,
        "The source of the event; a producer may choose another one, as long as all events of a source are in one partition.",
        (REPOSITORY, OPERATOR),
        (INGEST,),
        ("StructuredEvent", "BinaryEvent"),
    ),
    topics.REJECTED: Channel(
        "Rejected records of inbox, byte for byte, with the reason after their own headers; and marks of the records that were replayed.",
        f"{P}; the same as in inbox",
        "As in inbox; a mark has none.",
        (INGEST, OPERATOR),
        (OPERATOR,),
        ("Rejected", "Replayed"),
    ),
    topics.INBOX_PROGRESS: Channel(
        "How far each partition of inbox has been moved, and which events were accepted recently. The only writer of partition i is the "
        "one that moves partition i of inbox.",
        P,
        "@claim, or @n for one of the last transactions.",
        (INGEST,),
        (INGEST,),
        ("InboxProgress", "Claim"),
    ),
    topics.ARTIFACTS: Channel(
        "Accepted changes, in order.",
        f"{P}; by the bin of the path",
        "Id of the request.",
        (INGEST,),
        (INGEST, SIGNER),
        ("Changes",),
    ),
    topics.METADATA: Channel(
        "The repository's metadata, in order; each record has the exact bytes of one file.",
        "1",
        "The role; '<version>.root' for a root, so that all roots stay.",
        (SIGNER,),
        (INGEST, SIGNER, PUBLISHER),
        ("MetadataFile",),
    ),
    topics.HEADS: Channel(
        "The newest version of each role, the changes that are held, and the writer's progress.",
        "P + 1; the last one is for commits",
        "The role; @held.n for the n-th slot of a held change; @progress; @claim.",
        (SIGNER,),
        (INGEST, SIGNER, PUBLISHER),
        ("Head", "Progress", "Held", "Pending", "Proposed", "Committed", "Claim"),
    ),
    topics.PUBLISHED: Channel(
        "The published commit of each origin.",
        "1",
        "Name of the origin.",
        (PUBLISHER,),
        (INGEST, PUBLISHER, REPOSITORY),
        ("Published",),
    ),
    topics.RECEIPTS: Channel(
        "The result of each event of inbox, the changes that had no effect or were rejected, and what publishes released.",
        f"{P}; the same as in inbox (EventReceipt), and as in artifacts (ChangeReceipt, PublishReceipt)",
        "For an event its source; for a change its request; publish.",
        (INGEST, SIGNER),
        (INGEST, REPOSITORY),
        ("ChangeReceipt", "EventReceipt", "PublishReceipt"),
    ),
    topics.ADMIN: Channel(
        "Decisions of operators: the bootstrap and its start, the later versions of root and targets that they submitted with their "
        "signatures, new lifetimes and renewals, publishes of held changes, freezes, and the losses of records that they accepted "
        "(docs/how-to/lost-input.md).",
        "1",
        "bootstrap; begun; root or targets; signature; withdrawal; lifetimes; renewal; publish; freeze; accepted-loss",
        (INGEST, SIGNER, OPERATOR),
        (INGEST, SIGNER, PUBLISHER),
        (
            "Bootstrap",
            "BootstrapStarted",
            "NewMetadata",
            "Signature",
            "Withdrawal",
            "NewLifetimes",
            "Renewal",
            "Publish",
            "Freeze",
            "AcceptedLoss",
        ),
    ),
    topics.AUDIT: Channel(
        "Every use of an online key, recorded before its signatures are used. See docs/how-to/audit.md.",
        "1",
        "Name of the chain; each run of a signer has its own.",
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
    records.Held,
    records.Pending,
    records.Proposed,
    records.Committed,
    records.Claim,
    records.InboxProgress,
    records.Published,
    receipts.ChangeReceipt,
    receipts.EventReceipt,
    receipts.PublishReceipt,
    records.Bootstrap,
    records.BootstrapStarted,
    records.NewMetadata,
    records.Signature,
    records.Withdrawal,
    records.NewLifetimes,
    records.Publish,
    records.Freeze,
    records.Renewal,
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
            "description": "Indicates that the value is a whole CloudEvent.",
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
        VERSION_HEADER: {"type": "string", "description": "The role's version, in decimal."},
        VECTOR_HEADER: {"type": "string", "description": "On a timestamp, how far its commit goes (Vector, as JSON)."},
    },
    "Rejected": {
        rejected.REASON_HEADER: {"type": "string", "description": "Why it was rejected, for people."},
        rejected.TOPIC_HEADER: {"type": "string", "description": "The topic that the record was in: inbox."},
        rejected.PARTITION_HEADER: {"type": "string", "description": "Partition of inbox, in decimal."},
        rejected.OFFSET_HEADER: {"type": "string", "description": "Offset in inbox, in decimal."},
        rejected.CUT_HEADER: {"type": "string", "description": "Size of the whole record, if only its start is kept."},
    },
    "Replayed": {
        rejected.REPLAYED_HEADER: {
            "type": "string",
            "pattern": "^[0-9]+-[0-9]+$",
            "description": "First and last offset of the records of this partition that were replayed; truncated records were not.",
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
            "signed": {"type": "object", "description": "The role's metadata, which the signatures cover."},
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
    """Make the AsyncAPI document.

    Returns:
        The document, to be written as YAML.
    """
    _, schemas = json_schema.describe(TYPES, ref_template="#/components/schemas/{name}")
    every = topics.topics(DEFAULT_PARTITIONS)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Tufline's topics",
            "version": tufline.__version__,
            "description": "The log that all services share. Generated from the code (make schemas). Repositories write to inbox, and "
            "learn the results of their events from receipts and published; all other topics are internal to Tufline.",
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
    """List the operations on all topics.

    Returns:
        Topic, ``send`` or ``receive``, and the service.
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
            return "the newest record of each key, indefinitely"
        case Cleanup.DELETE:
            return f"{topic.seconds / clock.DAY_SECONDS:g} days"
        case Cleanup.KEEP:
            return KEPT[topic.name]


KEPT: Final = {
    topics.INBOX: "until a record is moved, and at least seven days",
    topics.ARTIFACTS: "until a record is live, and at least thirty days",
    topics.ADMIN: "indefinitely",
    topics.AUDIT: "indefinitely",
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
    # These names are OpenAPI's; in AsyncAPI they mean something else. The tags are in the schemas anyway.
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
