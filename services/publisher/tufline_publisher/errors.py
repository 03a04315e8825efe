"""Errors of the publisher.

TuflineError
└── PublisherError
└── ForeignOriginError       the origin holds another repository, or a newer state than the log
"""

from typing import ClassVar

from tufline.errors import TuflineError


class PublisherError(TuflineError):
    """Base of the publisher's own errors."""


class ForeignOriginError(PublisherError):
    """The origin holds what this log has not made, or not yet: nothing may be written over it."""

    retriable: ClassVar[bool] = True
