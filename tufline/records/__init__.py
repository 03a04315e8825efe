"""The records of every topic, as JSON on the log.

``schemas/records.json`` is generated from these types. A record has the version of its schema (``v``): logs are used for years, and during
a rolling upgrade old and new services read the same log. A reader refuses a version that it does not know, and ignores fields that it does
not know. So a record has a newer version only if a reader that ignores one of its fields would misunderstand it.

Each topic has a module of its own; this package has the names that most code needs. The topic ``metadata`` has the exact bytes of metadata
files instead; their attributes are in the records' headers (``tufline.records.metadata``). The events of ``inbox`` are in
``tufline.records.events``, their outcomes in ``tufline.records.receipts``.
"""

from tufline.records.admin import (
    ACCEPTED_LOSS_KEY,
    LIFETIMES_KEY,
    SIGNATURE_KEY,
    WITHDRAWAL_KEY,
    AcceptedLoss,
    AdminRecord,
    Bootstrap,
    BootstrapStarted,
    NewLifetimes,
    NewMetadata,
    Settings,
    Signature,
    Withdrawal,
    admin_decoder,
)
from tufline.records.artifacts import MAX_CHANGES_BYTES, Add, Changes, Part, Remove, changes_decoder, encode_change, encode_changes
from tufline.records.codec import (
    CURRENT_RULES,
    FIRST_RULES,
    NEWEST_SCHEMA,
    ONLINE_SCHEMA,
    PARTITION_BITS_SCHEMA,
    SCHEMA_VERSION,
    SIGNING_SCHEMA,
    Versioned,
    decode,
    decoder,
    encode,
)
from tufline.records.heads import CLAIM_KEY, PROGRESS_KEY, Claim, Committed, Head, HeadsRecord, Progress, heads_decoder
from tufline.records.inbox_progress import InboxProgress, InboxRecord, inbox_decoder
from tufline.records.published import FileRef, Published, published_decoder
from tufline.records.vector import Vector, encode_vector, vector_decoder

__all__ = [
    "ACCEPTED_LOSS_KEY",
    "CLAIM_KEY",
    "CURRENT_RULES",
    "FIRST_RULES",
    "LIFETIMES_KEY",
    "MAX_CHANGES_BYTES",
    "NEWEST_SCHEMA",
    "ONLINE_SCHEMA",
    "PARTITION_BITS_SCHEMA",
    "PROGRESS_KEY",
    "SCHEMA_VERSION",
    "SIGNATURE_KEY",
    "SIGNING_SCHEMA",
    "WITHDRAWAL_KEY",
    "AcceptedLoss",
    "Add",
    "AdminRecord",
    "Bootstrap",
    "BootstrapStarted",
    "Changes",
    "Claim",
    "Committed",
    "FileRef",
    "Head",
    "HeadsRecord",
    "InboxProgress",
    "InboxRecord",
    "NewLifetimes",
    "NewMetadata",
    "Part",
    "Progress",
    "Published",
    "Remove",
    "Settings",
    "Signature",
    "Vector",
    "Versioned",
    "Withdrawal",
    "admin_decoder",
    "changes_decoder",
    "decode",
    "decoder",
    "encode",
    "encode_change",
    "encode_changes",
    "encode_vector",
    "heads_decoder",
    "inbox_decoder",
    "published_decoder",
    "vector_decoder",
]
