"""A target as a repository announces it, and its entry as clients read it.

A repository's word comes in as JSON of any quality; ``parse_target`` lets through only what every TUF client reads the same way, and says
of everything else what is wrong with it. ``encode_entry`` writes a target once in canonical form: the bytes that a bin splices in.
"""

import contextlib
import re
from collections.abc import Callable, Collection
from typing import Any, Final, NamedTuple

import msgspec

from tufline.decoding import decode_json, shown
from tufline.errors import InvalidInputError, InvalidTargetError
from tufline.metadata import canonical
from tufline.metadata.paths import check_new_path

MAX_CUSTOM_BYTES: Final = 4096
"""The largest ``custom`` of a target, in bytes of canonical JSON."""

MAX_CUSTOM_JSON_BYTES: Final = 16 * MAX_CUSTOM_BYTES
"""The longest ``custom`` that is parsed at all, in bytes of JSON: escapes and white space make a small one longer."""

MAX_HASHES_JSON_BYTES: Final = 4096
"""The longest ``hashes`` that are parsed at all; those of all known algorithms take 600."""

MAX_LENGTH_JSON_BYTES: Final = 128
"""The longest ``length`` that is parsed at all; sixteen digits take 100 where each is written as an escape."""

HEX_DIGITS: Final = {"sha256": 64, "sha512": 128, "sha224": 56, "sha384": 96, "blake2b-256": 64}
"""Hash algorithms that python-tuf verifies, and how many hexadecimal digits a value has."""

DEFAULT_HASH_ALGORITHMS: Final = ("sha256", "sha512")
"""What tuf-js and go-tuf know as well as python-tuf; they refuse a target with any other algorithm."""

_any_decoder: Final = msgspec.json.Decoder()
_HEX = re.compile("[0-9a-f]+")
_DECIMAL = re.compile("[0-9]{1,16}", re.ASCII)


class Target(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """A target file: its path in the repository, and what its metadata says of it.

    Attributes:
        path: the target path, relative, ``/`` between segments.
        length: in bytes.
        hashes: algorithm to lower-case hexadecimal digest; at least one.
        custom: what the repository adds, an object; None for none.
    """

    path: str
    length: int
    hashes: dict[str, str]
    custom: dict[str, Any] | None = None


class Allowed(NamedTuple):
    """What targets may have.

    Attributes:
        hash_algorithms: that may stand in ``hashes``.
        check_path: one of the rules of ``tufline.metadata.paths``.
    """

    hash_algorithms: Collection[str] = DEFAULT_HASH_ALGORITHMS
    check_path: Callable[[str], str] = check_new_path


DEFAULT_ALLOWED: Final = Allowed()


class Entry(NamedTuple):
    """A target's entry in a bin: the raw path that it is sorted by, and the canonical bytes ``"<path>":{…}``."""

    path: str
    encoded: bytes


def _check_hashes(hashes: object, allowed: Collection[str]) -> dict[str, str]:
    if not isinstance(hashes, dict) or not hashes:
        raise InvalidTargetError("hashes must be an object with at least one algorithm, such as {'sha256': '<64 hexadecimal digits>'}")
    checked = {}
    for algorithm, value in hashes.items():
        if algorithm not in allowed:
            known = algorithm in HEX_DIGITS
            said = "a repository of the client profile 'rstuf' accepts blake2b-256, and what ingest.hash_algorithms names"
            advice = f"; {said}" if known else ""
            raise InvalidTargetError(f"the hash algorithm {shown(algorithm)} is not one of {', '.join(allowed)}{advice}")
        digest = value.lower() if isinstance(value, str) else ""
        digits = HEX_DIGITS[algorithm]
        if len(digest) != digits or not _HEX.fullmatch(digest):
            raise InvalidTargetError(f"the {algorithm} value is not {digits} hexadecimal digits")
        checked[algorithm] = digest
    return checked


def _check_length(length: object) -> int:
    if isinstance(length, str) and _DECIMAL.fullmatch(length):
        length = int(length)
    if isinstance(length, bool) or not isinstance(length, int):
        raise InvalidTargetError("length must be a whole number of bytes")
    if not 0 <= length <= canonical.MAX_INTEGER:
        raise InvalidTargetError("length must be from 0 to 2^53 bytes")
    return length


def _check_custom(custom: object) -> dict[str, Any] | None:
    if custom is None:
        return None
    if not isinstance(custom, dict):
        raise InvalidTargetError("custom must be an object")
    # The size first: it costs a fraction of the check, which is then of something small. What has no size has a fault that is found.
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


def parse_target(path: object, length: object, hashes: object, custom: object = None, allowed: Allowed = DEFAULT_ALLOWED) -> Target:
    """Make a target of what a repository sent.

    Args:
        path: the target path.
        length: bytes, as an integer from 0 to 2^53 or such an integer as a decimal string.
        hashes: algorithm to hexadecimal digest, in either case.
        custom: an object or None; at most ``MAX_CUSTOM_BYTES`` in canonical form.
        allowed: the rules of path and hashes.

    Returns:
        The target, with lower-case hashes.

    Raises:
        InvalidTargetError: with the reason.
    """
    if not isinstance(path, str):
        raise InvalidTargetError("path must be a string")
    checked = _check_hashes(hashes, allowed.hash_algorithms)
    return Target(allowed.check_path(path), _check_length(length), checked, _check_custom(custom))


def parse_target_json(path: str, length: bytes, hashes: bytes, custom: bytes, allowed: Allowed = DEFAULT_ALLOWED) -> Target:
    """Make a target of JSON that was submitted. Its size is judged before anything of it is parsed.

    Args:
        path: the target path.
        length: JSON, as ``parse_target`` takes it.
        hashes: JSON, as ``parse_target`` takes it.
        custom: JSON, as ``parse_target`` takes it; ``null`` for none.
        allowed: the rules of path and hashes.

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


def encode_entry(target: Target) -> Entry:
    """Write a target's entry once, in canonical form.

    Args:
        target: one that ``parse_target`` made.

    Returns:
        The entry; joined by commas in the order of their paths, entries are the inside of a bin's ``targets``.
    """
    info: dict[str, object] = {"hashes": target.hashes, "length": target.length}
    if target.custom is not None:
        info["custom"] = target.custom
    return Entry(target.path, canonical.encode(target.path) + b":" + canonical.encode(info))
