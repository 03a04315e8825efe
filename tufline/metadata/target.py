"""A target as a repository submits it, and its entry as clients read it.

Submissions are untrusted JSON. ``parse_target`` accepts only targets that every TUF client reads the same way, and its errors say what is
wrong with other input. ``encode_entry`` writes a target once in canonical form: the bytes that a bin inserts.
"""

import contextlib
import re
from collections.abc import Callable, Collection
from typing import Any, Final, NamedTuple

import msgspec

from tufline.decoding import decode_json, excerpt
from tufline.errors import InvalidInputError, InvalidTargetError
from tufline.metadata import canonical
from tufline.metadata.paths import check_new_path

MAX_CUSTOM_BYTES: Final = 4096
"""The largest ``custom`` of a target, in bytes of canonical JSON."""

MAX_CUSTOM_JSON_BYTES: Final = 16 * MAX_CUSTOM_BYTES
"""The longest ``custom`` that is parsed, in bytes of JSON: escapes and white space make it longer than its canonical form."""

MAX_HASHES_JSON_BYTES: Final = 4096
"""The longest ``hashes`` that is parsed, in bytes of JSON; all known algorithms together take 600."""

MAX_LENGTH_JSON_BYTES: Final = 128
"""The longest ``length`` that is parsed, in bytes of JSON; sixteen digits, each written as an escape, take 100."""

HEX_DIGITS: Final = {"sha256": 64, "sha512": 128, "sha224": 56, "sha384": 96, "blake2b-256": 64}
"""The hash algorithms that python-tuf verifies, and the number of hexadecimal digits of each."""

DEFAULT_HASH_ALGORITHMS: Final = ("sha256", "sha512")
"""The algorithms that python-tuf, tuf-js and go-tuf all know; tuf-js and go-tuf refuse a target with any other."""

_any_decoder: Final = msgspec.json.Decoder()
_HEX = re.compile("[0-9a-f]+")
_DECIMAL = re.compile("[0-9]{1,16}", re.ASCII)


class Target(msgspec.Struct, frozen=True, gc=False):
    """A target file: its path in the repository, and its entry in the metadata.

    Attributes:
        path: the target path, relative, with ``/`` between segments.
        length: the file's length in bytes.
        hashes: algorithm to lower-case hexadecimal digest; at least one.
        custom: a JSON object with the repository's own data; None for none.
    """

    path: str
    length: int
    hashes: dict[str, str]
    custom: dict[str, Any] | None = None


class TargetRules(NamedTuple):
    """The rules for targets of one repository.

    Attributes:
        hash_algorithms: the algorithms that ``hashes`` may have.
        check_path: one of the checks in ``tufline.metadata.paths``.
    """

    hash_algorithms: Collection[str] = DEFAULT_HASH_ALGORITHMS
    check_path: Callable[[str], str] = check_new_path


DEFAULT_RULES: Final = TargetRules()


class TargetEntry(NamedTuple):
    """A target's entry in a bin: the raw path, by which entries are sorted, and the canonical bytes ``"<path>":{…}``."""

    path: str
    encoded: bytes


def _check_hashes(hashes: object, allowed: Collection[str]) -> dict[str, str]:
    if not isinstance(hashes, dict) or not hashes:
        raise InvalidTargetError("hashes must be an object with at least one algorithm, such as {'sha256': '<64 hexadecimal digits>'}")
    checked = {}
    for algorithm, value in hashes.items():
        if algorithm not in allowed:
            known = algorithm in HEX_DIGITS
            also = "repositories of the client profile 'rstuf' also accept blake2b-256 and the algorithms in ingest.hash_algorithms"
            advice = f"; {also}" if known else ""
            raise InvalidTargetError(f"the hash algorithm {excerpt(algorithm)} is not one of {', '.join(allowed)}{advice}")
        digest = value.lower() if isinstance(value, str) else ""
        digits = HEX_DIGITS[algorithm]
        if len(digest) != digits or not _HEX.fullmatch(digest):
            raise InvalidTargetError(f"the {algorithm} value is not {digits} hexadecimal digits")
        checked[algorithm] = digest
    return checked


