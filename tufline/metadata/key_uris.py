"""The URIs by which metadata refers to private keys. Pure. Ingest checks them with the same code that the signer uses to read them.

``fn:<file>`` is a file in the key directory (RSTUF's notation), ``vault:<mount>/<key>#<version>`` is a key in Vault, and any other URI is
for securesystemslib, which selects one of its signers by the scheme.
"""

import re
from dataclasses import dataclass
from typing import Final, Self

from securesystemslib.signer import SIGNER_FOR_URI_SCHEME

from tufline.errors import InvalidInputError, KeyUnavailableError

ONLINE_KEY_URI: Final = "x-rstuf-online-key-uri"
"""The field of a key object that tells the signer where the private key is (RSTUF's name)."""

FILE_SCHEME: Final = "fn:"
VAULT_SCHEME: Final = "vault:"

_FILE_NAME: Final = re.compile(r"[^/.\0][^/\0]{0,254}")
_VAULT: Final = re.compile(r"vault:(?P<mount>[\w.-]+(?:/[\w.-]+)*)/(?P<key>\w(?:[\w.-]*\w)?)(?:#(?P<version>[1-9]\d{0,8}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class VaultKeyName:
    """The name of a key in Vault.

    Attributes:
        mount: path of the Transit engine; may contain slashes.
        key: the key's name in that engine.
        version: the key's version, from 1.
    """

    mount: str
    key: str
    version: int

    @classmethod
    def parse(cls, uri: str, version: int | None = None) -> Self:
        """Parse a URI.

        Args:
            uri: ``vault:<mount>/<key>#<version>``.
            version: the default for a URI without a version; None if the URI must have one.

        Returns:
            The name.

        Raises:
            KeyUnavailableError: if it is not such a URI.
        """
        found = _VAULT.fullmatch(uri)
        if found is None or ".." in found["mount"].split("/"):
            raise KeyUnavailableError(
                f"{uri!r} is not a valid name of a key in Vault: write vault:<mount>/<key>#<version>, such as vault:transit/tufline#1"
            )
        if found["version"] is None and version is None:
            raise KeyUnavailableError(f"{uri!r} lacks the version, and each version is a different public key: write {uri}#1, for example")
        return cls(found["mount"], found["key"], int(found["version"] or version or 0))

    @property
    def path(self) -> str:
        """The key's path in Vault, ``<mount>/<key>``."""
        return f"{self.mount}/{self.key}"

    @property
    def uri(self) -> str:
        """The URI in metadata."""
        return f"{VAULT_SCHEME}{self.path}#{self.version}"


def file_name(uri: str) -> str:
    """Parse the URI of a key in a file.

    Args:
        uri: ``fn:<file>``.

    Returns:
        The name of a file in the key directory.

    Raises:
        KeyUnavailableError: if it is not such a URI.
    """
    name = uri.removeprefix(FILE_SCHEME)
    if not _FILE_NAME.fullmatch(name):
        raise KeyUnavailableError(f"{uri!r} does not name a file in the key directory: write fn:<file>, without a path")
    return name


def check(uri: str) -> None:
    """Refuse a URI of a private key that no provider can read.

    Args:
        uri: the URI from a key object.

    Raises:
        InvalidInputError: with the reason and what to write instead.
    """
    try:
        if uri.startswith(FILE_SCHEME):
            file_name(uri)
            return
        if uri.startswith(VAULT_SCHEME):
            VaultKeyName.parse(uri)
            return
    except KeyUnavailableError as error:
        raise InvalidInputError(str(error)) from error
    scheme, _, rest = uri.partition(":")
    if scheme not in SIGNER_FOR_URI_SCHEME or not rest:
        known = ", ".join(f"{name}:" for name in ("fn", "vault", *SIGNER_FOR_URI_SCHEME))
        raise InvalidInputError(f"{uri[:100]!r} is not a URI of a known key provider: start it with one of {known}")
