"""Where private keys are: the URIs by which the metadata names them. Pure; ingest refuses by the same code by which the signer reads.

``fn:<file>`` is a file in the key directory (RSTUF's name for it), ``vault:<mount>/<key>#<version>`` a key in Vault; any other URI is
securesystemslib's, whose scheme says which of its signers reads it.
"""

import re
from dataclasses import dataclass
from typing import Final, Self

from securesystemslib.signer import SIGNER_FOR_URI_SCHEME

from tufline.errors import InvalidInputError, KeyUnavailableError

ONLINE_KEY_URI: Final = "x-rstuf-online-key-uri"
"""Field of a key object that says where the signer finds its private part (RSTUF's name for it)."""

FILE_SCHEME: Final = "fn:"
VAULT_SCHEME: Final = "vault:"

_FILE_NAME: Final = re.compile(r"[^/.\0][^/\0]{0,254}")
_VAULT: Final = re.compile(r"vault:(?P<mount>[\w.-]+(?:/[\w.-]+)*)/(?P<key>\w(?:[\w.-]*\w)?)(?:#(?P<version>[1-9]\d{0,8}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class VaultKeyName:
    """Where a key is in Vault.

    Attributes:
        mount: path of the Transit engine; may contain slashes.
        key: its name there.
        version: of the key, from 1.
    """

    mount: str
    key: str
    version: int

    @classmethod
    def parse(cls, uri: str, version: int | None = None) -> Self:
        """Read an URI.

        Args:
            uri: ``vault:<mount>/<key>#<version>``.
            version: where the URI has none; None if it must.

        Returns:
            The name.

        Raises:
            KeyUnavailableError: if it is none.
        """
        found = _VAULT.fullmatch(uri)
        if found is None or ".." in found["mount"].split("/"):
            raise KeyUnavailableError(
                f"{uri!r} names no key in Vault: write vault:<mount>/<key>#<version>, such as vault:transit/tufline#1"
            )
        if found["version"] is None and version is None:
            raise KeyUnavailableError(f"{uri!r} lacks the version, as each is another public key: write {uri}#1, or another")
        return cls(found["mount"], found["key"], int(found["version"] or version or 0))

    @property
    def path(self) -> str:
        """``<mount>/<key>``."""
        return f"{self.mount}/{self.key}"

    @property
    def uri(self) -> str:
        """As the metadata name it."""
        return f"{VAULT_SCHEME}{self.path}#{self.version}"


def file_name(uri: str) -> str:
    """Read the URI of a key in a file.

    Args:
        uri: ``fn:<file>``.

    Returns:
        The name of a file in the key directory.

    Raises:
        KeyUnavailableError: if it is none.
    """
    name = uri.removeprefix(FILE_SCHEME)
    if not _FILE_NAME.fullmatch(name):
        raise KeyUnavailableError(f"{uri!r} does not name a file in the key directory: write fn:<file>, without a path")
    return name


def check(uri: str) -> None:
    """Refuse the URI of a private key that no provider reads, whatever it holds.

    Args:
        uri: as a key object has it.

    Raises:
        InvalidInputError: with the reason and what to write.
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
        raise InvalidInputError(f"{uri[:100]!r} is the URI of no key provider: it begins with one of {known}")
