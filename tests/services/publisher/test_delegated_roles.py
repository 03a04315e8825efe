"""What a chain of trust knows of delegated roles, and which commits fit together: each rule by itself, without a log or an origin."""

from pathlib import Path

import pytest
from securesystemslib.signer import Key
from tuf.api.metadata import Delegations, SuccinctRoles, Targets

from tufline.errors import MetadataError
from tufline.metadata.delegations import Delegation
from tufline_publisher.delegated_roles import FILES_KEPT, TARGETS_KEPT
from tufline_publisher.errors import UndelegatedError, UntrustedError
from tufline_publisher.trust_chain import TrustChain, targets_named
from tufline_testing.hand_signed import EXPIRES, HandSigned, new_key

DEV = Delegation(name="dev", paths=("dev/*",))


@pytest.fixture
def metadata(tmp_path: Path) -> HandSigned:
    """A repository with a custom role, and all its files."""
    made = HandSigned(tmp_path)
    made.targets(DEV)
    made.catch_all()
    made.role("dev")
    return made


@pytest.fixture
def chain(metadata: HandSigned) -> TrustChain:
    """A chain that trusts its root and targets."""
    found = TrustChain()
    found.check_root(1, metadata.newest["root"])
    found.check_targets(2, metadata.newest["targets"])
    return found


def take(chain: TrustChain, metadata: HandSigned, *names: str) -> None:
    """Read the newest files of roles."""
    for name in names:
        chain.delegated.take(name, metadata.versions[name], metadata.newest[name])


def named(metadata: HandSigned, **others: int) -> dict[str, int]:
    """Return what a snapshot names."""
    return {role: version for role, version in metadata.versions.items() if role != "root"} | others


def test_a_chain_knows_nothing_at_first() -> None:
    """Its versions are 0, and no file can be verified."""
    chain = TrustChain()
    assert (chain.root_version, chain.targets_version) == (0, 0)
    for check in (chain.read_snapshot, chain.read_timestamp):
        with pytest.raises(UntrustedError, match="before any root"):
            check(1, b"")
    with pytest.raises(UntrustedError, match="before any targets"):
        chain.delegated.take("bins-0", 1, b"")


@pytest.mark.parametrize("version", [1, 3])
def test_a_record_must_name_the_version_of_its_targets(metadata: HandSigned, chain: TrustChain, version: int) -> None:
    """Another version, lower or higher, is refused."""
    with pytest.raises(MetadataError, match="targets has version 2"):
        chain.check_targets(version, metadata.newest["targets"])


def test_targets_of_another_key_are_untrusted(metadata: HandSigned, chain: TrustChain, tmp_path: Path) -> None:
    """So they are read again once a root names their keys."""
    other = HandSigned(tmp_path / "other")
    with pytest.raises(UntrustedError, match="0 valid signatures"):
        chain.check_targets(1, other.newest["targets"])
    assert chain.targets_version == 2


def test_a_record_must_name_the_version_of_its_root(metadata: HandSigned, chain: TrustChain) -> None:
    """A lower or higher one is refused; the same root again is no news."""
    for version in (0, 2):
        with pytest.raises(MetadataError, match="root has version 1"):
            chain.check_root(version, metadata.newest["root"])
    chain.check_root(1, metadata.newest["root"])
    for wrong in (metadata.newest["root"] + b" ", b" " + metadata.newest["root"]):
        with pytest.raises(MetadataError, match="differs from the trusted root 1"):
            chain.check_root(1, wrong)


def test_a_snapshot_names_targets(metadata: HandSigned) -> None:
    """Its version is read from the file; 0 stands for none."""
    metadata.commit()
    assert targets_named(metadata.newest["snapshot"]) == 2
    metadata.commit(targets=0)
    assert targets_named(metadata.newest["snapshot"]) == 0


@pytest.mark.parametrize("role", ["targets", "snapshot", "dev", "zoo", "bins", "bins-0"])
def test_a_file_of_any_role_is_valid_or_not(metadata: HandSigned, chain: TrustChain, tmp_path: Path, role: str) -> None:
    """A file of the same role and version that other keys signed is not."""
    other = HandSigned(tmp_path / "other")
    other.targets(DEV)
    for made in (metadata, other):
        made.targets(DEV, Delegation(name="zoo", paths=("zoo/*",)))
        made.role("zoo")
    chain.check_targets(3, metadata.newest["targets"])
    other.catch_all()
    other.role("dev")
    for made in (metadata, other):
        made.commit()
    version = metadata.versions[role]
    assert chain.is_valid(role, version, metadata.newest[role])
    assert not chain.is_valid(role, version, other.newest[role])
    assert not chain.is_valid(role, version, b"{}")


def test_a_file_names_its_own_version(metadata: HandSigned, chain: TrustChain) -> None:
    """A record with a lower or higher version is refused."""
    for version in (0, 2):
        with pytest.raises(MetadataError, match="describes itself as targets version 1"):
            chain.delegated.take("dev", version, metadata.newest["dev"])