def _check_length(length: object) -> int:
    # In JSON Schema, 1.0 is an integer too.
    if (isinstance(length, str) and _DECIMAL.fullmatch(length)) or (isinstance(length, float) and length.is_integer()):
        length = int(length)
    if isinstance(length, bool) or not isinstance(length, int):
        raise InvalidTargetError("length must be a whole number of bytes")
    if not 0 <= length <= canonical.MAX_INTEGER:
        raise InvalidTargetError("length must be from 0 to 2^53 bytes")
    return length


def check_custom(custom: object) -> dict[str, Any] | None:
    """Check the ``custom`` of a target.

    Args:
        custom: an object or None; at most ``MAX_CUSTOM_BYTES`` in canonical form.

    Returns:
        The same.

    Raises:
        InvalidTargetError: with the reason.
    """
    if custom is None:
        return None
    if not isinstance(custom, dict):
        raise InvalidTargetError("custom must be an object")
    # The size is checked first, so that the slower ``canonical.check`` runs only on a small value. It also refuses unencodable values.
    size = 0
    with contextlib.suppress(ValueError, TypeError, OverflowError, RecursionError):
        size = len(canonical.encode(custom))
    if size > MAX_CUSTOM_BYTES:
        raise InvalidTargetError(f"custom is {size} bytes of canonical JSON; at most {MAX_CUSTOM_BYTES} are allowed")
    try:
        canonical.check(custom, "custom")
    except InvalidInputError as error:
        raise InvalidTargetError(str(error)) from None
    return custom


def parse_target(path: object, length: object, hashes: object, custom: object = None, allowed: TargetRules = DEFAULT_RULES) -> Target:
    """Check a submitted target.

    Args:
        path: the target path.
        length: the length in bytes: an integer from 0 to 2^53 (also written as 1.0), or the same as a decimal string.
        hashes: algorithm to hexadecimal digest, in upper or lower case.
        custom: an object or None; at most ``MAX_CUSTOM_BYTES`` in canonical form.
        allowed: the rules for path and hashes.

    Returns:
        The target, with lower-case hashes.

    Raises:
        InvalidTargetError: with the reason.
    """
    if not isinstance(path, str):
        raise InvalidTargetError("path must be a string")
    checked = _check_hashes(hashes, allowed.hash_algorithms)
    return Target(allowed.check_path(path), _check_length(length), checked, check_custom(custom))


def parse_target_json(path: str, length: bytes, hashes: bytes, custom: bytes, allowed: TargetRules = DEFAULT_RULES) -> Target:
    """Check a target that was submitted as JSON. Each size is checked before parsing.

    Args:
        path: the target path.
        length: JSON for the ``length`` of ``parse_target``.
        hashes: JSON for the ``hashes`` of ``parse_target``.
        custom: JSON for the ``custom`` of ``parse_target``; ``null`` for none.
        allowed: the rules for path and hashes.

    Returns:
        The target, with lower-case hashes.

    Raises:
        InvalidTargetError: with the reason.
    """
    read_length = _parse(length, "length", MAX_LENGTH_JSON_BYTES)
    read_hashes = _parse(hashes, "hashes", MAX_HASHES_JSON_BYTES)
    return parse_target(path, read_length, read_hashes, _parse(custom, "custom", MAX_CUSTOM_JSON_BYTES), allowed)


def _parse(content: bytes, what: str, most_bytes: int) -> Any:
    if len(content) > most_bytes:
        raise InvalidTargetError(f"{what} is {len(content)} bytes of JSON; at most {most_bytes} are read")
    return decode_json(_any_decoder, content, what, InvalidTargetError)


def encode_entry(target: Target) -> TargetEntry:
    """Encode a target's entry in canonical form.

    Args:
        target: from ``parse_target``.

    Returns:
        The entry. Entries joined by commas in the order of their paths are the content of a bin's ``targets``.
    """
    info: dict[str, object] = {"hashes": target.hashes, "length": target.length}
    if target.custom is not None:
        info["custom"] = target.custom
    return TargetEntry(target.path, canonical.encode(target.path) + b":" + canonical.encode(info))
