"""A publisher's chain of trust accepts a file only if every client that follows the log does."""

import copy
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Signed, Snapshot, Targets, Timestamp

from tufline.errors import MetadataError
from tufline.records import FileRef
from tufline.trust import ceremony, roles
from tufline_publisher.errors import UntrustedError
from tufline_publisher.origin_state import Origin
from tufline_publisher.trust_chain import TrustChain
from tufline_testing.log import DEFAULT_DAYS
from tufline_testing.offline import Offline

EXPIRES = datetime(2040, 1, 1, tzinfo=UTC)

MAKE: dict[str, Callable[[int], Signed]] = {
    "bins-0": lambda version: Targets(version, expires=EXPIRES),
    "snapshot": lambda version: Snapshot(version, expires=EXPIRES, meta={"targets.json": MetaFile(2), "bins-0.json": MetaFile(1)}),
    "timestamp": lambda version: Timestamp(version, expires=EXPIRES, snapshot_meta=MetaFile(3, 10, {"sha256": "0" * 64})),
}


def followed(path: Path) -> tuple[TrustChain, CryptoSigner]:
    """Make a chain that trusts a root and targets, and return it with their online key."""
    people = Offline(path, bins=4, mode="pep458", days=DEFAULT_DAYS)
    signer = people.new_key()
    chain = TrustChain()
    chain.check_root(1, roles.file_bytes(people.payload["metadata"]["root"]))
    root, targets = people.rotate(new=signer)
    chain.check_root(2, roles.file_bytes(root.metadata))
    chain.check_targets(2, roles.file_bytes(targets.metadata))
    return chain, signer


def signed_by(signer: CryptoSigner, signed: Signed) -> Metadata[Any]:
    metadata: Metadata[Any] = Metadata(signed)
    metadata.sign(signer)
    return metadata


def check(chain: TrustChain, role: str, version: int, metadata: Metadata[Any]) -> None:
    """Let a chain check a file."""
    content = roles.file_bytes(metadata.to_dict())
    match role:
        case "snapshot":
            chain.read_snapshot(version, content)
        case "timestamp":
            chain.read_timestamp(version, content)
        case _:
            chain.delegated.take(role, version, content)


@pytest.mark.parametrize("role", MAKE)
def test_a_file_that_its_keys_have_not_signed_is_refused(tmp_path: Path, role: str) -> None:
    """Files signed by another key, or with a signature of other bytes, are refused as untrusted; correctly signed files are accepted."""
    chain, signer = followed(tmp_path)
    good = signed_by(signer, MAKE[role](3))
    check(chain, role, 3, good)
    tampered = copy.deepcopy(good)
    tampered.signed.version = 4
    for wrong in (signed_by(ceremony.make_key("ecdsa").signer, MAKE[role](4)), tampered):
        with pytest.raises(UntrustedError, match=f"{role} has 0 valid signatures, but its threshold is 1"):
            check(chain, role, 4, wrong)


@pytest.mark.parametrize("role", MAKE)
def test_a_file_is_what_its_record_says(tmp_path: Path, role: str) -> None:
    """A correctly signed file whose record names another version or role is refused."""
    chain, signer = followed(tmp_path)
    with pytest.raises(MetadataError, match=f"{role} version 4 describes itself as .* version 3"):
        check(chain, role, 4, signed_by(signer, MAKE[role](3)))
    other = "timestamp" if role == "snapshot" else "snapshot"
    with pytest.raises(MetadataError, match=f"{role} version 3 describes itself as {other} version 3"):
        check(chain, role, 3, signed_by(signer, MAKE[other](3)))


def test_older_targets_do_not_replace_the_newest(tmp_path: Path) -> None:
    """After older targets are read again, bins are accepted only if they are signed for these or for the newest targets."""
    people = Offline(tmp_path, bins=4, mode="pep458", days=DEFAULT_DAYS)
    old, new = CryptoSigner.from_priv_key_uri(f"file2:{tmp_path / 'online.pem'}", people.root.keys[people.online]), people.new_key()
    first, (_, second) = people.payload["metadata"], people.rotate(new=new)
    chain = TrustChain()
    chain.check_root(1, roles.file_bytes(first["root"]))
    of_old, of_new, of_another = (signed_by(signer, MAKE["bins-0"](3)) for signer in (old, new, ceremony.make_key("ecdsa").signer))

    def refuses(*bins: Metadata[Any]) -> None:
        for one in bins:
            with pytest.raises(UntrustedError, match="bins-0 has 0 valid signatures, but its threshold is 1"):
                check(chain, "bins-0", 3, one)

    chain.check_targets(2, roles.file_bytes(second.metadata))
    check(chain, "bins-0", 3, of_new)
    refuses(of_old, of_another)
    chain.check_targets(1, roles.file_bytes(first["targets"]))
    assert chain.targets_version == 2
    check(chain, "bins-0", 3, of_new)
    check(chain, "bins-0", 3, of_old)
    refuses(of_another)
    chain.check_targets(2, roles.file_bytes(second.metadata))
    check(chain, "bins-0", 3, of_new)
    refuses(of_old, of_another)


def test_nothing_goes_back_behind_what_is_shown() -> None:
    """A commit with a lower timestamp, snapshot or role, without a role, or with another timestamp of the same version is refused."""
    origin = Origin(set())
    shown, snapshot, versions = FileRef(5, 50, "5" * 64), FileRef(3, 30, "3" * 64), {"targets": 1, "bins-0": 2}
    origin.show(shown, b"", snapshot, versions, 0.0)
    for forward in ((shown, 3, versions), (FileRef(6, 60, "6" * 64), 3, versions), (FileRef(6, 60, "6" * 64), 4, versions | {"bins-0": 3})):
        origin.check_forward(*forward)
    backward = {
        "timestamp version 4 is lower than the published version 5": (FileRef(4, 60, "4" * 64), 3, versions),
        "timestamp version 5 at the origin differs": (FileRef(5, 60, "6" * 64), 3, versions),
        "names snapshot version 2, lower than the published version 3": (FileRef(6, 60, "6" * 64), 2, versions),
        "names bins-0 version 1, lower than the published version 2": (FileRef(6, 60, "6" * 64), 4, versions | {"bins-0": 1}),
        "names bins-0 version none, lower than the published version 2": (FileRef(6, 60, "6" * 64), 4, {"targets": 1}),
    }
    for reason, commit in backward.items():
        with pytest.raises(MetadataError, match=reason):
            origin.check_forward(*commit)


def test_a_file_that_an_earlier_process_left_does_not_count() -> None:
    """A commit waits for an existing file that has not been compared with the log: a crash may have truncated it."""
    origin = Origin({"1.targets.json", "1.bins-0.json", "2.bins-0.json"})
    assert origin.find(FileRef(1, 10, "1" * 64), FileRef(1, 9, "1" * 64), {"targets": 1, "bins-0": 1}, 0.0) == []
    named = {"targets": 1, "bins-0": 2}
    assert origin.missing({"targets": 1, "bins-0": 1}) == []
    assert origin.missing(named) == ["2.bins-0.json"]
    assert origin.look({"1.targets.json", "1.bins-0.json", "2.bins-0.json"}, 1.0) == []
    assert origin.missing(named) == ["2.bins-0.json"]
    origin.put("bins-0", "2.bins-0.json", is_other=False)
    assert origin.missing(named) == []
