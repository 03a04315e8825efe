"""Versions of root and targets that people on different machines sign one by one.

A version with too few signatures is a proposal: it is on the log, and becomes valid once enough keys have signed it. Only a valid signature
of a key that the version needs is added to it, so that the published file has no signature that a client would refuse. No I/O, no
clock.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from securesystemslib.signer import Key
from tuf.api.metadata import Root, Targets

from tufline.errors import InvalidUpdateError, MetadataError
from tufline.metadata import envelope
from tufline.metadata.envelope import SignatureEntry
from tufline.records import Bootstrap, NewMetadata
from tufline.trust import client_rules, roles
from tufline.trust.roles import RoleKeys

Kind = Literal["bootstrap", "root", "targets"]
"""The kind of a proposal: a bootstrap, or the next version of a role."""

SHOWN_KEYID: Final = 12
"""How much of a keyid a message shows, in characters."""


@dataclass(frozen=True, slots=True)
class Signable:
    """A version of a role, and the keys that must sign it.

    Attributes:
        metadata: the object, ``{"signatures": […], "signed": {…}}``.
        signed: its signed part, parsed.
        signers: the keys and thresholds that must all be met, such as those of the previous root and of this one.
    """

    metadata: Mapping[str, Any]
    signed: Root | Targets
    signers: Sequence[RoleKeys]

    @property
    def name(self) -> str:
        """The role and its version, for messages."""
        return f"{self.signed.type} version {self.signed.version}"

    def verify(self) -> None:
        """Verify that enough keys signed it.

        Raises:
            MetadataError: if too few did.
        """
        role: type[Any] = type(self.signed)
        for keys in self.signers:
            roles.verified(role, self.metadata, keys)

    @property
    def is_complete(self) -> bool:
        """Whether enough keys signed it."""
        try:
            self.verify()
        except MetadataError:
            return False
        return True

    def missing(self) -> list["Missing"]:
        """Return the missing signatures, for each set of signers whose threshold is not met."""
        valid = self._valid()
        found: list[Missing] = []
        for keys in self.signers:
            unsigned = sorted(keys.keys.keys() - valid)
            if (count := keys.threshold - (len(keys.keys) - len(unsigned))) > 0:
                found.append(Missing(count, {keyid: keys.keys[keyid] for keyid in unsigned}))
        return found

    def check_entries(self) -> None:
        """Refuse the version if one of its signatures is not valid or not needed.

        Raises:
            InvalidUpdateError: with the reason and what to do.
        """
        content = self._content()
        for entry in self.metadata["signatures"]:
            self._check_entry(SignatureEntry(entry["keyid"], entry["sig"]), content)

    @property
    def trusted(self) -> list[str]:
        """The ids of the keys that are trusted already: of root those of the previous one, of targets those of every accepted root."""
        return [keyid for keys in (self.signers[:1] if isinstance(self.signed, Root) else self.signers) for keyid in keys.keys]

    def is_backed(self) -> bool:
        """Return whether it has a signature by at least one key that is already trusted."""
        return not self._valid().isdisjoint(self.trusted)

    def sign(self, keyid: str, sig: str) -> dict[str, Any]:
        """Add a signature.

        Args:
            keyid: the id of the key that signed.
            sig: the signature in lower-case hexadecimal.

        Returns:
            The object with the signature.

        Raises:
            InvalidUpdateError: if the signature is not valid or not needed, with the reason and what to do.
        """
        if any(entry["keyid"] == keyid for entry in self.metadata["signatures"]):
            raise InvalidUpdateError(f"the key {keyid[:SHOWN_KEYID]} has signed {self.name} already: sign with another one")
        self._check_entry(SignatureEntry(keyid, sig), self._content())
        signatures = [*self.metadata["signatures"], {"keyid": keyid, "sig": sig}]
        try:
            client_rules.check_signatures(signatures, [keyid for keys in self.signers for keyid in keys.keys])
        except MetadataError as error:
            raise InvalidUpdateError(str(error)) from error
        return {**self.metadata, "signatures": signatures}

    def _content(self) -> bytes:
        role: type[Any] = type(self.signed)
        content: bytes = roles.parse(role, self.metadata).signed_bytes
        return content

    def _valid(self) -> set[str]:
        content = self._content()
        entries = [SignatureEntry(entry["keyid"], entry["sig"]) for entry in self.metadata["signatures"]]
        return {
            entry.keyid
            for entry in entries
            for keys in self.signers
            if entry.keyid in keys.keys and envelope.is_signed_by(keys.keys[entry.keyid], entry, content)
        }

    def _check_entry(self, entry: SignatureEntry, content: bytes) -> None:
        key = next((keys.keys[entry.keyid] for keys in self.signers if entry.keyid in keys.keys), None)
        if key is None:
            raise InvalidUpdateError(
                f"the signature's keyid {entry.keyid[:64]!r} is not one of the keys that sign {self.name}: sign with one of those"
            )
        if not envelope.is_signed_by(key, entry, content):
            raise InvalidUpdateError(
                f"the signature by the key {entry.keyid[:SHOWN_KEYID]} is not valid for {self.name}: "
                "sign exactly the metadata that GET /api/v1/metadata/sign returns"
            )


@dataclass(frozen=True, slots=True)
class Missing:
    """Signatures that a version still needs.

    Attributes:
        count: how many.
        keys: the keys that can make them, by their keyids.
    """

    count: int
    keys: Mapping[str, Key]

    @property
    def keyids(self) -> list[str]:
        """The ids of the keys that can make them."""
        return list(self.keys)

    def __str__(self) -> str:
        """Return it for messages."""
        return f"{self.count} of {', '.join(keyid[:SHOWN_KEYID] for keyid in self.keyids)}"


@dataclass(frozen=True, slots=True)
class Proposal:
    """A version, or a bootstrap, that came with too few signatures.

    Attributes:
        offset: the offset of its record in ``admin``.
        kind: what it is.
        version: the version of the role; 1 for a bootstrap.
        record: the record, with all signatures so far; None once it is no longer open.
        signatures: the offsets of the records whose signatures were added.
        outcome: ``signing`` while it is open; ``complete`` once enough keys signed it; otherwise it has no effect.
        end: the offset of the record that completed or withdrew it; -1 while it is open.
    """

    offset: int
    kind: Kind
    version: int
    record: Bootstrap | NewMetadata | None
    signatures: tuple[int, ...] = ()
    outcome: Literal["signing", "complete", "withdrawn", "superseded"] = "signing"
    end: int = -1

    @property
    def what(self) -> str:
        """A name of the proposal, for messages."""
        return "the bootstrap" if self.kind == "bootstrap" else f"{self.kind} version {self.version}"
