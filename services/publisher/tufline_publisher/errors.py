"""Errors of the publisher.

    TuflineError
    └── PublisherError
        ├── ReadAgainError           what was read has to be read again, with the keys that are known now
        └── FilesLostError           files have vanished from the origin: the log has to be read from its beginning

Each is met by trying again, and shown by the publisher's health meanwhile.
"""

from typing import ClassVar

from tufline.errors import TuflineError


class PublisherError(TuflineError):
    """Base of the publisher's own errors."""


class ReadAgainError(PublisherError):
    """What was read has to be read again, with the keys that are known now."""

    retriable: ClassVar[bool] = True


class FilesLostError(PublisherError):
    """Files that the publisher had put have vanished from the origin: they are put again, from the beginning of the log."""

    retriable: ClassVar[bool] = True
