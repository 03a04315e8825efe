"""A walk over all metadata of a published repository, as a suspicious client makes it.

It continues where a client would stop: every role to which targets delegates is fetched, and everything that is wrong with it is found.
Roles that a snapshot names but nothing delegates to, such as deleted custom roles, are read by no client, and are not walked.

In: snapshot and targets that python-tuf's client has verified, and a function that fetches files. Out: findings, each a sentence.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import DelegatedRole, Metadata, Snapshot, SuccinctRoles, Targets

from tufline.errors import InvalidInputError, MetadataError
from tufline.metadata import envelope
from tufline.metadata.paths import check_path
from tufline.metadata.target import HEX_DIGITS, TargetRules, parse_target
from tufline.trust import client_rules, roles

FETCHES: Final = 8
"""How many files are fetched concurrently."""

Fetch = Callable[[str], bytes | str]
"""Fetches a metadata file by its name: its content, or as text why it can't be fetched. It runs in several threads."""

ANY: Final = TargetRules(tuple(HEX_DIGITS), check_path)
"""Accepts targets that were valid under any version of the rules."""


def check_signature_entries(content: bytes) -> Iterator[str]:
    """Find what clients other than python-tuf refuse in a file that python-tuf has accepted.

    Args:
        content: bytes of the file.

    Yields:
        One sentence for each finding.
    """
    # They refuse a file for a malformed signature entry, which anyone can add.
    try:
        client_rules.check_signatures(json.loads(content)["signatures"])
    except MetadataError as error:
        yield f"tuf-js or go-tuf refuses it: {error}"


@dataclass(frozen=True, slots=True)
class WalkedRole:
    """A role to walk.

    Attributes:
        name: the role's name.
        parent: the metadata that delegates to it.
        bins: the bins that it is one of; None if it is no bin.
        leads_to_bins: whether it is the catch-all role.
    """

    name: str
    parent: Metadata[Targets]
    bins: SuccinctRoles | None = None
    leads_to_bins: bool = False


@dataclass(slots=True)
class RepositoryWalk:
    """A walk over a repository.

    Attributes:
        fetch: fetches files.
        snapshot: the current snapshot.
        now: the time that expiry is compared with.
        total: how many roles are to be walked, for all that is known.
        bins: how many bins were walked.
        others: how many custom roles and catch-all roles were walked.
        targets: how many targets the walked roles have.
    """

    fetch: Fetch
    snapshot: Snapshot
    now: datetime
    total: int = 0
    bins: int = 0
    others: int = 0
    targets: int = 0

    def delegated(self, parent: Metadata[Targets]) -> list[WalkedRole]:
        """List the roles to which a role delegates.

        Args:
            parent: targets, or the catch-all role.

        Returns:
            Its bins, or its custom roles and its catch-all role; nothing if it does not delegate.
        """
        delegations = parent.signed.delegations
        if delegations is None:
            return []
        if (bins := delegations.succinct_roles) is not None:
            return [WalkedRole(name, parent, bins) for name in bins.get_roles()]
        named: Iterable[DelegatedRole] = (delegations.roles or {}).values()
        return [WalkedRole(role.name, parent, leads_to_bins=role.path_hash_prefixes is not None) for role in named]

    def walk(self, roles_to_walk: Iterable[WalkedRole]) -> Iterator[list[str]]:
        """Fetch and check roles, and the bins to which one of them leads.

        Args:
            roles_to_walk: from ``delegated``.

        Yields:
            What was found wrong with each role.
        """
        with ThreadPoolExecutor(FETCHES) as threads:
            waiting = list(roles_to_walk)
            while waiting:
                self.total += len(waiting)
                found: list[WalkedRole] = []
                for role, content in zip(waiting, threads.map(self._fetch, waiting), strict=True):
                    self.bins += role.bins is not None
                    self.others += role.bins is None
                    if isinstance(content, str):
                        yield [f"{role.name}: {content}"]
                        continue
                    self.targets += content.count(b'"length":')
                    try:
                        loaded = Metadata[Targets].from_bytes(content)
                        role.parent.signed.verify_delegate(role.name, loaded.signed_bytes, loaded.signatures)
                    except (RepositoryError, ValueError) as error:
                        yield [f"{role.name}: a client refuses it: {error}"]
                        continue
                    yield [f"{role.name}: {finding}" for finding in self._check(role, content, loaded)]
                    if role.leads_to_bins:
                        found += (below for below in self.delegated(loaded) if below.bins is not None)
                waiting = found

    def _fetch(self, role: WalkedRole) -> bytes | str:
        """Fetch a role in the version that the snapshot names: its file as bytes, or an error as text."""
        meta = self.snapshot.meta.get(f"{role.name}.json")
        if meta is None:
            return "the snapshot does not name it"
        return self.fetch(envelope.file_name(role.name, meta.version))

    def _check(self, role: WalkedRole, content: bytes, loaded: Metadata[Targets]) -> Iterator[str]:
        """Find what is wrong with a role's file, whose signatures are valid."""
        yield from check_signature_entries(content)
        signed = loaded.signed
        # The catch-all role has keys, whose newlines are raw in the signed bytes, but escaped in the file.
        if not role.leads_to_bins and loaded.signed_bytes not in content:
            yield "its signed part is not in canonical form"
        named = self.snapshot.meta[f"{role.name}.json"].version
        if signed.version != named:
            yield f"its version is {signed.version}, and the snapshot names {named}"
        if signed.is_expired(self.now):
            yield f"it expired at {signed.expires:%Y-%m-%dT%H:%M:%SZ}"
        if role.leads_to_bins and (signed.delegations is None or signed.delegations.succinct_roles is None):
            yield roles.NO_BINS
        for path, target in signed.targets.items():
            if role.bins is not None and role.bins.get_role_for_target(path) != role.name:
                yield f"{path!r} does not belong to this bin, so no client finds it"
            try:
                parse_target(path, target.length, target.hashes, target.custom, ANY)
            except InvalidInputError as error:
                yield f"{path!r}: {error}"
