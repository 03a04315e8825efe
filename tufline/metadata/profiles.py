"""The client profile of a repository: which TUF clients must be able to read it, and so what it may use.

``standard`` is every client that reads hash bins; ``rstuf`` is python-tuf alone, which RSTUF's users have, and lets targets carry
``blake2b-256`` alone, as RSTUF's tools send it. A bootstrap names its profile in its settings. ``tufline.trust.client_rules`` has the
rules.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal, assert_never

from tufline.metadata.target import DEFAULT_HASH_ALGORITHMS

Profile = Literal["standard", "rstuf"]

STANDARD: Final = "standard"
RSTUF: Final = "rstuf"

RSTUF_FIELD: Final = "x-rstuf-"
"""What RSTUF's own fields of a key object begin with."""


@dataclass(frozen=True, slots=True)
class Client:
    """A TUF client, and the versions of it that read our repositories.

    Attributes:
        name: of the project.
        oldest: version that reads us.
        newest: version that was tried.
    """

    name: str
    oldest: str
    newest: str


PYTHON_TUF: Final = Client("python-tuf", "3.1.1", "7.0.1")
TUF_JS: Final = Client("tuf-js", "1.1.7", "5.0.1")
GO_TUF: Final = Client("go-tuf", "2.0.0", "2.4.2")

CLIENTS: Final[Mapping[str, tuple[Client, ...]]] = MappingProxyType({STANDARD: (PYTHON_TUF, TUF_JS, GO_TUF), RSTUF: (PYTHON_TUF,)})
"""Profile to its clients."""

_STANDARD_SCHEMES: Final = frozenset(
    {("ed25519", "ed25519"), ("ecdsa", "ecdsa-sha2-nistp256"), ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256")}
)

SCHEMES: Final[Mapping[str, frozenset[tuple[str, str]]]] = MappingProxyType(
    {
        STANDARD: _STANDARD_SCHEMES,
        RSTUF: _STANDARD_SCHEMES
        | {("ecdsa", "ecdsa-sha2-nistp384"), ("ecdsa-sha2-nistp384", "ecdsa-sha2-nistp384")}
        | {("rsa", f"{padding}-sha{bits}") for padding in ("rsassa-pss", "rsa-pkcs1v15") for bits in (256, 384, 512)},
    }
)
"""Profile to the (keytype, scheme) that all its clients verify. go-tuf before 2.1 verifies RSA as PKCS #1 v1.5, tuf-js as PSS
(``VerifyDelegate``, ``getRSAPublicKey``); tuf-js verifies ECDSA with SHA-256 whatever the curve (``utils/verify.ts``)."""


def profile_of(*metadata: Mapping[str, Any] | None) -> Profile:
    """Say which profile a repository has whose bootstrap names none.

    Args:
        metadata: its root, and targets if they are offline, in any form.

    Returns:
        ``rstuf`` if one of their keys carries a field of RSTUF's, else ``standard``.
    """

    def at(value: Any, *names: str) -> Any:
        for name in names:
            value = value.get(name) if isinstance(value, Mapping) else None
        return value

    for one in metadata:
        for keys in (at(one, "signed", "keys"), at(one, "signed", "delegations", "keys")):
            for key in keys.values() if isinstance(keys, Mapping) else ():
                if isinstance(key, Mapping) and any(field.startswith(RSTUF_FIELD) for field in key):
                    return RSTUF
    return STANDARD


def hash_algorithms(profile: Profile, configured: Collection[str]) -> tuple[str, ...]:
    """Say which hash algorithms a target may carry.

    The setting is read before anybody knows the profile, so it can name algorithms that clients of the repository refuse. In a ``standard``
    repository those do not count; where no other is named, the setting says nothing, and its default holds.
    docs/reference/clients.md has the rule.

    Args:
        profile: of the repository.
        configured: what ``ingest.hash_algorithms`` says.

    Returns:
        The algorithms, at least one. tuf-js and go-tuf refuse a target with one that they do not know; RSTUF's tools send ``blake2b-256``
        alone.

    Raises:
        AssertionError: if there is no such profile: no record and no setting can name another.
    """
    match profile:
        case "rstuf":
            return tuple(dict.fromkeys((*configured, "blake2b-256")))
        case "standard":
            return tuple(name for name in configured if name in DEFAULT_HASH_ALGORITHMS) or DEFAULT_HASH_ALGORITHMS
        case _:
            assert_never(profile)
