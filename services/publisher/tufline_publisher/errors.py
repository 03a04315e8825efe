"""Errors of the publisher.

    TuflineError
    └── PublisherError
        ├── UntrustedError           a file is not signed by the keys that are known now; keys that come later may change that
        └── FilesLostError           files have vanished from the origin: the log has to be read from its beginning

Each is met by trying again, and shown by the publisher's health meanwhile.
"""

from typing import ClassVar

from tufline.errors import MetadataError, TuflineError


class PublisherError(TuflineError):
    """Base of the publisher's own errors."""


class UntrustedError(PublisherError, MetadataError):
    """A file of the log is well-formed, and not signed by the keys that are known now; under keys that come later it may be."""

    retriable: ClassVar[bool] = True


class FilesLostError(PublisherError):
    """Files that the publisher had put have vanished from the origin: they are put again, from the beginning of the log."""

    retriable: ClassVar[bool] = True
