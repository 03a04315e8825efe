"""Shared by the commands that sign: reading root and targets, describing a version, and asking a server for the versions that wait."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from securesystemslib.signer import Key, SSlibKey
from tuf.api.metadata import Metadata, Root, Targets

from tufline.client.rest import Client
from tufline.errors import MetadataError
from tufline.keys.offline import OfflineKey
from tufline.trust import roles
from tufline.trust.signing import SHOWN_KEYID
from tufline_cli.exit_codes import Exit, Failure

TRUSTED = "trusted_root"
"""The name under which a server returns the current root, in addition to the versions that wait."""

SIGN_PATH, METADATA_PATH = "/api/v1/metadata/sign", "/api/v1/metadata/"


def read(path: Path) -> Metadata[Any]:
    """Read root or targets.

    Args:
        path: path of the file.

    Returns:
        The metadata; nothing about it is verified.

    Raises:
        Failure: if the file is neither root nor targets.
    """
    try:
        content = path.read_bytes()
        kind = json.loads(content)["signed"]["_type"]
        return roles.parse(Root if kind == Root.type else Targets, content)
    except (OSError, ValueError, KeyError, TypeError, MetadataError) as error:
        raise Failure(f"{path} is neither root nor targets metadata: {error}", code=Exit.USAGE) from error


def trusted_root(path: Path) -> Root:
    """Read the current root.

    Args:
        path: path of the file.

    Returns:
        The root; nothing about it is verified.

    Raises:
        Failure: if the file is not root.
    """
    root = read(path).signed
    if not isinstance(root, Root):
        raise Failure(f"{path} is not root metadata", code=Exit.USAGE)
    return root


def missing(metadata: Metadata[Any], trusted: Root) -> dict[str, int]:
    """Count the missing signatures.

    Args:
        metadata: root or targets.
        trusted: the current root.

    Returns:
        A description of the keys that have to sign, to the number of missing signatures; empty if none is missing.
    """
    role = metadata.signed.type
    asked = {f"{role} of root {trusted.version}": trusted}
    if isinstance(metadata.signed, Root):
        asked[f"root of root {metadata.signed.version}"] = metadata.signed
    found = {}
    for name, root in asked.items():
        result = root.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
        if not result.verified:
            found[name] = result.threshold - len(result.signed)
    return found


def changes(signed: Root | Targets, trusted: Root, custom: str = "") -> str:
    """Describe a version in one line, for the person who signs it.

    Args:
        signed: root or targets.
        trusted: the current root.
        custom: the name of a custom role; empty for root and top-level targets.

    Returns:
        The version and its expiry; for root also the keys that differ from the current root, or for a first root all its keys.
    """
    summary = f"{custom or signed.type} version {signed.version}, valid until {signed.expires:%Y-%m-%d}"
    if custom and isinstance(signed, Targets):
        summary += f", with {len(signed.targets)} artifacts"
    if not isinstance(signed, Root):
        return summary
    if signed.version == trusted.version:
        return summary + "".join(
            f"; {of_role.threshold} of {', '.join(keyid[:SHOWN_KEYID] for keyid in of_role.keyids)} sign {role}"
            for role, of_role in signed.roles.items()
        )
    for role, of_role in signed.roles.items():
        before = set(trusted.roles[role].keyids)
        summary += "".join(f"; {role} loses the key {keyid[:SHOWN_KEYID]}" for keyid in sorted(before - set(of_role.keyids)))
        summary += "".join(f"; {role} gets the key {keyid[:SHOWN_KEYID]}" for keyid in sorted(set(of_role.keyids) - before))
        if of_role.threshold != trusted.roles[role].threshold:
            summary += f"; {of_role.threshold} keys must sign {role}, instead of {trusted.roles[role].threshold}"
    return summary


@dataclass(frozen=True, slots=True)
class Waiting:
    """The versions that wait for signatures on a server.

    Attributes:
        versions: role to the version that waits, and ``TRUSTED`` to the current root.
        missing: role to a description of the missing signatures, for people.
        keys: role to the keys that can make them.
    """

    versions: dict[str, Metadata[Any]]
    missing: dict[str, str]
    keys: dict[str, list[Key]]


def waiting(client: Client) -> Waiting:
    """Ask a server for the versions that wait for signatures.

    Args:
        client: sends the request.

    Returns:
        The versions, which have not been verified.
    """
    data = client.request("GET", SIGN_PATH).get("data", {})
    kinds: dict[str, type[Any]] = {"root": Root, TRUSTED: Root}
    # All but root are targets: the top-level one, and the custom roles that people sign.
    found = {role: content for role, content in data.get("metadata", {}).items() if role != "trusted_targets"}
    versions = {role: roles.parse(kinds.get(role, Targets), content) for role, content in found.items()}
    missing, keys = {}, {}
    for role, sets in data.get("missing", {}).items():
        missing[role] = ", ".join(f"{one['count']} more of {', '.join(keyid[:SHOWN_KEYID] for keyid in one['keyids'])}" for one in sets)
        keys[role] = [Key.from_dict(keyid, key) for one in sets for keyid, key in one["keys"].items()]
    return Waiting(versions, missing, keys)


def signing_keys(signed: Root | Targets, trusted: Root) -> list[Key]:
    """Return the keys that may sign a version.

    Args:
        signed: root or targets.
        trusted: the current root.

    Returns:
        Their public keys; for root those of the current and of the new version.
    """
    roots = [trusted, signed] if isinstance(signed, Root) else [trusted]
    return [one.keys[keyid] for one in roots for keyid in one.roles[signed.type].keyids if keyid in one.keys]


def matching(held: Sequence[OfflineKey], may_sign: Sequence[Key]) -> list[tuple[OfflineKey, SSlibKey]]:
    """Return which private keys can sign.

    Args:
        held: private keys.
        may_sign: the public keys that may.

    Returns:
        Each private key with each public key that it belongs to.
    """
    return [(one, key) for one in held for key in one.matching(may_sign)]


def print_missing(metadata: Metadata[Any], trusted: Root, file: str = "", left: str = "") -> None:
    """Print which signatures a version still needs.

    Args:
        metadata: root or targets.
        trusted: the current root.
        file: a prefix, such as the file's name.
        left: the missing signatures according to the server; printed if the current root requires no more.
    """
    left = ", ".join(f"{count} more of {who}" for who, count in missing(metadata, trusted).items()) or left
    click.echo(f"{file}{metadata.signed.type} version {metadata.signed.version}: {left or 'complete'}")
