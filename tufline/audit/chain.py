"""Making a chain: each record repeats the hash of the previous one.

In: the signatures and the time. Out: the records' bytes, in order. No I/O, no clock.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from tufline.audit.records import NO_HASH, Anchor, AuditBegin, AuditEnd, AuditUse, Requester, SignedDigest, seal

PROCESS: Final = "signer"
"""The requester of records that belong to the whole process and not to a partition."""

_USER_INFO: Final = re.compile(r"(?<=//)[^/@]*@")
_SECRET_VALUE: Final = re.compile(r"(?i)([?&;][^=&;#]*(?:pin|pass|secret|token|credential)[^=&;#]*=)[^&;#]*")


def without_secrets(uri: str) -> str:
    """Remove the secrets from the URI of a key.

    Args:
        uri: such as ``vault:transit/tufline#3`` or ``pkcs11:object=a?pin-value=1234``.

    Returns:
        The URI without user, password, PIN or token.
    """
    return _SECRET_VALUE.sub(r"\g<1>…", _USER_INFO.sub("…@", uri))


class Chain:
    """Makes the records of one process, in order."""

    def __init__(self, chain: str, host: str, pid: int) -> None:
        """Start without records.

        Args:
            chain: the chain's name, which no other chain has.
            host: the machine's host name.
            pid: the process id.
        """
        self.name = chain
        self._host = host
        self._pid = pid
        self._number = 0
        self._previous = NO_HASH

    def begin(self, now: datetime, after: Anchor | None) -> bytes:
        """Make the first record.

        Args:
            now: a time with a time zone.
            after: the newest record of the topic, if there is one.

        Returns:
            The record.
        """
        return self._add(AuditBegin(**self._link(now, PROCESS), after=after))

    def use(self, now: datetime, part: str, keyid: str, uri: str, signatures: Sequence[SignedDigest]) -> bytes:
        """Make the record of a call of a key.

        Args:
            now: a time with a time zone.
            part: the part of the process that asked for the signatures.
            keyid: the key's id.
            uri: the URI of the private key; secrets in it are removed.
            signatures: the signatures that the call returned.

        Returns:
            The record.
        """
        return self._add(AuditUse(**self._link(now, part), keyid=keyid, key=without_secrets(uri), signatures=list(signatures)))

    def end(self, now: datetime) -> bytes:
        """Make the last record.

        Args:
            now: a time with a time zone.

        Returns:
            The record.
        """
        return self._add(AuditEnd(**self._link(now, PROCESS)))

    def _link(self, now: datetime, part: str) -> dict[str, Any]:
        return {
            "chain": self.name,
            "number": self._number,
            "previous": self._previous,
            "time": now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "requester": Requester(self._host, self._pid, part),
        }

    def _add(self, record: AuditBegin | AuditUse | AuditEnd) -> bytes:
        value, self._previous = seal(record)
        self._number += 1
        return value
