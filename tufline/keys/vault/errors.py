"""Errors of Vault: whether they may be temporary, and one sentence for each that says what to do."""

from typing import Final

from tufline.config.settings import VaultConfig

MOST_DETAIL: Final = 200
"""How many characters of Vault's own message are repeated."""


def is_vaults(error: Exception) -> bool:
    """Return whether an error comes from Vault or from the connection to it.

    Args:
        error: the error that a call raised.
    """
    import requests  # noqa: PLC0415 (only there with hvac)
    from hvac.exceptions import VaultError  # noqa: PLC0415 (as above)

    return isinstance(error, VaultError | requests.RequestException)


def is_forbidden(error: Exception) -> bool:
    """Return whether Vault rejected the token, or the token's policy does not permit the call: Vault does not distinguish the two.

    Args:
        error: the error that a call raised.
    """
    from hvac.exceptions import Forbidden, Unauthorized  # noqa: PLC0415 (only there with hvac)

    return isinstance(error, Forbidden | Unauthorized)


def is_passing(error: Exception) -> bool:
    """Return whether the same call may succeed later without a change of a policy, a key or a setting.

    Args:
        error: the error that a call raised.
    """
    import requests  # noqa: PLC0415 (only there with hvac)
    from hvac import exceptions  # noqa: PLC0415 (as above)

    refused = (
        exceptions.InvalidRequest,
        exceptions.Unauthorized,
        exceptions.Forbidden,
        exceptions.InvalidPath,
        exceptions.ParamValidationError,
    )
    if isinstance(error, exceptions.VaultError):
        return not isinstance(error, refused)
    return isinstance(error, requests.RequestException) and not isinstance(error, requests.exceptions.SSLError | ValueError)


def sentence(error: Exception, doing: str, config: VaultConfig) -> str:
    """Describe an error.

    Args:
        error: the error that a call raised.
        doing: the purpose of the call as a verb phrase, such as ``sign with transit/tufline``.
        config: the session's configuration.

    Returns:
        One sentence, with what to do if people have to act.
    """
    import requests  # noqa: PLC0415 (only there with hvac)
    from hvac import exceptions  # noqa: PLC0415 (as above)

    detail = _detail(error)
    match error:
        case exceptions.VaultDown() if "sealed" in detail:
            what = "is sealed: unseal it"
        case exceptions.VaultNotInitialized():
            what = "is not initialised"
        case exceptions.RateLimitExceeded():
            what = "rejects calls for now, as there were too many (429): raise its quota for the signer"
        case exceptions.Forbidden() | exceptions.Unauthorized():
            what = f"does not permit to {doing}: give the signer's role the policy that 'tufline keys policy' prints"
        case exceptions.InvalidPath():
            what = f"can't {doing} ({detail or 'not found'}): check the mount and the name of the key"
        case exceptions.InvalidRequest():
            what = f"refuses to {doing}: {detail}"
        case exceptions.VaultError():
            what = f"failed to {doing}: {detail or type(error).__name__}"
        case requests.exceptions.SSLError():
            what = "has a certificate that is not trusted: set vault.ca_file to its authority's certificate, and check the host name"
        case requests.Timeout():
            what = f"does not answer within {config.timeout:g} s"
        case requests.ConnectionError():
            what = "can't be reached, or closes the connection"
        case _:
            what = f"can't be asked to {doing}: {type(error).__name__}"
    return f"Vault at {config.address} {what}"


def login_sentence(error: Exception, config: VaultConfig) -> str:
    """Describe why a login failed.

    Args:
        error: the error that the login raised.
        config: the session's configuration.

    Returns:
        One sentence, in the form of ``sentence``.
    """
    from hvac.exceptions import VaultError  # noqa: PLC0415 (as above)

    if not isinstance(error, VaultError):
        return sentence(error, "log in", config)
    what = _detail(error) or type(error).__name__
    return f"Vault at {config.address} refuses the login by {config.auth} ({what}): check the section vault, and that its role still exists"


def _detail(error: Exception) -> str:
    # Only Vault's own message, without what hvac adds.
    what = getattr(error, "errors", None) or getattr(error, "text", None) or ""
    text = " ".join((", ".join(map(str, what)) if isinstance(what, list) else str(what)).split())
    return text[:MOST_DETAIL].rstrip(".")
