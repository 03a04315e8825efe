"""A ceremony of several people, each with a key on a machine of their own. Its state is a directory, so it can be left and resumed.

    keys/NAME.pub.json     from each person: the public key (``tufline keys generate``, ``tufline keys public``)
    online/ROLE.json       from the signer's side: the proof of an online key (``tufline keys prove``); all.json if the roles share one
    sign/                  the metadata to sign: root.json, targets.json, and trusted-root.json, which names the keys that may sign
    signatures/NAME.json   from each person: the signatures (``tufline sign --signatures``)
    root.json              what clients start with, once enough people signed
    bootstrap.json         the body for POST /api/v1/bootstrap/

The directory has no private keys. ``sign/`` is made once, when all public keys and proofs are there; the metadata to sign does not change
after that. Each signature is verified, and metadata that a server would refuse is refused before anybody signs.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from securesystemslib.signer import SSlibKey
from tuf.api.metadata import Metadata, Root

from tufline.errors import InvalidInputError, MetadataError
from tufline.metadata.bins import DEFAULT_NAME_PREFIX
from tufline.records import CURRENT_RULES, Bootstrap, Settings
from tufline.trust import ceremony, key_files, roles
from tufline.trust.acceptance import signable
from tufline.trust.admin_state import AdminState
from tufline.trust.ceremony_answers import Answers
from tufline.trust.signing import Signable

ALL: Final = "all"
"""Stands for all online roles, in the name of a file."""

TRUSTED_ROOT: Final = "trusted-root.json"
"""The current root, next to the files to sign; a first root is signed by its own keys."""


@dataclass(frozen=True, slots=True)
class Place:
    """The files of a ceremony.

    Attributes:
        directory: the ceremony's directory.
        answers: what people decided.
    """

    directory: Path
    answers: Answers

    @property
    def keys(self) -> dict[str, Path]:
        """For each person, the file of the public key."""
        return {name: self.directory / "keys" / f"{name}.pub.json" for name in self.answers.holders}

    @property
    def online(self) -> dict[str, Path]:
        """For each online role, the file with the proof of its key."""
        names = {role: ALL if self.answers.online_keys == "one" else role for role in self.answers.online_roles}
        return {role: self.directory / "online" / f"{name}.json" for role, name in names.items()}

    @property
    def to_sign(self) -> dict[str, Path]:
        """For each role that people sign, the file to sign."""
        return {role: self.directory / "sign" / f"{role}.json" for role in self.answers.signers}

    @property
    def signatures(self) -> Path:
        """The directory of the files with signatures."""
        return self.directory / "signatures"

    @property
    def missing_keys(self) -> list[Path]:
        """The files of public keys and proofs that do not exist yet."""
        return [path for path in dict.fromkeys([*self.keys.values(), *self.online.values()]) if not path.exists()]

    @property
    def is_prepared(self) -> bool:
        """Whether the metadata to sign has been made."""
        return (self.directory / "sign" / TRUSTED_ROOT).exists()


def public_keys(place: Place) -> dict[str, SSlibKey]:
    """Read the public keys that people handed over.

    Args:
        place: the ceremony's files; all public keys must be there.

    Returns:
        Person to public key.

    Raises:
        MetadataError: if one can't be used.
    """
    return {name: _key(path, None, is_online=False) for name, path in place.keys.items()}


def prepare(place: Place, now: datetime) -> None:
    """Make the metadata to sign. All public keys and proofs must be there.

    Args:
        place: the ceremony's files.
        now: the time from which lifetimes count.

    Raises:
        MetadataError: if a key or proof can't be used, or a server would refuse the metadata, with the file and the reason.
    """
    metadata = _metadata(place, now, now)
    _signables(place.answers, {role: one.to_dict() for role, one in metadata.items()}, now)
    (place.directory / "sign").mkdir(exist_ok=True)
    place.signatures.mkdir(exist_ok=True)
    for role, path in place.to_sign.items():
        path.write_bytes(metadata[role].to_bytes())
    # Written last: this file marks the preparation as complete.
    (place.directory / "sign" / TRUSTED_ROOT).write_bytes(metadata[Root.type].to_bytes())


def collect(place: Place, now: datetime) -> dict[str, Signable]:
    """Read the metadata to sign, and add the signatures that people handed over.

    Args:
        place: the ceremony's files; ``prepare`` must have been called.
        now: a time with a time zone.

    Returns:
        Role to its version with all signatures.

    Raises:
        MetadataError: if a signature does not count, or the keys or answers have changed since, with the file and the reason.
    """
    files = {role: _read(path) for role, path in place.to_sign.items()}
    root: Root = roles.parse(Root, files[Root.type]).signed
    began = root.expires - timedelta(days=place.answers.root_days)
    made_again = {role: one.signed.to_dict() for role, one in _metadata(place, began, None).items()}
    if made_again != {role: file["signed"] for role, file in files.items()}:
        raise MetadataError(
            f"{place.directory / 'sign'} was made from other answers or public keys: put those back, or delete it and "
            f"{place.signatures} and let people sign again"
        )
    found = _signables(place.answers, files, now)
    for path in sorted(place.signatures.glob("*.json")):
        found = _with_signatures(found, path)
    return found


def bootstrap(place: Place, found: Mapping[str, Signable]) -> dict[str, Any]:
    """Make the body for POST /api/v1/bootstrap/.

    Args:
        place: the ceremony's files.
        found: the metadata, with the signatures so far.

    Returns:
        The body; the server collects the signatures that are still missing.
    """
    return ceremony.payload(place.answers.plan, {role: _parsed(one) for role, one in found.items()})


def finish(place: Place, found: Mapping[str, Signable]) -> None:
    """Write the results.

    Args:
        place: the ceremony's files.
        found: the metadata, signed by enough people.
    """
    (place.directory / "root.json").write_bytes(_parsed(found[Root.type]).to_bytes())
    (place.directory / "bootstrap.json").write_text(json.dumps(bootstrap(place, found), indent=1))


def _parsed(one: Signable) -> Metadata[Any]:
    kind: type[Any] = type(one.signed)
    return roles.parse(kind, one.metadata)


def _metadata(place: Place, began: datetime, now: datetime | None) -> dict[str, Metadata[Any]]:
    held = public_keys(place)
    online = {role: _key(path, now, is_online=True) for role, path in place.online.items()}
    owners: dict[str, str] = {}
    for name, key in [*held.items(), *((f"{role} (online)", key) for role, key in online.items())]:
        other = owners.setdefault(str(key.keyval["public"]), name)
        if other != name and not (name.endswith("(online)") and other.endswith("(online)")):
            raise MetadataError(f"{other} and {name} have the same key: each person, and the online roles, need a key of their own")
    by_role = {role: [held[name] for name in names] for role, names in place.answers.signers.items()}
    try:
        return ceremony.first_metadata(place.answers.plan, by_role["root"], by_role.get("targets", []), online, began)
    except ValueError as error:
        raise MetadataError(str(error)) from error


def _key(path: Path, now: datetime | None, *, is_online: bool) -> SSlibKey:
    try:
        found = key_files.read(path.read_bytes(), now)
    except MetadataError as error:
        raise MetadataError(f"{path}: {error}") from error
    if is_online and found.proved is None:
        raise MetadataError(f"{path} has a key, but no proof that the signer can use it: make one with tufline keys prove URI")
    if not is_online and found.key.unrecognized_fields:
        raise MetadataError(f"{path} contains the URI of its private key: hand over the key that tufline keys public prints")
    return found.key


def _signables(answers: Answers, metadata: Mapping[str, Any], now: datetime) -> dict[str, Signable]:
    plan = answers.plan
    settings = Settings(plan.bins, DEFAULT_NAME_PREFIX, 1, dict(plan.days), answers.client_profile)
    record = Bootstrap(settings=settings, root=metadata["root"], targets=metadata.get("targets"), rules=CURRENT_RULES)
    try:
        return {one.signed.type: one for one in signable(AdminState(), record, now)}
    except InvalidInputError as error:
        raise MetadataError(str(error)) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
    except ValueError as error:
        raise MetadataError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise MetadataError(f"{path} is not a JSON object")
    return content


def _with_signatures(found: Mapping[str, Signable], path: Path) -> dict[str, Signable]:
    signed = dict(found)
    for role, entries in _read(path).items():
        if role not in found or not isinstance(entries, list):
            raise MetadataError(f"{path} has signatures of {role!r}: write it with tufline sign --signatures")
        for entry in entries:
            try:
                keyid, sig = str(entry["keyid"]), str(entry["sig"])
            except (KeyError, TypeError) as error:
                raise MetadataError(f"{path} does not contain signatures: write it with tufline sign --signatures") from error
            if any(one["keyid"] == keyid for one in signed[role].metadata["signatures"]):
                continue  # the same key signed with another file, too
            try:
                content = signed[role].sign(keyid, sig)
            except InvalidInputError as error:
                raise MetadataError(f"{path}: {error}") from error
            signed[role] = Signable(content, signed[role].signed, signed[role].signers)
    return signed
