"""The rules that TUF clients impose on root and top-level targets: one list, each rule with its source.

A submitted version is accepted only if every client of the repository's profile (``tufline.metadata.profiles``) accepts it.
``tufline.trust.rules`` verifies signatures and expiry; this module checks the format, so that all clients read the same content.

The rules, and the clients that would fail without them:

- A value has its exact JSON type, a version is from 1 to 2^31 - 1, a threshold from 1 to the number of keys. python-tuf takes ``true``
  for 1 and any iterable for a list (``_payload.py``, ``Role.__init__``); go-tuf decodes into typed fields (``types.go``).
- ``consistent_snapshot`` is ``true``: tuf-js wants a boolean (``root.ts``, ``fromJSON``); bins change while clients read (specification,
  6.2).
- ``spec_version`` is 1.x or 1.x.y, ``expires`` is ``YYYY-MM-DDTHH:MM:SSZ``, in ASCII digits: python-tuf's ``strptime`` accepts shorter
  forms and encodes them in full, so it verifies other bytes than go-tuf (``time.Time``) and tuf-js (the text as it is).
- python-tuf encodes the parsed metadata exactly as it was submitted: each client verifies signatures over its own encoding of what it
parsed. - No field's name differs from a known one only by case: go-tuf's ``encoding/json`` would read it as the known one. - A signature is
an object with only ``keyid`` and ``sig``, and ``sig`` is lower-case hexadecimal of even length (an empty one is valid, but
  does not count): otherwise go-tuf refuses the whole file (``marshal.go``, ``HexBytes``), and tuf-js does if one of them is not a string
  (``signature.ts``). A keyid occurs once (all three). It is a SHA-256, or the keyid of a key in the previous root: tuf-js looks it up in a
  plain object, which already has ``constructor`` (``metadata.ts``, ``fromJSON``).
- A key's type and scheme are among ``profiles.SCHEMES``, and its public key is 64 lower-case hexadecimal digits (Ed25519) or PEM as
  OpenSSL writes it: the three clients load it differently (securesystemslib ``_key.py``; tuf-js ``utils/key.ts``; go-tuf ``keys.go``).
- A keyid is the SHA-256 of the canonical keytype, scheme and keyval, or of the whole key object (specification, 4.2; securesystemslib's
  default is the first, go-tuf's and tough's the second).
- A role names no public key twice: python-tuf and tuf-js count keyids, while go-tuf since 2.4 counts public keys. It names only existing
  keys: otherwise go-tuf refuses the role (``metadata.go``, ``VerifyDelegate``).
- Bins are named ``[a-z][a-z0-9-]*`` and a number: the name becomes the name of a file, next to ``1.root.json`` (specification, 6.2).
- A custom role has a name that no other role's file can have (``tufline.metadata.delegations``), and patterns that all clients read the
  same way (``tufline.metadata.path_patterns``).
- Top-level targets lists no files: clients search it first, and would never see the bins' entries for them (specification, 5.6.7).
"""

import hashlib
import re
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Final

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from tufline.decoding import converter
from tufline.errors import MetadataError
from tufline.metadata.delegations import ALL_PATHS, Delegation, check_roles
from tufline.metadata.keyids import keyid_of
from tufline.metadata.profiles import CLIENTS, SCHEMES

MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 8192
MAX_RSA_EXPONENT: Final = 2**31 - 1
"""The largest public exponent that Go's crypto/rsa accepts."""

ED25519_HEX: Final = 64
MAX_VERSION: Final = 2**31 - 1
MAX_PREFIX: Final = 100
"""The longest prefix of the bins' names: a file's name has at most 255 bytes."""

