"""Errors of the signer.

    TuflineError
    └── SignerError
        ├── InconsistentLogError     the log contradicts itself
        └── AuditError               the use of a key can't be recorded

Each is met by trying again, and shown by the signer's health meanwhile.
"""

from typing import ClassVar

from tufline.errors import TuflineError


class SignerError(TuflineError):
    """Base of the signer's own errors."""


class InconsistentLogError(SignerError):
    """The log contradicts itself; a human has to look. The worker tries again, in case it was read half."""

    retriable: ClassVar[bool] = True


class AuditError(SignerError):
    """The use of a key can't be recorded, so its signatures are not used. It goes on by itself when it can."""

    retriable: ClassVar[bool] = True
