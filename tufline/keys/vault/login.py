"""Logging in to Vault by token, AppRole or a Kubernetes service account, and renewing. Synchronous: ``VaultSession`` runs it in threads.

Credentials in files are read again at each login, so an agent or Kubernetes may rotate them at any time.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from tufline.config.settings import VaultConfig
from tufline.errors import ConfigError, KeyUnavailableError

if TYPE_CHECKING:
    import hvac


def check(config: VaultConfig) -> None:
    """Refuse a configuration that lacks a setting that the login needs.

    Args:
        config: the section ``vault``.

    Raises:
        ConfigError: with the missing settings.
    """
    needed = {
        "token": (("token", "token_file"),),
        "approle": (("role",), ("secret_id", "secret_id_file")),
        "kubernetes": (("role",),),
    }[config.auth]
    for names in needed:
        if not any(_is_given(getattr(config, name)) for name in names):
            raise ConfigError(f"vault.auth = {config.auth} needs {' or '.join(f'vault.{name}' for name in names)}")
    if config.ca_file is not None and not config.ca_file.is_file():
        raise ConfigError(f"vault.ca_file is set to {config.ca_file}, which does not exist: put it there, or set another file")


def _is_given(value: str | SecretStr | Path | None) -> bool:
    return bool(value.get_secret_value() if isinstance(value, SecretStr) else value)


def new_client(config: VaultConfig) -> "hvac.Client":
    """Make a client with a connection of its own.

    Args:
        config: the section ``vault``.

    Returns:
        The client, without a token. It ignores the environment (proxies, VAULT_TOKEN, .netrc): only the configuration decides where a
        token is sent.
    """
    import hvac  # noqa: PLC0415 (see VaultSession)
    import requests  # noqa: PLC0415 (only there with hvac)

    session = requests.Session()
    session.trust_env = False
    session.verify = True if config.ca_file is None else str(config.ca_file)
    return hvac.Client(config.address, token="", timeout=config.timeout, namespace=config.namespace or None, session=session)


def log_in(client: "hvac.Client", config: VaultConfig) -> tuple[str, float]:
    """Log in.

    Args:
        client: the client for the call.
        config: the section ``vault``.

    Returns:
        The token, and how many seconds it is valid; 0 if it does not expire, or if its policy does not permit looking that up.

    Raises:
        KeyUnavailableError: if a file of the credentials can't be read.
    """
    mount = {"mount_point": config.auth_mount or config.auth}
    if config.auth == "token":
        return _own_token(client, _secret(config.token, config.token_file, "token"))
    if config.auth == "kubernetes":
        jwt = _read(config.jwt_file, "jwt_file")
        return _token_of(client.auth.kubernetes.login(role=config.role, jwt=jwt, use_token=False, **mount))
    secret = _secret(config.secret_id, config.secret_id_file, "secret_id")
    return _token_of(client.auth.approle.login(role_id=config.role, secret_id=secret, use_token=False, **mount))


def _token_of(answer: Any) -> tuple[str, float]:
    try:
        return str(answer["auth"]["client_token"]), float(answer["auth"]["lease_duration"])
    except (KeyError, TypeError) as error:
        raise KeyUnavailableError("the server at vault.address does not answer like Vault: check the address") from error


def _own_token(client: "hvac.Client", token: str) -> tuple[str, float]:
    from hvac.exceptions import Forbidden  # noqa: PLC0415 (see VaultSession)

    client.token = token
    try:
        return token, float(client.auth.token.lookup_self()["data"]["ttl"])
    except (Forbidden, KeyError, TypeError):
        # The token is revoked, or has no permission to look itself up; the first call that uses it will fail if it is revoked.
        return token, 0.0


def renew(client: "hvac.Client") -> float:
    """Renew the client's token.

    Args:
        client: a client that has the token.

    Returns:
        How many seconds the token is valid from now on.
    """
    return _token_of(client.auth.token.renew_self())[1]


def _secret(direct: SecretStr, file: Path | None, name: str) -> str:
    return direct.get_secret_value() if file is None else _read(file, f"{name}_file")


def _read(file: Path, name: str) -> str:
    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise KeyUnavailableError(f"vault.{name} {file} can't be read: {getattr(error, 'strerror', None) or 'it is not text'}") from error
