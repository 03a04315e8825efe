"""Errors of the publisher.

    TuflineError
    └── PublisherError
        ├── UntrustedError           a file is not signed by the keys known so far; it may be valid under later keys
        │   └── EarlyError           the targets that makes it valid may follow at once
        │       └── UndelegatedError no targets delegates to the file's role: clients do not read it, or not yet
        └── FilesLostError           files have vanished from the origin: the log has to be read again from its start

The publisher retries after each of them, and its health reports the error meanwhile.
"""

from typing import ClassVar

from tufline.errors import MetadataError, TuflineError


class PublisherError(TuflineError):
    """Base of the publisher's own errors."""


class UntrustedError(PublisherError, MetadataError):
    """A file of the log is well-formed, but is not signed by the keys known so far; it may be valid under later keys."""

    retriable: ClassVar[bool] = True


class EarlyError(UntrustedError):
    """A file fits to the targets that the signer writes next, as far as the publisher can tell: it is not a problem if it waits."""


class UndelegatedError(EarlyError):
    """No known targets delegates to the role of a file: the role is new, or was deleted. Clients do not read the file."""


class FilesLostError(PublisherError):
    """Files that the publisher uploaded have vanished from the origin: it uploads them again from the start of the log."""

    retriable: ClassVar[bool] = True