def test_a_commit_waits_until_its_custom_roles_are_verified(metadata: HandSigned, chain: TrustChain) -> None:
    """Each by the keys that its targets names; of the published commit those with other keys or versions."""
    versions = named(metadata)
    assert chain.delegated.unverified(versions, {}) == ["dev", "bins"]
    take(chain, metadata, "dev")
    assert chain.delegated.unverified(versions, {}) == ["bins"]
    take(chain, metadata, "bins")
    assert chain.delegated.unverified(versions, {}) == []
    assert chain.delegated.unverified(named(metadata, dev=2), versions) == ["dev"]
    assert chain.delegated.unverified(versions, versions) == []


def test_a_role_with_other_keys_is_verified_again(metadata: HandSigned, chain: TrustChain) -> None:
    """Also in the version that is published; and not if the keys stay."""
    take(chain, metadata, "dev", "bins")
    before = named(metadata)
    metadata.targets(DEV, Delegation(name="doc", paths=("doc/*",)))
    chain.check_targets(3, metadata.newest["targets"])
    assert chain.delegated.unverified(named(metadata, doc=1), before) == ["doc"]
    key = new_key()
    metadata.targets(Delegation(name="dev", paths=("dev/*",), keyids=(key.public_key.keyid,)), keys=[key])
    chain.check_targets(4, metadata.newest["targets"])
    assert chain.delegated.unverified(named(metadata), before) == ["dev"]


def test_a_published_role_needs_no_file_again(metadata: HandSigned, chain: TrustChain) -> None:
    """A publisher that starts has not read the files of the published commit."""
    versions = named(metadata)
    assert chain.delegated.unverified(versions, versions) == []


def test_a_snapshot_must_name_every_role_in_which_clients_look(metadata: HandSigned, chain: TrustChain) -> None:
    """Custom roles, the catch-all role and its bins."""
    take(chain, metadata, "dev", "bins")
    for role, reason in (("dev", "no version of dev"), ("bins", "no version of bins"), ("bins-1", "lacks 1 bins .* such as bins-1")):
        versions = named(metadata)
        del versions[role]
        with pytest.raises(MetadataError, match=reason):
            chain.delegated.unverified(versions, {})


def test_unknown_targets_are_those_of_the_published_commit_or_refused(metadata: HandSigned) -> None:
    """Then a commit waits only for files that no client read when they were accepted, in versions that are not published."""
    chain = TrustChain()
    versions = named(metadata)
    for unknown in (versions, {role: version for role, version in versions.items() if role != "targets"}):
        with pytest.raises(MetadataError, match=f"targets version {unknown.get('targets', 0)}, which is not on the log any more"):
            chain.delegated.unverified(unknown, {"targets": 1})
    assert chain.delegated.unverified(versions, versions) == []
    chain.delegated.take_unread("dev", 1, metadata.newest["dev"])
    assert chain.delegated.unverified(versions, versions) == []
    for published in (0, 2):
        assert chain.delegated.unverified(versions, versions | {"dev": published}) == ["dev"]
    for other in (0, 2):
        assert chain.delegated.unverified(versions | {"dev": other}, versions | {"dev": 3}) == []


def test_a_file_to_which_nobody_delegates_is_told_apart(metadata: HandSigned, chain: TrustChain) -> None:
    """It may be published if a snapshot names it."""
    metadata.role("other")
    with pytest.raises(UndelegatedError, match="does not delegate to other"):
        take(chain, metadata, "other")


@pytest.mark.parametrize("prefix", ["aaaa", "zzzz"])
def test_a_catch_all_role_delegates_to_bins_of_its_own_name(metadata: HandSigned, chain: TrustChain, prefix: str) -> None:
    """Whether the other name sorts before or after its own."""
    keys: dict[str, Key] = {metadata.online.public_key.keyid: metadata.online.public_key}
    of_bins = Delegations(keys, succinct_roles=SuccinctRoles([*keys], 1, 1, prefix))
    metadata.newest["bins"] = metadata.sign(Targets(1, expires=EXPIRES, delegations=of_bins))
    with pytest.raises(MetadataError, match=f"bins of another name, '{prefix}'"):
        take(chain, metadata, "bins")


def test_a_number_of_targets_and_files_is_remembered(metadata: HandSigned, chain: TrustChain) -> None:
    """A commit that names an older version of targets than those is refused; an older file is verified again."""
    for _ in range(FILES_KEPT):
        take(chain, metadata, "dev")
        metadata.role("dev")
    take(chain, metadata, "dev", "bins")
    assert chain.delegated.unverified(named(metadata, dev=1), {}) == ["dev"]
    assert chain.delegated.unverified(named(metadata, dev=2), {}) == []
    for version in range(3, 2 + TARGETS_KEPT):
        metadata.targets(DEV)
        chain.check_targets(version, metadata.newest["targets"])
    assert chain.delegated.unverified(named(metadata, targets=2), {}) == []
    metadata.targets(DEV)
    chain.check_targets(2 + TARGETS_KEPT, metadata.newest["targets"])
    with pytest.raises(MetadataError, match="targets version 2, which is not on the log any more"):
        chain.delegated.unverified(named(metadata, targets=2), {})
    assert (TARGETS_KEPT, FILES_KEPT) == (16, 8)