_Expires = Annotated[str, msgspec.Meta(pattern=r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z\Z")]
_SpecVersion = Annotated[str, msgspec.Meta(pattern=r"\A1\.[0-9]+(?:\.[0-9]+)?\Z")]
_Version = Annotated[int, msgspec.Meta(ge=1, le=MAX_VERSION)]
_PREFIX: Final = re.compile(r"[a-z][a-z0-9-]*")


class _Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    keyid: str
    sig: str


class _Signatures(msgspec.Struct, frozen=True):
    signatures: list[_Signature]


class _Key(msgspec.Struct, frozen=True):
    keytype: str
    scheme: str
    keyval: dict[str, str]


class _Role(msgspec.Struct, frozen=True, kw_only=True):
    keyids: Annotated[list[str], msgspec.Meta(min_length=1)]
    threshold: Annotated[int, msgspec.Meta(ge=1)]


class _Bins(_Role, frozen=True, kw_only=True):
    bit_length: int
    name_prefix: str


class _Delegations(msgspec.Struct, frozen=True):
    keys: dict[str, _Key]
    succinct_roles: _Bins


class _CustomRole(_Role, frozen=True, kw_only=True):
    name: str
    terminating: bool
    paths: list[str] | msgspec.UnsetType = msgspec.UNSET
    path_hash_prefixes: list[str] | msgspec.UnsetType = msgspec.UNSET


class _CustomDelegations(msgspec.Struct, frozen=True):
    keys: dict[str, _Key]
    roles: Annotated[list[_CustomRole], msgspec.Meta(min_length=2)]


class _Signed(msgspec.Struct, frozen=True, kw_only=True):
    type_: str = msgspec.field(name="_type")
    spec_version: _SpecVersion
    version: _Version
    expires: _Expires


class _Root(_Signed, frozen=True, kw_only=True):
    consistent_snapshot: bool
    keys: dict[str, _Key]
    roles: dict[str, _Role]


class _Targets(_Signed, frozen=True, kw_only=True):
    targets: dict[str, Any]
    delegations: _Delegations


class _CustomTargets(_Signed, frozen=True, kw_only=True):
    targets: dict[str, Any]
    delegations: _CustomDelegations


class _Delegated(msgspec.Struct, frozen=True):
    role: _Role
    keys: dict[str, _Key]


class _RootFile(msgspec.Struct, frozen=True):
    signatures: list[_Signature]
    signed: _Root


class _TargetsFile(msgspec.Struct, frozen=True):
    signatures: list[_Signature]
    signed: _Targets


class _CustomTargetsFile(msgspec.Struct, frozen=True):
    signatures: list[_Signature]
    signed: _CustomTargets


_read_root: Final = converter(_RootFile)
_read_targets: Final = converter(_TargetsFile)
_read_custom_targets: Final = converter(_CustomTargetsFile)
_read_signatures: Final = converter(_Signatures)
_read_delegation: Final = converter(_Delegated)


def check(content: Mapping[str, Any], profile: str, known: Collection[str] = ()) -> None:
    """Refuse root or targets that some client of the profile would read differently from the others, or not at all.

    Args:
        content: the object, ``{"signatures": […], "signed": {…}}``, which python-tuf has already read.
        profile: the repository's profile.
        known: the keyids of the previous root, which signatures may name in any form.

    Raises:
        MetadataError: with the place, the reason and what to do.
    """
    signed = content["signed"]
    is_root = signed["_type"] == "root"
    try:
        if is_root:
            file: _RootFile | _TargetsFile | _CustomTargetsFile = _read_root(content)
        elif isinstance(signed.get("delegations"), dict) and "succinct_roles" not in signed["delegations"]:
            file = _read_custom_targets(content)
        else:
            file = _read_targets(content)
    except msgspec.ValidationError as error:
        raise MetadataError(f"clients can't read this {signed['_type']}: {error}") from None
    _check_signatures(file.signatures, known)
    _check_names(signed, _Root if is_root else _Targets, "signed")
    if isinstance(file, _RootFile):
        publics = _check_keys(signed["keys"], profile)
        if not file.signed.consistent_snapshot:
            raise MetadataError("root must have consistent_snapshot true: otherwise clients would read files that are being replaced")
        for name, role in file.signed.roles.items():
            _check_names(signed["roles"][name], _Role, f"roles.{name}")
            _check_role(name, role, publics)
        return
    if file.signed.targets:
        raise MetadataError(
            f"targets lists {len(file.signed.targets)} files itself, so clients would never see the bins' entries for them: "
            "sign targets without files, and add the files as artifacts"
        )
    delegations = signed["delegations"]
    if isinstance(file, _CustomTargetsFile):
        _check_custom(delegations, file.signed.delegations, profile)
        return
    _check_names(delegations, _Delegations, "delegations", {"roles"})
    _check_names(delegations["succinct_roles"], _Bins, "delegations.succinct_roles")
    _check_prefix("name_prefix", file.signed.delegations.succinct_roles.name_prefix)
    _check_role("bins", file.signed.delegations.succinct_roles, _check_keys(delegations["keys"], profile))


def _check_prefix(where: str, prefix: str) -> None:
    if len(prefix) > MAX_PREFIX or not _PREFIX.fullmatch(prefix):
        raise MetadataError(
            f"{where} is {prefix[:MAX_PREFIX]!r}, which can't start the names of files: use lower-case letters, digits and '-', "
            f"starting with a letter, and at most {MAX_PREFIX} characters"
        )


def _check_custom(content: Mapping[str, Any], delegations: _CustomDelegations, profile: str) -> None:
    """Refuse custom roles, or a catch-all role after them, that some client would read differently from the others."""
    _check_names(content, _CustomDelegations, "delegations", {"succinct_roles"})
    publics = _check_keys(content["keys"], profile)
    *custom, catch_all = delegations.roles
    for role, of_role in zip(delegations.roles, content["roles"], strict=True):
        _check_names(of_role, _CustomRole, f"delegations.roles of {role.name[:MAX_PREFIX]!r}")
        _check_role(role.name, role, publics)
    _check_prefix("the name of the last role", catch_all.name)
    if catch_all.path_hash_prefixes != [*ALL_PATHS] or catch_all.paths is not msgspec.UNSET or not catch_all.terminating:
        raise MetadataError(
            f"the last role is {catch_all.name!r}, but must take every path that no custom role takes: "
            f"terminating true, no paths, and path_hash_prefixes {[*ALL_PATHS]}"
        )
    for role in custom:
        if role.path_hash_prefixes is not msgspec.UNSET or role.paths is msgspec.UNSET:
            raise MetadataError(f"{role.name!r} takes paths by their hash: name patterns in paths")
    named = [Delegation(name=role.name, paths=tuple(role.paths or ()), terminating=role.terminating) for role in custom]
    check_roles(tuple(named), frozenset(role.name for role in named), catch_all.name)


def check_delegation(name: str, keyids: list[str], threshold: int, keys: Mapping[str, Any], profile: str) -> None:
    """Refuse the keys of a custom role that some client of the profile would read differently from the others, or not at all.

    Args:
        name: the role's name.
        keyids: the keys that may sign it.
        threshold: how many of them must.
        keys: keyid to key object.
        profile: the repository's profile.

    Raises:
        MetadataError: with the place, the reason and what to do.
    """
    try:
        file = _read_delegation({"role": {"keyids": keyids, "threshold": threshold}, "keys": keys})
    except msgspec.ValidationError as error:
        raise MetadataError(f"clients can't read the keys of {name}: {error}") from None
    _check_role(name, file.role, _check_keys({keyid: keys[keyid] for keyid in keyids if keyid in keys}, profile))


def check_signatures(signatures: Any, known: Collection[str] = ()) -> None:
    """Refuse signatures that would make some client refuse the whole file.

    Args:
        signatures: the list of signatures in the file.
        known: keyids that the signatures may name in any form.

    Raises:
        MetadataError: with the place, the reason and what to do.
    """
    try:
        entries = _read_signatures({"signatures": signatures}).signatures
    except msgspec.ValidationError as error:
        raise MetadataError(f"clients can't read the signatures: {error}") from None
    _check_signatures(entries, known)


def _check_signatures(signatures: Collection[_Signature], known: Collection[str]) -> None:
    seen: set[str] = set()
    for number, signature in enumerate(signatures):
        keyid, digits = signature.keyid, len(signature.sig)
        if digits % 2 or not (_is_hex(signature.sig, digits) or not digits):
            raise MetadataError(
                f"signatures[{number}].sig is not lower-case hexadecimal of even length, so go-tuf refuses the whole file: leave it out"
            )
        if keyid in seen:
            raise MetadataError(f"there are two signatures with the keyid {keyid[:64]!r}: remove one")
        seen.add(keyid)
        if keyid not in known and not _is_hex(keyid, hashlib.sha256().digest_size * 2):
            raise MetadataError(f"a signature has the keyid {keyid[:64]!r}, which is not a SHA-256 in lower-case hexadecimal: leave it out")


def _check_names(found: Mapping[str, Any], known: type[msgspec.Struct], where: str, more: Collection[str] = ()) -> None:
    names = {*known.__struct_encode_fields__, *more}
    for name in found:
        if name not in names and name.casefold() in names:
            raise MetadataError(f"{where} has a field {name!r}, which go-tuf reads as {name.casefold()!r}: rename it")


def _check_keys(keys: Mapping[str, Any], profile: str) -> dict[str, bytes]:
    return {keyid: _check_key(keyid, key, profile) for keyid, key in keys.items()}


def _check_key(keyid: str, key: Mapping[str, Any], profile: str) -> bytes:
    where = f"the key {keyid[:12]!r}"
    _check_names(key, _Key, where)
    if any(name != "public" and name.casefold() == "public" for name in key["keyval"]):
        raise MetadataError(f"keyval of {where} has a second field for the public key: leave it out")
    common = {name: key[name] for name in ("keytype", "scheme", "keyval")}
    if keyid not in {keyid_of(common), keyid_of(key)}:
        raise MetadataError(
            f"the keyid {keyid[:64]!r} is not the SHA-256 of its key, neither of the canonical keytype, scheme and keyval, nor of the "
            f"whole key object: use the keyid {keyid_of(key)}"
        )
    return check_public(where, key["keytype"], key["scheme"], key["keyval"]["public"], profile)


def check_public(where: str, keytype: str, scheme: str, public: str, profile: str) -> bytes:
    """Refuse a public key that a client of the profile can't load, or could load as another key.

    Args:
        where: the key's name in the error message.
        keytype: the key's type.
        scheme: the key's scheme.
        public: the public key from ``keyval``.
        profile: the repository's profile.

    Returns:
        The key in a form that does not depend on how it is written: its SubjectPublicKeyInfo.

    Raises:
        MetadataError: with the reason and what to do.
    """
    if (keytype, scheme) not in SCHEMES[profile]:
        allowed = ", ".join(sorted({scheme for _, scheme in SCHEMES[profile]}))
        clients = ", ".join(f"{client.name} {client.oldest} to {client.newest}" for client in CLIENTS[profile])
        raise MetadataError(f"{where} has type {keytype!r} and scheme {scheme!r}, which not all of {clients} can verify: use {allowed}")
    if keytype == "ed25519":
        if not _is_hex(public, ED25519_HEX):
            raise MetadataError(f"{where} is not an Ed25519 public key: write its 32 bytes as {ED25519_HEX} lower-case hexadecimal digits")
        return _spki(Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)))
    if _is_hex(public, len(public)):
        raise MetadataError(f"{where} is hex-encoded, which python-tuf and go-tuf can't load for {scheme}: write it as PEM")
    try:
        loaded = load_pem_public_key(public.encode())
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise MetadataError(f"the public key of {where} is not valid PEM") from error
    curve = SECP384R1 if scheme.endswith("384") else SECP256R1
    match loaded:
        case EllipticCurvePublicKey() if keytype != "rsa" and isinstance(loaded.curve, curve):
            pass
        case RSAPublicKey() if keytype == "rsa":
            if not MIN_RSA_BITS <= loaded.key_size <= MAX_RSA_BITS or loaded.public_numbers().e > MAX_RSA_EXPONENT:
                raise MetadataError(
                    f"{where} has {loaded.key_size} bits: RSA keys must have {MIN_RSA_BITS} to {MAX_RSA_BITS}, and a small exponent"
                )
        case _:
            raise MetadataError(f"the public key of {where} does not fit its scheme {scheme}")
    written = loaded.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    if public not in {written, written.rstrip("\n")}:
        raise MetadataError(f"the public key of {where} is PEM that not all clients can load: write it as {written!r}")
    return _spki(loaded)


def _spki(key: Ed25519PublicKey | EllipticCurvePublicKey | RSAPublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _is_hex(text: str, digits: int) -> bool:
    return len(text) == digits > 0 and set(text) <= set("0123456789abcdef")


def _check_role(name: str, role: _Role, publics: Mapping[str, bytes]) -> None:
    for keyid in role.keyids:
        if keyid not in publics:
            raise MetadataError(f"{name} names the keyid {keyid[:64]!r}, but there is no such key: add the key, or leave the keyid out")
    distinct = len({publics[keyid] for keyid in role.keyids})
    if distinct < len(role.keyids):
        raise MetadataError(f"{name} names one public key under two keyids: name it once, as a threshold counts public keys")
    if role.threshold > distinct:
        raise MetadataError(f"{name} has a threshold of {role.threshold}, but only {distinct} keys: lower it, or add keys")
