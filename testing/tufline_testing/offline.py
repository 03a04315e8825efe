"""The holders of the offline keys, who bootstrap a repository and sign new versions of root and targets."""

import copy
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root, Targets

from tufline import records
from tufline.bus import Bus, Message
from tufline.metadata.keyids import with_fields
from tufline.records import Bootstrap, NewMetadata, topics
from tufline.trust import ceremony
from tufline.trust.ceremony import NewKey
from tufline.trust.roles import BINS, ROLE_FIELD
from tufline.trust.rotation import in_place_of, next_root, next_targets
from tufline_testing.log import settings_of
from tufline_testing.payloads import make_bootstrap


class Offline:
    """A key ceremony, and the offline signatures that follow it.

    Args:
        key_dir: the signer's key directory; it receives the private parts of online keys.
        bins: number of bins.
        mode: ``pep458`` or ``rstuf``.
        days: role to lifetime, in days.
        own_bins: whether the bins have an online key of their own.
        key_file: name of the file of the online key; empty for the name that ``tufline init`` gives it.
        scheme: signature scheme of all keys.
        now: the time at which lifetimes start; None for the current time.
    """

    def __init__(
        self,
        key_dir: Path,
        *,
        bins: int,
        mode: str,
        days: Mapping[str, int],
        own_bins: bool = False,
        key_file: str = "",
        scheme: str = "ecdsa",
        now: datetime | None = None,
    ) -> None:
        self._key_dir = key_dir
        self._scheme = scheme
        self.keys = 1
        self.of_bins = self.new_key().public_key if own_bins else None
        online = {} if self.of_bins is None else {"bins": self.of_bins}
        if self.of_bins is not None:
            self.of_bins = with_fields(self.of_bins, **{ROLE_FIELD: BINS})
        if key_file:
            key = ceremony.make_key(scheme, f"fn:{key_file}")
            ceremony.write_private(key_dir / key_file, key.pem)
            online = dict.fromkeys(ceremony.ONLINE_ROLES[mode], key.signer.public_key)
        held = make_bootstrap(key_dir, bins=bins, mode=mode, scheme=scheme, days=days, online=online, now=now)
        self._root_keys: list[NewKey] = held.root
        self.targets_keys: list[NewKey] = held.targets
        metadata: dict[str, Any] = held.payload["metadata"]
        self.root = Metadata[Root].from_dict(copy.deepcopy(metadata["root"])).signed
        self.targets = Metadata[Targets].from_dict(copy.deepcopy(metadata["targets"])).signed if "targets" in metadata else None
        if held.online is not None:
            key = held.online
        self.online = key.signer.public_key.keyid
        self.payload = held.payload
        self.days = dict(days)
        self._bins = bins

    @property
    def signers(self) -> dict[str, CryptoSigner]:
        """The offline keys that root and targets have now: keyid to the signer that has the private key."""
        return {key.signer.public_key.keyid: key.signer for key in [*self._root_keys, *self.targets_keys]}

    def bootstrap(self, partitions: int, *, by_hash: bool = True) -> Bootstrap:
        """Return the record that ingest would append for the payload."""
        metadata = self.payload["metadata"]
        settings = settings_of(self._bins, partitions, self.days, by_hash=by_hash)
        return Bootstrap(v=settings.schema, settings=settings, root=metadata["root"], targets=metadata.get("targets"))

    def new_key(self) -> CryptoSigner:
        """Make another online key in the signer's key directory."""
        self.keys += 1
        number = self.keys
        while (self._key_dir / f"online-{number}.pem").exists():  # of another bootstrap
            number += 1
        name = f"online-{number}.pem"
        key = ceremony.make_key(self._scheme, f"fn:{name}")
        ceremony.write_private(self._key_dir / name, key.pem)
        return key.signer

    def rotate_bins(self, now: datetime) -> tuple[list[NewMetadata], str]:
        """Replace the separate key of online bins; return the signed root, and the new keyid."""
        assert self.of_bins is not None
        new = self.new_key().public_key
        root = next_root(self.root, self.of_bins.keyid, new, now.replace(microsecond=0) + timedelta(days=3650))
        assert root is not None
        keyid = in_place_of(self.of_bins.keyid, self.root, new).keyid
        self.root = root
        return [NewMetadata(role="root", metadata=self.sign(root))], keyid

    def rotate(self, *, skip_overlap: bool = False, new: CryptoSigner | None = None, now: datetime | None = None) -> list[NewMetadata]:
        """Replace the online key in all roles; return the signed new versions."""
        signer = new or self.new_key()
        expires = (now or datetime.now(UTC)).replace(microsecond=0) + timedelta(days=3650)
        updates: list[NewMetadata] = []
        root = next_root(self.root, self.online, signer.public_key, expires)
        assert root is not None
        self.root = root
        updates.append(NewMetadata(role="root", metadata=self.sign(root), skip_overlap=skip_overlap))
        if self.targets is not None:
            targets = next_targets(self.targets, self.online, signer.public_key, expires)
            assert targets is not None
            self.targets = targets
            updates.append(NewMetadata(role="targets", metadata=self.sign(targets), skip_overlap=skip_overlap))
        self.online = signer.public_key.keyid
        return updates

    def replace_targets_keys(self, now: datetime, *, skip_overlap: bool = False) -> list[NewMetadata]:
        """Replace all keys of targets; return the root, and targets that the new keys sign, and the previous ones unless they are lost."""
        previous = self.targets_keys
        of_root = self.delegate_targets([ceremony.make_key(self._scheme) for _ in previous], now, skip_overlap=skip_overlap)
        return [of_root, *self.renew_targets(now, () if skip_overlap else previous)]

    def delegate_targets(self, keys: list[NewKey], now: datetime, *, skip_overlap: bool = False) -> NewMetadata:
        """Return the next root, in which targets has other keys; it does not sign targets again."""
        root = copy.deepcopy(self.root)
        for key in self.targets_keys:
            root.revoke_key(key.signer.public_key.keyid, "targets")
        for key in keys:
            root.add_key(key.signer.public_key, "targets")
        root.version, root.expires = root.version + 1, now.replace(microsecond=0) + timedelta(days=3650)
        self.root, self.targets_keys = root, keys
        return NewMetadata(role="root", metadata=self.sign(root), skip_overlap=skip_overlap)

    def renew_targets(self, now: datetime, others: Sequence[NewKey] = ()) -> list[NewMetadata]:
        """Make the next targets, which two of its keys sign, and two of the others."""
        assert self.targets is not None
        self.targets.version, self.targets.expires = self.targets.version + 1, now.replace(microsecond=0) + timedelta(days=3650)
        return [NewMetadata(role="targets", metadata=self.sign(self.targets, others))]

    def sign(self, role: Root | Targets, others: Sequence[NewKey] = ()) -> dict[str, Any]:
        """Sign with two of a role's keys, and with two of the others."""
        metadata: Metadata[Any] = Metadata(role)
        for key in [*(self._root_keys if isinstance(role, Root) else self.targets_keys)[:2], *others[:2]]:
            metadata.sign(key.signer, append=True)
        return metadata.to_dict()


def new_key_file(keys: Path, name: str) -> Path:
    """Make another online key next to those of ``tufline init``, and write its public part as ``tufline keys show`` does."""
    key = ceremony.make_key("ecdsa", f"fn:{name}.pem")
    ceremony.write_private(keys / "online" / f"{name}.pem", key.pem)
    public = key.signer.public_key
    path = keys / f"{name}.json"
    path.write_text(json.dumps({public.keyid: public.to_dict()}))
    return path


async def announce_updates(bus: Bus, updates: list[NewMetadata]) -> int:
    """Append new versions to ``admin``, and return the offset of the last."""
    positions = await bus.append([Message(topics.ADMIN, update.role, records.encode(update)) for update in updates])
    return positions[-1].offset
