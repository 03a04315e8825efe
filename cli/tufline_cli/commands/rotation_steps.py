"""The steps of ``tufline keys rotate``, which replaces an online key.

The state is in a directory and on the server, so the command can be interrupted at any time and called again: it reads the state, does the
next step, and prints what the operator has to do.

    1  the new key exists              (tufline keys create, or a new version of the same key)
    2  root and targets are written    unsigned, to the directory
    3  they are signed offline         (tufline sign, anywhere)
    4  they are submitted              the server signs with both keys, releases the new versions, and stops using the old key
    5  the old key is retired          (tufline keys retire)
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import click
from securesystemslib.signer import Key
from tuf.api.metadata import Metadata, Root, Targets

from tufline.client.rest import Client
from tufline.errors import MetadataError
from tufline.metadata import key_uris
from tufline.trust import roles
from tufline.trust.rotation import in_place_of, next_root, next_targets
from tufline.trust.shared_ceremony import TRUSTED_ROOT
from tufline_cli.exit_codes import Exit, Failure
from tufline_cli.signing_steps import missing, read

STATE: Final = "rotation.json"
DEFAULT_DAYS: Final = 365
ROLES: Final = (Root.type, Targets.type)
POLL_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Rotation:
    """A rotation that was started.

    Attributes:
        old: keyid of the old key.
        new: keyid of the new key.
        uri: URI of the old key, to retire it at the end.
        skip_overlap: whether the old key is lost.
    """

    old: str
    new: str
    uri: str
    skip_overlap: bool


def read_rotation(directory: Path) -> Rotation | None:
    """Read a rotation that was started.

    Args:
        directory: directory of the rotation.

    Returns:
        The rotation; None if there is none in the directory.

    Raises:
        Failure: if the directory's state file can't be read.
    """
    try:
        return Rotation(**json.loads((directory / STATE).read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise Failure(f"{directory / STATE} was not written by this command: {error}", "start in another directory") from error


def _online_keys(root: Root, targets: Targets | None) -> dict[str, Key]:
    keys = dict(root.keys)
    if targets is not None and targets.delegations is not None:
        keys |= targets.delegations.keys
    return {keyid: key for keyid, key in keys.items() if key_uris.ONLINE_KEY_URI in key.unrecognized_fields}


def _find(old: str, keys: Mapping[str, Key]) -> str:
    found = {keyid for keyid, key in keys.items() if keyid.startswith(old) or key.unrecognized_fields[key_uris.ONLINE_KEY_URI] == old}
    if len(found) != 1:
        known = "; ".join(f"{keyid} ({key.unrecognized_fields[key_uris.ONLINE_KEY_URI]})" for keyid, key in keys.items())
        raise Failure(f"{old!r} names {len(found)} online keys", f"the online keys are: {known}", Exit.USAGE)
    return found.pop()


def start_rotation(
    directory: Path, client: Client, old: str | None, make: Callable[[str], Key], days: int, *, skip_overlap: bool
) -> Rotation:
    """Start a rotation: write the root and targets that have to be signed offline.

    Args:
        directory: directory for the files; it is created.
        client: reads the current root and targets.
        old: keyid (or its start) or URI of the old key; None if there is only one.
        make: returns the new key, with its URI, for the URI of the old key.
        days: lifetime of the new versions.
        skip_overlap: whether the old key is lost.

    Returns:
        The rotation.

    Raises:
        Failure: if the old key can't be determined, or the new key is the old one.
    """
    answer = client.request("GET", "/api/v1/trust")
    root = roles.parse(Root, answer["root"]["metadata"]).signed
    targets = roles.parse(Targets, answer["targets"]["metadata"]).signed if answer["targets"]["metadata"] is not None else None
    keys = _online_keys(root, targets)
    if old is None and len(keys) != 1:
        known = "; ".join(f"{keyid} ({key.unrecognized_fields[key_uris.ONLINE_KEY_URI]})" for keyid, key in keys.items())
        raise Failure(f"there are {len(keys)} online keys", f"choose the one to replace with --old: {known}", Exit.USAGE)
    keyid = next(iter(keys)) if old is None else _find(old, keys)
    uri = str(keys[keyid].unrecognized_fields[key_uris.ONLINE_KEY_URI])
    new = in_place_of(keyid, root, make(uri))
    if new.keyid == keyid or (new.scheme, new.keyval) == (keys[keyid].scheme, keys[keyid].keyval):
        raise Failure("the new key is the old one", "make another key, or another version of it, first", Exit.USAGE)
    expires = datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)
    following = [next_root(root, keyid, new, expires), None if targets is None else next_targets(targets, keyid, new, expires)]
    directory.mkdir(parents=True, exist_ok=True)
    (directory / TRUSTED_ROOT).write_bytes(roles.parse(Root, answer["root"]["metadata"]).to_bytes())
    for signed in following:
        if signed is not None:
            metadata: Metadata[Any] = Metadata(signed)
            (directory / f"{signed.type}.json").write_bytes(metadata.to_bytes())
    rotation = Rotation(keyid, new.keyid, uri, skip_overlap)
    (directory / STATE).write_text(json.dumps(asdict(rotation), indent=1))  # written last: it marks the rotation as started
    return rotation


def read_signed(directory: Path) -> dict[str, Metadata[Any]]:
    """Read the files that were signed offline.

    Args:
        directory: directory of the rotation.

    Returns:
        Role to its next version.

    Raises:
        Failure: if signatures are missing, with the number for each file.
    """
    trusted = read(directory / TRUSTED_ROOT).signed
    paths = {role: directory / f"{role}.json" for role in ROLES if (directory / f"{role}.json").exists()}
    found = {role: read(path) for role, path in paths.items()}
    left = {role: missing(metadata, trusted) for role, metadata in found.items()}
    if any(left.values()):
        needs = "; ".join(f"{paths[role]} needs {count} more of {who}" for role, of_role in left.items() for who, count in of_role.items())
        files = " ".join(str(paths[role]) for role in found)
        raise Failure(f"signatures are missing: {needs}", f"tufline sign {files} --key <offline key>, then run this command again")
    return found


def submit_versions(client: Client, rotation: Rotation, files: Mapping[str, Metadata[Any]]) -> bool:
    """Submit the new versions to the server, unless it has them.

    Args:
        client: sends the request.
        rotation: the rotation.
        files: role to its next version.

    Returns:
        Whether anything was submitted.

    Raises:
        Failure: if the server has another version, or refuses these.
    """
    answer = client.request("GET", "/api/v1/trust")
    wanted = {}
    for role, metadata in files.items():
        given = answer[role]["pending"]
        if given >= metadata.signed.version:
            if roles.parse(type(metadata.signed), answer[role]["metadata"]).signed.version == given == metadata.signed.version and (
                roles.parse(type(metadata.signed), answer[role]["metadata"]).signed != metadata.signed
            ):
                raise Failure(f"the server has a different {role} version {given}", "start again in another directory")
            continue
        wanted[role] = metadata.to_dict()
    if wanted:
        client.request("POST", "/api/v1/metadata/", {"metadata": wanted, "skip_overlap": rotation.skip_overlap})
    return bool(wanted)


def waits_for(answer: Mapping[str, Any], rotation: Rotation, files: Mapping[str, Metadata[Any]]) -> str:
    """Describe what the rotation is waiting for.

    Args:
        answer: the server's answer to GET /api/v1/trust.
        rotation: the rotation.
        files: role to its new version.

    Returns:
        One sentence for the operator; empty once the old key no longer signs anything.
    """
    governs_bins = Targets.type in files or bool({rotation.old, rotation.new} & answer["bins"].keys())
    bins, total = (answer["bins"].get(rotation.new, 0), answer["number_of_bins"]) if governs_bins else (0, 0)
    # A custom role without keys of its own is signed with the keys of the bins.
    custom = {role: keyids for role, keyids in answer["custom_roles"].items() if {rotation.old, rotation.new} & {*keyids}}
    late = [role for role, keyids in custom.items() if rotation.new not in keyids]
    if bins < total or late:
        files_signed = f"{bins + len(custom) - len(late)} of {total + len(custom)} {'bins and custom roles' if custom else 'bins'}"
        own = f"; if the old key is {late[0]}'s own, replace it with tufline delegations update" if late and bins == total else ""
        return f"{files_signed} are signed with the new key{own}"
    waiting = [f"{role} {metadata.signed.version}" for role, metadata in files.items() if answer[role]["current"] < metadata.signed.version]
    if waiting:
        return f"{' and '.join(waiting)} will be released when everything is signed with both keys and old versions have left the caches"
    still = [role for role, keyids in answer["keyids"].items() if rotation.old in keyids and role in {"timestamp", "snapshot"}]
    if still:
        return f"the old key still signs {' and '.join(still)}, for clients that do not see the new root yet"
    return ""


def follow(client: Client, rotation: Rotation, files: Mapping[str, Metadata[Any]], deadline: float, say: Callable[[str], None]) -> None:
    """Wait until the old key no longer signs anything.

    Args:
        client: asks for the state.
        rotation: the rotation.
        files: role to its new version.
        deadline: when to stop waiting, by ``time.monotonic``.
        say: called with each new stage.

    Raises:
        Failure: if it takes longer.
    """
    last = None
    while now := waits_for(client.request("GET", "/api/v1/trust", patient=True), rotation, files):
        if now != last:
            say(now)
            last = now
        if time.monotonic() > deadline:
            raise Failure(f"not yet: {now}", "it continues without this command; run it again to see the progress", Exit.TIMEOUT)
        time.sleep(POLL_SECONDS)


def run(
    directory: Path, client: Client, start: Callable[[], Rotation], timeout: float, say: Callable[[str], None] = click.echo
) -> Rotation | None:
    """Do the next step of a rotation.

    Args:
        directory: directory of the rotation.
        client: talks to the server.
        start: starts the rotation, if there is none in the directory.
        timeout: how long to wait, in seconds.
        say: prints a line for the operator.

    Returns:
        The rotation, once it is complete; None if files have to be signed offline first.

    Raises:
        Failure: if signatures are missing, the server refuses, or the time is over.
    """
    rotation = read_rotation(directory)
    if rotation is None:
        start()
        files = [str(directory / f"{role}.json") for role in ROLES if (directory / f"{role}.json").exists()]
        say(f"to be signed offline: {' '.join(files)}")
        say(f"next: tufline sign {' '.join(files)} --key <offline key> …, then run this command again")
        return None
    try:
        signed_files = read_signed(directory)
    except MetadataError as error:
        raise Failure(f"{directory}: {error}") from error
    if submit_versions(client, rotation, signed_files):
        say(f"submitted: from now on everything is signed with {'the new key' if rotation.skip_overlap else 'both keys'}")
    follow(client, rotation, signed_files, time.monotonic() + timeout, say)
    return rotation
