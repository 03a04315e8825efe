"""Errors of the library.

    TuflineError
    ├── InvalidInputError            the input can't be accepted: the message says what to change
    │   ├── InvalidTargetError       a target: its path, length, hashes or custom
    │   ├── InvalidBootstrapError    a bootstrap payload
    │   ├── InvalidUpdateError       a new version of root or targets
    │   ├── InvalidCursorError       a task id
    │   ├── InvalidEventError        an event of the inbox
    │   ├── InvalidAddressError      the URL of a server, or a header to send to it
    │   └── ConfigError              the configuration
    ├── BinFullError                 a change would make a bin larger than clients accept
    ├── MetadataError                metadata that a client would refuse
    │   └── UnreadableMetadataError  metadata that no service can read
    ├── RecordError                  a record of the log is not valid in any schema version
    │   └── SchemaError              a record of the log has a newer schema: upgrade
    ├── BusError                     an operation on the bus failed
    │   ├── BusUnreachableError      the bus does not answer, or is not ready
    │   ├── PushbackError            the log accepts no more for now: try again after ``retry_after`` seconds
    │   ├── FencedError              another writer took over this writer id
    │   ├── RecordGoneError          the expected record is not, or no longer, at this offset
    │   ├── RecordUnreadableError    the bytes of the record at this offset are damaged
    │   └── BusBusyError             the log is open in another process
    ├── InputLostError               records are gone that were not applied: people must accept the loss
    ├── LogDamagedError              records that the log must keep are gone
    ├── ServerError                  a server refused a request, or its response is not valid
    │   ├── ServerUnreachableError   the server does not answer, or is not ready
    │   └── UnknownTaskError         the server does not know the task
    ├── EventRejectedError           ingest rejected an event of the inbox
    ├── NotLiveYetError              the changes are not live within the time allowed; they may still become live
    ├── KeyUnavailableError          a key can't be used
    │   └── KeyUnreachableError      its provider does not answer, or is not ready
    └── StoreError                   an operation on the origin failed
        ├── StoreChangedError        the origin has changed since it was last read
        ├── StoreBusyError           another process keeps the origin locked
        └── ForeignOriginError       the origin belongs to another log, or is ahead of this one

``advice`` says what to do if the message does not. Every class has ``retriable``: whether the same call may succeed later without any
change. It decides between a retry and a dead letter.
"""

from typing import ClassVar


class TuflineError(Exception):
    """The base of all errors that Tufline raises deliberately."""

    retriable: ClassVar[bool] = False

    def __init__(self, *args: object, advice: str = "") -> None:
        """Make an error.

        Args:
            *args: the message.
            advice: what to do; empty if the message says it.
        """
        super().__init__(*args)
        self.advice = advice


class InvalidInputError(TuflineError, ValueError):
    """The input can't be accepted; the message says what to change."""


class InvalidTargetError(InvalidInputError):
    """A target's path, length, hashes or custom is not valid."""


class InvalidBootstrapError(InvalidInputError):
    """A bootstrap payload is not valid."""


class InvalidUpdateError(InvalidInputError):
    """A new version of root or targets is not valid."""


class InvalidCursorError(InvalidInputError):
    """A text is not a task id of this repository."""


class InvalidEventError(InvalidInputError):
    """A record of ``inbox`` is not a valid event.

    Args:
        message: what to change.
        source: the event's source; empty if it can't be read.
        event_id: the event's id; empty if it can't be read.
    """

    def __init__(self, message: str, source: str = "", event_id: str = "") -> None:
        super().__init__(message)
        self.source = source
        self.event_id = event_id


class InvalidAddressError(InvalidInputError):
    """The URL of a server, or a header to send to it, is not valid."""


class ConfigError(InvalidInputError):
    """The configuration is wrong or incomplete."""


class BinFullError(TuflineError):
    """A change would make a bin larger than TUF clients accept."""


