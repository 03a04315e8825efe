"""Repositories with custom roles, whose targets and catch-all role are the signer's own, to ask clients in which role they find a path.

None of our services is involved: ingest would refuse some of these patterns and paths.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Root, Signed, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from tufline.metadata import envelope
from tufline.metadata.delegations import Delegation, Delegations
from tufline.trust import roles, rules
from tufline_testing.clients.running import Client, Job
from tufline_testing.clients.target_paths import noting_server
from tufline_testing.log import DEFAULT_DAYS, settings_of

BINS = 4
IN_BINS = "bins"


def write_repository(directory: Path, custom: Sequence[Delegation], content: Mapping[str, Iterable[str]]) -> None:
    """Write signed metadata with four bins and custom roles.

    Args:
        directory: where the files go.
        custom: the custom roles, in their order.
        content: role name to target paths; those of ``IN_BINS`` are in their bins. The content of each file is the name of its role.
    """
    directory.mkdir(parents=True)
    signer = CryptoSigner.generate_ecdsa()
    expires = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
    root = Root(version=1, expires=expires, consistent_snapshot=True)
    for role in ("root", "timestamp", "snapshot", "targets"):
        root.add_key(signer.public_key, role)
    settings, online = settings_of(BINS, 1, DEFAULT_DAYS), roles.RoleKeys({signer.public_key.keyid: signer.public_key}, 1)
    made = {
        "targets": rules.make_targets(root, settings, Delegations({}, tuple(custom)), 1, expires),
        **({settings.name_prefix: rules.make_catch_all(online, settings, 1, expires)} if custom else {}),
    }
    layout = settings.layout
    delegated = {name: Targets(1, expires=expires) for name in (*(role.name for role in custom), *map(layout.name, range(BINS)))}
    for name, paths in content.items():
        for path in paths:
            found_in = delegated[layout.name(layout.index_of(path)) if name == IN_BINS else name]
            found_in.targets[path] = TargetFile(len(name), {"sha256": _sha256(name)}, path)
    snapshot = Snapshot(1, expires=expires, meta={f"{name}.json": MetaFile(1) for name in (*made, *delegated)})
    files: dict[str, Signed] = {
        "timestamp": Timestamp(1, expires=expires, snapshot_meta=MetaFile(1)),
        "1.root": root,
        "1.snapshot": snapshot,
    }
    for name, signed in {**files, **{f"1.{name}": role for name, role in delegated.items()}}.items():
        metadata: Metadata[Any] = Metadata(signed)
        metadata.sign(signer)
        (directory / f"{name}.json").write_bytes(metadata.to_bytes(JSONSerializer(compact=True)))
    for name, (to_sign, in_file) in made.items():
        signature = envelope.SignatureEntry(signer.public_key.keyid, signer.sign(to_sign).signature)
        (directory / f"1.{name}.json").write_bytes(envelope.assemble(in_file, [signature]))


def roles_found(clients: Sequence[Client], repository: Path, states: Path, paths: Sequence[str]) -> dict[str, dict[str, str]]:
    """Let clients look up paths. The hash that a client asks the server for tells in which role it found the path.

    Args:
        clients: the clients.
        repository: a directory that ``write_repository`` wrote.
        states: where the clients keep their state.
        paths: the target paths.

    Returns:
        Name of the client to path to the role in which it found the path; an empty text if it did not find it.
    """
    roles_of = {_sha256(name): name for name in (IN_BINS, *(path.name.split(".")[1] for path in repository.iterdir()))}
    found: dict[str, dict[str, str]] = {}
    with noting_server(repository) as server:
        for client in clients:
            server.asked.clear()
            urls = f"{server.url}/metadata/", f"{server.url}/targets/"
            result = client.run(Job(*urls, repository / "1.root.json", states / client.name, paths, prefix_hash=True))
            assert not result.error, (client.name, result.error)
            seen = [file.path for file in result.files if file.found]
            digests = [url.rpartition("/")[2].partition(".")[0] for url in server.asked]
            assert len(seen) == len(digests), (client.name, result, server.asked)
            roles_seen = dict(zip(seen, (roles_of[digest] for digest in digests), strict=True))
            found[client.name] = {path: roles_seen.get(path, "") for path in paths}
    return found


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
