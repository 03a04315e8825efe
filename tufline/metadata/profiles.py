"""The client profile of a repository: which TUF clients must be able to read it, and therefore which features it may use.

``standard`` is for every client that reads hash bins. ``rstuf`` is for python-tuf only, the client of RSTUF's users; it also accepts
targets whose only hash is ``blake2b-256``, as RSTUF's tools send them. A bootstrap names its profile in its settings.
``tufline.trust.client_rules`` has the rules.
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
"""The prefix of the fields that RSTUF adds to a key object."""


@dataclass(frozen=True, slots=True)
class Client:
    """A TUF client, and the versions of it that can read our repositories.

    Attributes:
        name: the project's name.
        oldest: the oldest version that tests run.
        newest: the newest version that tests run.
    """

    name: str
    oldest: str
    newest: str


PYTHON_TUF: Final = Client("python-tuf", "3.1.1", "7.0.1")
TUF_JS: Final = Client("tuf-js", "1.1.7", "6.0.2")
GO_TUF: Final = Client("go-tuf", "2.0.0", "2.4.2")

CLIENTS: Final[Mapping[str, tuple[Client, ...]]] = MappingProxyType({STANDARD: (PYTHON_TUF, TUF_JS, GO_TUF), RSTUF: (PYTHON_TUF,)})
"""The clients of each profile."""

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
"""The pairs (keytype, scheme) that all clients of each profile verify. go-tuf before 2.1 verifies RSA as PKCS #1 v1.5, tuf-js as PSS
(``VerifyDelegate``, ``getRSAPublicKey``); tuf-js verifies ECDSA with SHA-256 whatever the curve (``utils/verify.ts``)."""


def unreadable_hashes(algorithms: Collection[str]) -> dict[str, list[str]]:
    """Return which clients can't read a target with a hash of some algorithm.

    Args:
        algorithms: the algorithms that a repository accepts.

    Returns:
        Algorithm to the names of clients, for the algorithms that some client refuses.
    """
    others = [client.name for client in CLIENTS[STANDARD] if client is not PYTHON_TUF]
    return {algorithm: others for algorithm in algorithms if algorithm not in DEFAULT_HASH_ALGORITHMS}


def profile_of(*metadata: Mapping[str, Any] | None) -> Profile:
    """Choose the profile of a repository whose bootstrap names none.

    Args:
        metadata: the repository's root, and its targets if they are offline; their content has not been checked.

    Returns:
        ``rstuf`` if one of their keys has a field that RSTUF adds, otherwise ``standard``.
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
    """Return the hash algorithms that a target may have.

    The setting is read before the profile is known, so it may name algorithms that clients of the repository refuse. A ``standard``
    repository ignores those; if the setting names no other, its default applies. docs/reference/clients.md has the rule.

    Args:
        profile: the repository's profile.
        configured: the setting ``ingest.hash_algorithms``.

    Returns:
        The algorithms, at least one. tuf-js and go-tuf refuse a target with an algorithm that they do not know; RSTUF's tools send only
        ``blake2b-256``.

    Raises:
        AssertionError: if the profile is unknown, which neither a record nor a setting can cause.
    """
    match profile:
        case "rstuf":
            return tuple(dict.fromkeys((*configured, "blake2b-256")))
        case "standard":
            return tuple(name for name in configured if name in DEFAULT_HASH_ALGORITHMS) or DEFAULT_HASH_ALGORITHMS
        case _:
            assert_never(profile)
