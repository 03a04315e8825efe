"""Errors of the library.

    TuflineError
    ├── InvalidInputError            what was given can't be accepted: the message says what to change
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
    ├── RecordError                  a record of the log has a form that no version knows
    │   └── SchemaError              a record of the log has a newer schema: upgrade
    ├── BusError                     the bus can't do it
    │   ├── BusUnreachableError      it does not answer, or is not ready
    │   ├── PushbackError            not now: try again after ``retry_after`` seconds
    │   ├── FencedError              another writer took over this writer id
    │   ├── RecordGoneError          the record at this offset is not the one asked for (any more)
    │   ├── RecordUnreadableError    the bytes of the record at this offset are damaged
    │   └── BusBusyError             the log is open in another process
    ├── InputLostError               records are gone that were not applied: people must accept the loss
    ├── LogDamagedError              what the log must keep is gone from it
    ├── ServerError                  a server's REST API refused a request, or its answer is of no use
    │   ├── ServerUnreachableError   it does not answer, or is not ready
    │   └── UnknownTaskError         it does not know a task
    ├── EventRejectedError           an event that was sent to the inbox is rejected
    ├── NotLiveYetError              it took longer than allowed; it may still become live
    ├── KeyUnavailableError          a key can't be used
    │   └── KeyUnreachableError      its provider does not answer, or is not ready
    └── StoreError                   the origin can't do it
        ├── StoreChangedError        the origin is not as it was when it was looked at
        ├── StoreBusyError           another process keeps the origin locked
        └── ForeignOriginError       the origin is another log's, or is ahead of this one

``advice`` says what to do, where the message does not. Every class carries ``retriable``: whether the same call may succeed later without
anybody changing anything. That bit decides between trying again and a dead letter.
"""

from typing import ClassVar


class TuflineError(Exception):
    """Base of all errors that Tufline raises on purpose."""

    retriable: ClassVar[bool] = False

    def __init__(self, *args: object, advice: str = "") -> None:
        """Make an error.

        Args:
            *args: the message.
            advice: what to do; empty where the message says it.
        """
        super().__init__(*args)
        self.advice = advice


class InvalidInputError(TuflineError, ValueError):
    """What was given can't be accepted; the message says what to change."""


class InvalidTargetError(InvalidInputError):
    """A target's path, length, hashes or custom is not acceptable."""


class InvalidBootstrapError(InvalidInputError):
    """A bootstrap payload is not acceptable."""


class InvalidUpdateError(InvalidInputError):
    """A new version of root or targets is not acceptable."""


class InvalidCursorError(InvalidInputError):
    """A text is not a task id of this repository."""


class InvalidEventError(InvalidInputError):
    """A record of ``inbox`` is no event that can be accepted.

    Args:
        message: what to change.
        source: of the event; empty where that can't be read.
        event_id: of the event; empty where that can't be read.
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
    """Metadata that a TUF client would refuse: signature, version, hash or form."""


class UnreadableMetadataError(MetadataError):
    """Root or targets that python-tuf reads and no service can use: they could never be published."""


class RecordError(TuflineError):
    """A record of the log has a form that no version of Tufline knows."""


class SchemaError(RecordError):
    """A record of the log has a newer schema: an upgraded Tufline reads it, so nothing may go on past it until then."""


class BusError(TuflineError):
    """The bus can't do what was asked; trying again may help."""

    retriable = True


class BusUnreachableError(BusError):
    """The bus does not answer, or is not ready."""


class PushbackError(BusError):
    """The log takes no more for now.

    Args:
        message: what is full.
        retry_after: after how many seconds to try again.
    """

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class FencedError(BusError):
    """Another writer has taken over this writer id: this one must stop writing at once."""

    retriable = False


class RecordGoneError(BusError):
    """The record at an offset is gone, or is not the one that was asked for."""

    retriable = False


class RecordUnreadableError(BusError):
    """The bytes of one record can't be decoded, and trying again gives the same; ``Reader.seek`` reads on after it.

    Args:
        topic: without the prefix.
        partition: from 0.
        offset: of the record; where a whole batch is damaged, of its first record that was asked for.
        reason: what the decoder says.
    """

    retriable = False

    def __init__(self, topic: str, partition: int, offset: int, reason: str) -> None:
        super().__init__(
            f"the record at {topic}/{partition} offset {offset} can't be decoded ({reason}): "
            "it was damaged on its way or on the disk, so restore it from a replica or a backup"
        )
        self.topic = topic
        self.partition = partition
        self.offset = offset


class BusBusyError(BusError):
    """The embedded log is open in another process."""

    retriable = False


class InputLostError(TuflineError):
    """Records of an input are gone from the log before they were applied. Nothing of the partition is applied until that is accepted.

    Args:
        topic: without the prefix.
        partition: from 0.
        first: the lowest offset that was not applied.
        below: where the log starts now.
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
    """A server's REST API refused a request, or its answer is of no use."""


class ServerUnreachableError(ServerError):
    """A server does not answer, or is not ready."""

    retriable = True


class UnknownTaskError(ServerError):
    """A server does not know a task: it was accepted too long ago, or by another server."""


class EventRejectedError(TuflineError):
    """An event that was sent to the inbox is rejected, and nothing of it will become live; the message says what to change."""


class NotLiveYetError(TuflineError):
    """What was sent is not live within the time allowed; it may still become so."""

    retriable = True


class KeyUnavailableError(TuflineError):
    """A private key can't be used: missing, unreadable, or its provider does not answer."""

    retriable = True


class KeyUnreachableError(KeyUnavailableError):
    """The provider of a key does not answer, or is not ready: nobody knows whether the key can be used."""


class StoreError(TuflineError):
    """The origin can't store or give what was asked."""

    retriable = True


class StoreChangedError(StoreError):
    """Something else is at the origin than when it was looked at: somebody else has written there. Look again."""


class StoreBusyError(StoreError):
    """Another process keeps the origin locked, for much longer than replacing a file takes."""


class ForeignOriginError(StoreError):
    """The origin belongs to another log, or holds what this log has not made, or not yet: nothing may be written there."""
