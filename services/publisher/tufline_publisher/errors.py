"""Errors of the publisher.

TuflineError
└── PublisherError
├── ReadAgainError           what was read has to be read again, with the keys that are known now
└── ForeignOriginError       the origin holds another repository, or a newer state than the log
"""

from typing import ClassVar

from tufline.errors import TuflineError


class PublisherError(TuflineError):
    """Base of the publisher's own errors."""


class ReadAgainError(PublisherError):
    """What was read has to be read again, with the keys that are known now."""

    retriable: ClassVar[bool] = True


class ForeignOriginError(PublisherError):
    """The origin holds what this log has not made, or not yet: nothing may be written over it."""

    retriable: ClassVar[bool] = True
