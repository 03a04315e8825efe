r"""Which target paths are accepted: those that every client fetches from the URL that the repository intends.

A client joins a target path to a base URL, and no client percent-encodes it first. So the URL parser of each language decides what becomes
of a ``%``, ``?``, ``#`` or ``\``. ``docs/reference/paths.md`` shows what each client requests; ``tests/interop`` checks the rule and the
table against the clients.

- ``check_path`` has the basic rules: for removals, queries, and records that are already on a log.
- ``check_new_path`` adds the rules for newly submitted artifacts.
- ``check_encoded_path`` is the same for a repository whose target paths are URL paths as clients send them (``ingest.encoded_paths``).
"""

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from tufline.errors import InvalidInputError, InvalidTargetError
from tufline.metadata import canonical

MAX_PATH_BYTES: Final = 1024
"""The longest target path, in bytes of UTF-8."""

NAMES_OF_JAVASCRIPT: Final = frozenset(
    {
        *("__defineGetter__", "__defineSetter__", "__lookupGetter__", "__lookupSetter__", "__proto__", "constructor", "hasOwnProperty"),
        *("isPrototypeOf", "propertyIsEnumerable", "toLocaleString", "toString", "valueOf"),
    }
)
"""Properties of every JavaScript object (ECMA-262, 20.1.3): for a target of the same name, tuf-js would read the property."""

_ENCODED: Final = re.compile("(?:%[0-9A-F]{2})+")
_UNRESERVED_OR_SLASH: Final = re.compile("[A-Za-z0-9._~/-]")
_SPECIAL: Final = re.compile(r"[%?#\\]")
_SPECIAL_BUT_PERCENT: Final = re.compile(r"[?#\\]")
_WHY: Final = {
    "%": "clients do not encode it, so servers decode it and what follows",
    "?": "clients take what follows for a query",
    "#": "clients take what follows for a fragment, and do not send it",
    "\\": "JavaScript clients request '/' in its place",
}


def check_path(path: str) -> str:
    """Refuse a target path that is not safe, or that metadata can't contain.

    Args:
        path: the submitted target path.

    Returns:
        The path, unchanged.

    Raises:
        InvalidTargetError: with the reason.
    """
    if not path:
        raise InvalidTargetError("the path is empty")
    size = len(path.encode(errors="surrogatepass"))
    if size > MAX_PATH_BYTES:
        raise InvalidTargetError(f"the path is {size} bytes long; at most {MAX_PATH_BYTES} are allowed")
    try:
        canonical.check_key(path, "the path")
    except InvalidInputError as error:
        raise InvalidTargetError(str(error)) from None
    if path[0] == "/":
        raise InvalidTargetError("the path is absolute: write it relative to the repository's root, without the leading '/'")
    for segment in path.split("/"):
        if not segment:
            raise InvalidTargetError("the path has an empty segment ('//' or a '/' at its end)")
        if segment in {".", ".."}:
            raise InvalidTargetError(f"the path has a {segment!r} segment: resolve it first")
    return path


def check_new_path(path: str) -> str:
    """Refuse a target path that some client would fetch from another URL than intended.

    Args:
        path: the submitted target path.

    Returns:
        The path, unchanged.

    Raises:
        InvalidTargetError: with the reason.
    """
    return _check(path, _SPECIAL)


def check_encoded_path(path: str) -> str:
    """Check like ``check_new_path``, but allow percent-encoded characters that clients and servers leave as they are.

    Args:
        path: the submitted target path, which is the URL path as clients send it.

    Returns:
        The path, unchanged.

    Raises:
        InvalidTargetError: with the reason.
    """
    if "%" in _ENCODED.sub("", path):
        raise InvalidTargetError("the path has a '%' that is not followed by two of 0-9 and A-F: write %25 for the character itself")
    for match in _ENCODED.finditer(path):
        try:
            decoded = unquote_to_bytes(match[0]).decode()
            canonical.check_key(decoded, "the path, decoded,")
        except UnicodeDecodeError:
            raise InvalidTargetError(f"{match[0]} in the path does not decode to UTF-8: percent-encode the bytes of UTF-8") from None
        except InvalidInputError as error:
            raise InvalidTargetError(str(error)) from None
        if plain := _UNRESERVED_OR_SLASH.search(decoded):
            raise InvalidTargetError(
                f"{match[0]} in the path encodes {plain[0]!r}, which clients and servers never encode: write it as it is"
            )
    return _check(path, _SPECIAL_BUT_PERCENT)


def _check(path: str, special: re.Pattern[str]) -> str:
    check_path(path)
    if match := special.search(path):
        what = f"the path has a {match[0]!r} at position {match.start()}: {_WHY[match[0]]}"
        raise InvalidTargetError(f"{what}; rename the file, or submit its URL path as clients send it (see ingest.encoded_paths)")
    if path[0].isspace() or path[-1].isspace():
        raise InvalidTargetError("the path starts or ends with white space, which clients strip: rename the file")
    if path in NAMES_OF_JAVASCRIPT:
        raise InvalidTargetError(
            f"{path!r} is the name of a property of every JavaScript object, so tuf-js can't find the target: put it into a directory"
        )
    return path
