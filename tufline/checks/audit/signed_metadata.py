"""Comparing metadata with records: an online signature without a record raises an alarm.

In: metadata files from anywhere, root and targets before the roles that they delegate to; then all records. Out: an ``AuditReport``.
The signatures are kept until their records have been read, so memory grows with the metadata and not with the history of the audit. No I/O.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from securesystemslib.signer import Key
from tuf.api.metadata import TOP_LEVEL_ROLE_NAMES, Delegations, Metadata, Root, Targets

from tufline.audit.records import PROBE_ROLE, AuditUse
from tufline.checks.audit.checks import AuditReport
from tufline.errors import MetadataError
from tufline.metadata import envelope
from tufline.metadata.key_uris import ONLINE_KEY_URI
from tufline.trust import roles

KEYID_SHOWN: Final = 12
"""How many characters of a keyid a message shows."""


@dataclass(slots=True)
class _Wanted:
    places: dict[tuple[str, int], str] = field(default_factory=dict)
    """Each role and version, with the place where the file was found."""
    signed_as: tuple[str, int] | None = None
    """The role and version under which a record lists these bytes."""


class Signatures:
    """The online signatures of metadata files, kept until their records have been read."""

    def __init__(self, report: AuditReport) -> None:
        """Start without files.

        Args:
            report: where findings go.
        """
        self._report = report
        self._keys: dict[str, Key] = {}
        self._named: set[str] = set()
        self._bins: set[str] = set()
        self._wanted: dict[tuple[str, str], _Wanted] = {}
        self._unused = 0

    def trust(self, metadata: Root | Targets) -> None:
        """Add the keys of root or targets. If two keys have the same keyid, the first one counts.

        Args:
            metadata: a root, or targets with delegations.
        """
        names = metadata if isinstance(metadata, Root) else metadata.delegations
        self.trust_keys({} if names is None else names.keys)
        if isinstance(names, Delegations):
            self._named |= {*(names.roles or ())}
            self._bins |= {names.succinct_roles.name_prefix} if names.succinct_roles is not None else set()

    def trust_keys(self, keys: Mapping[str, Key]) -> None:
        """Add other keys, such as those of custom roles that were deleted. If two keys have the same keyid, the first one counts.

        Args:
            keys: keyid to key.
        """
        for keyid, key in keys.items():
            self._keys.setdefault(keyid, key)

    def take(self, role: str, content: bytes, place: str) -> None:
        """Add the online signatures of a file.

        Args:
            role: the file's role.
            content: the file's bytes.
            place: where the file was found, for messages.
        """
        try:
            file = envelope.disassemble(content)
            version = envelope.read_common(file.signed).version
            signed = self._signed_bytes(role, content, bytes(file.signed))
        except MetadataError as error:
            self._report.find("metadata", f"{place} is not a metadata file: {error}")
            return
        if all(entry.keyid not in self._keys for entry in file.signatures):
            self._find_unknown(role, place)
        digest = envelope.sha256(signed)
        for entry in file.signatures:
            key = self._keys.get(entry.keyid)
            if key is None or not key.unrecognized_fields.get(ONLINE_KEY_URI):
                continue
            self._report.compared += 1
            if envelope.is_signed_by(key, entry, signed):
                self._wanted.setdefault((entry.keyid, digest), _Wanted()).places.setdefault((role, version), place)
            else:
                self._report.find("metadata", f"{place} has an invalid signature by the key {entry.keyid[:KEYID_SHOWN]}")

    def _find_unknown(self, role: str, place: str) -> None:
        """Report a file that no known key signed. No client reads it if no known targets delegates to its role: it was deleted."""
        unknown = f"{place} is signed by no key that root or targets name"
        if role in TOP_LEVEL_ROLE_NAMES | self._named or role.rpartition("-")[0] in self._bins:
            self._report.find("metadata", unknown)
        else:
            self._report.note(f"{unknown}, but no client reads it: no targets delegates to {role}")

    def _signed_bytes(self, role: str, content: bytes, signed: bytes) -> bytes:
        # The signed bytes of root, targets and the catch-all role are not always those in the file; see ``roles.verified``.
        metadata: Metadata[Root] | Metadata[Targets]
        if role == Root.type:
            metadata = roles.parse(Root, content)
        elif role == Targets.type or b'"delegations":' in signed:
            metadata = roles.parse(Targets, content)
        else:
            return signed
        self.trust(metadata.signed)
        return metadata.signed_bytes

    def recorded(self, use: AuditUse) -> None:
        """Match the signatures that a record lists.

        Args:
            use: a record of a call of an online key.
        """
        for one in use.signatures:
            if one.role == PROBE_ROLE:
                continue
            self._report.recorded += 1
            wanted = self._wanted.get((use.keyid, one.sha256))
            if wanted is None:
                self._unused += 1
            else:
                wanted.places.pop((one.role, one.version), None)
                wanted.signed_as = one.role, one.version

    def finish(self) -> None:
        """Report an alarm for each online signature without a record."""
        for (keyid, digest), wanted in self._wanted.items():
            for (role, version), place in wanted.places.items():
                what = f"{role} version {version} ({place})"
                if wanted.signed_as is not None:
                    self._report.find("metadata", f"{what} was signed as {wanted.signed_as[0]} version {wanted.signed_as[1]}")
                else:
                    self._report.find("alarm", f"{what} is signed by the online key {keyid}, but no record lists it (sha256 {digest})")
        if self._report.compared and self._unused:
            self._report.note(
                f"{self._unused} of {self._report.recorded} recorded signatures are not in the compared metadata: they were superseded, or "
                "never used because the signer died or was replaced"
            )
