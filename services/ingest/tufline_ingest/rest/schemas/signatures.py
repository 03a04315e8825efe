"""Signatures that come one by one."""

from typing import Any

import msgspec


class MissingSignatures(msgspec.Struct, frozen=True):
    """Signatures that a version still needs.

    Attributes:
        count: how many signatures are missing.
        keyids: the keys that can make them.
        keys: keyid to key object, as in root; some may be keys of an older root than the newest one.
    """

    count: int
    keyids: list[str]
    keys: dict[str, dict[str, Any]]


class ProposedVersions(msgspec.Struct, frozen=True):
    """The versions that wait for signatures.

    Attributes:
        metadata: role to the version that waits, with the signatures so far; of custom roles the first 50. Also ``trusted_root`` and
            ``trusted_targets``, the newest versions that enough keys signed, if there are any. If custom roles wait, ``trusted_targets``
            names their keys; it is not signed.
        missing: role to the signatures that are still missing: the keys of the previous root and those of the new root may both have to
            sign.
        problems: ``bootstrap`` or role to the reason why a version can't be accepted any more, so that it can only be withdrawn.
    """

    metadata: dict[str, dict[str, Any]]
    missing: dict[str, list[MissingSignatures]]
    problems: dict[str, str]


class ProposedAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer that lists the versions that wait for signatures.

    Attributes:
        message: one sentence for people.
        data: the versions that wait; left out if there are none.
    """

    message: str
    data: ProposedVersions | None = None


class NewSignature(msgspec.Struct, frozen=True):
    """A signature, as in a metadata file.

    Attributes:
        keyid: the id of the key that signed.
        sig: the signature in lower-case hexadecimal.
    """

    keyid: str
    sig: str


class SignRequest(msgspec.Struct, frozen=True):
    """A request that signs a version.

    Attributes:
        role: the role whose version waits.
        signature: the signature of exactly the ``signed`` part that GET /api/v1/metadata/sign returns, in its canonical form.
    """

    role: str
    signature: NewSignature


class WithdrawRequest(msgspec.Struct, frozen=True):
    """A request that withdraws a version that waits for signatures.

    Attributes:
        role: the role whose version waits; for a bootstrap, any of its roles.
    """

    role: str
