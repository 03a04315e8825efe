"""What went wrong with Vault: whether it may pass, and one sentence that says it with what to do."""

from typing import Final

from tufline.config.settings import VaultConfig

MOST_DETAIL: Final = 200
"""How many characters of Vault's own words are repeated."""


def is_vaults(error: Exception) -> bool:
    """Say whether an error comes from Vault or from the way to it.

    Args:
        error: that a call raised.
    """
    import requests  # noqa: PLC0415 (only there with hvac)
    from hvac.exceptions import VaultError  # noqa: PLC0415 (as above)

    return isinstance(error, VaultError | requests.RequestException)


def is_forbidden(error: Exception) -> bool:
    """Say whether Vault did not take the token, or the token's policy does not permit the call: Vault does not tell these apart.

    Args:
        error: that a call raised.
    """
    from hvac.exceptions import Forbidden, Unauthorized  # noqa: PLC0415 (only there with hvac)

    return isinstance(error, Forbidden | Unauthorized)


def is_passing(error: Exception) -> bool:
    """Say whether the same call may succeed later without anybody changing a right, a key or a setting.

    Args:
        error: that a call raised.
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
    """Say what went wrong.

    Args:
        error: that a call raised.
        doing: what the call was for, such as ``sign with transit/tufline``.
        config: of the session.

    Returns:
        One sentence, with what to do where somebody has to do something.
    """
    import requests  # noqa: PLC0415 (only there with hvac)
    from hvac import exceptions  # noqa: PLC0415 (as above)

    detail = _detail(error)
    match error:
        case exceptions.VaultDown() if "sealed" in detail:
            said = "is sealed: unseal it"
        case exceptions.VaultNotInitialized():
            said = "is not initialised"
        case exceptions.RateLimitExceeded():
            said = "takes no more calls for now (429): raise its quota for the signer"
        case exceptions.Forbidden() | exceptions.Unauthorized():
            said = f"does not permit to {doing}: give the signer's role the policy that 'tufline keys policy' prints"
        case exceptions.InvalidPath():
            said = f"has nothing to {doing} ({detail or 'not found'}): check mount and name of the key"
        case exceptions.InvalidRequest():
            said = f"refuses to {doing}: {detail}"
        case exceptions.VaultError():
            said = f"failed to {doing}: {detail or type(error).__name__}"
        case requests.exceptions.SSLError():
            said = "has a certificate that is not trusted: set vault.ca_file to that of its authority, and check the host's name"
        case requests.Timeout():
            said = f"does not answer within {config.timeout:g} s"
        case requests.ConnectionError():
            said = "can't be reached, or cuts the connection"
        case _:
            said = f"can't be asked to {doing}: {type(error).__name__}"
    return f"Vault at {config.address} {said}"


def login_sentence(error: Exception, config: VaultConfig) -> str:
    """Say why a login failed.

    Args:
        error: that it raised.
        config: of the session.

    Returns:
        One sentence, as ``sentence`` gives it.
    """
    from hvac.exceptions import VaultError  # noqa: PLC0415 (as above)

    if not isinstance(error, VaultError):
        return sentence(error, "log in", config)
    said = _detail(error) or type(error).__name__
    return f"Vault at {config.address} refuses the login by {config.auth} ({said}): check the section vault, and that its role still exists"


def _detail(error: Exception) -> str:
    # Of hvac's errors only what Vault itself said.
    said = getattr(error, "errors", None) or getattr(error, "text", None) or ""
    text = " ".join((", ".join(map(str, said)) if isinstance(said, list) else str(said)).split())
    return text[:MOST_DETAIL].rstrip(".")