class MetadataError(TuflineError):
    """Metadata that a TUF client would refuse because of its signatures, version, hash or format."""


class UnreadableMetadataError(MetadataError):
    """Root or targets that python-tuf can read but the services can't, so that they could never be published."""


class RecordError(TuflineError):
    """A record of the log has a form that no version of Tufline knows."""


class SchemaError(RecordError):
    """A record of the log has a newer schema. A newer Tufline can read it, so until the upgrade nothing may skip it."""


class BusError(TuflineError):
    """An operation on the bus failed; a retry may help."""

    retriable = True


class BusUnreachableError(BusError):
    """The bus does not answer, or is not ready."""


class PushbackError(BusError):
    """The log accepts no more for now.

    Args:
        message: which limit is reached.
        retry_after: how many seconds to wait before a retry.
    """

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class FencedError(BusError):
    """Another writer has taken over this writer id: this one must stop writing at once."""

    retriable = False


class RecordGoneError(BusError):
    """The record at an offset is gone, or is not the expected one."""

    retriable = False


class RecordUnreadableError(BusError):
    """The bytes of a record can't be decoded, and a retry does not help; ``Reader.seek`` continues after it.

    Args:
        topic: without the prefix.
        partition: from 0.
        offset: the record's; if a whole batch is damaged, that of its first requested record.
        reason: the decoder's message.
    """

    retriable = False

    def __init__(self, topic: str, partition: int, offset: int, reason: str) -> None:
        super().__init__(
            f"the record at {topic}/{partition} offset {offset} can't be decoded ({reason}): "
            "it was damaged in transit or on the disk, so restore it from a replica or a backup"
        )
        self.topic = topic
        self.partition = partition
        self.offset = offset


class BusBusyError(BusError):
    """The embedded log is open in another process."""

    retriable = False


class InputLostError(TuflineError):
    """Records of an input were lost before they were applied. Nothing more of the partition is applied until people accept the loss.

    Args:
        topic: without the prefix.
        partition: from 0.
        first: the lowest offset that was not applied.
        below: the offset at which the partition starts now.
    """

    def __init__(self, topic: str, partition: int, first: int, below: int) -> None:
        lost = f"the records of {topic} {partition} from offset {first} to {below - 1} are gone from the log, and were not applied"
        todo = f"nothing new is applied there until the loss is accepted: tufline accept-loss {topic} {partition}"
        super().__init__(f"{lost}; {todo} (docs/how-to/lost-input.md)")
        self.topic = topic
        self.partition = partition
        self.first = first
        self.below = below


class LogDamagedError(TuflineError):
    """Records that the log must keep indefinitely are gone from it; the message says which, and what to do."""


class ServerError(TuflineError):
    """A server's REST API refused a request, or its response is not valid."""


class ServerUnreachableError(ServerError):
    """A server does not answer, or is not ready."""

    retriable = True


class UnknownTaskError(ServerError):
    """A server does not know a task: it was accepted too long ago, or by another server."""


class EventRejectedError(TuflineError):
    """Ingest rejected an event of the inbox; none of its changes will become live. The message says what to change."""


class NotLiveYetError(TuflineError):
    """The changes are not live within the time allowed; they may still become live."""

    retriable = True


class KeyUnavailableError(TuflineError):
    """A private key can't be used: missing, unreadable, or its provider does not answer."""

    retriable = True


class KeyUnreachableError(KeyUnavailableError):
    """The provider of a key does not answer, or is not ready, so it is unknown whether the key can be used."""


class StoreError(TuflineError):
    """An operation on the origin failed."""

    retriable = True


class StoreChangedError(StoreError):
    """Another process has changed the origin since it was last read. Read it again."""


class StoreBusyError(StoreError):
    """Another process has kept the origin locked for much longer than replacing a file takes."""


class ForeignOriginError(StoreError):
    """The origin belongs to another log, or has files that do not come from this log: nothing may be written there."""
