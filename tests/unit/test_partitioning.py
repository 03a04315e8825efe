"""A path's partition: by the top bits of its hash in new repositories, by its bin's index modulo the partitions in older ones."""

import hashlib
import itertools
import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tufline import records
from tufline.bus.embedded.bus import open_embedded
from tufline.clock import utc_now
from tufline.config.settings import BusConfig, Config
from tufline.errors import ConfigError, InvalidBootstrapError, SchemaError
from tufline.metadata.bins import BinLayout
from tufline.records import Bootstrap, Settings, codec, topics
from tufline.records.partitioning import Partitioning, check_partitions, partition_bits
from tufline.runtime.open_bus import open_bus
from tufline.trust.rules import check_bootstrap, check_settings
from tufline_testing.log import bootstrap_record, settings_of
from tufline_testing.payloads import make_bootstrap
from tufline_testing.rest import rest

paths = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


def top_bits(path: str, bits: int) -> int:
    return int.from_bytes(hashlib.sha256(path.encode()).digest(), "big") >> (256 - bits)


@given(paths, st.integers(0, 8), st.integers(1, 14))
def test_the_top_bits_of_the_hash_choose_the_partition(path: str, log_partitions: int, bit_length: int) -> None:
    """A path's partition is the top bits of its SHA-256: as many as partitions need, and at most as many as choose the bin."""
    settings = settings_of(2**bit_length, 2**log_partitions, {})
    assert settings.partition_bits == min(log_partitions, bit_length)
    assert settings.partitioning.partition_of_path(path) == top_bits(path, settings.partition_bits)


@given(paths, st.integers(0, 8), st.data())
def test_the_partition_does_not_depend_on_the_number_of_bins(path: str, bits: int, data: st.DataObject) -> None:
    """A path has the same partition with any number of bins down to the partitions in use, so its changes keep their order."""
    lengths = data.draw(st.lists(st.integers(max(1, bits), 14), min_size=2, max_size=4))
    found = {Partitioning(BinLayout(length), 256, bits).partition_of_path(path) for length in lengths}
    assert found == {top_bits(path, bits)}


@given(paths, st.integers(1, 256), st.integers(1, 14))
def test_the_first_rule_stays(path: str, partitions: int, bit_length: int) -> None:
    """Settings without the field mean the bin's index modulo the number of partitions, which may be any number."""
    stored = json.dumps({"number_of_bins": 2**bit_length, "name_prefix": "bins", "partitions": partitions, "expiration_days": {}})
    settings = msgspec.json.decode(stored, type=Settings)
    assert settings.partitioning.partition_of_path(path) == top_bits(path, bit_length) % partitions


@given(st.integers(0, 5), st.integers(1, 8), st.booleans(), st.integers(1, 40))
def test_each_bin_has_one_partition(log_partitions: int, bit_length: int, by_hash: bool, others: int) -> None:
    """Every bin is in exactly one partition, that of its paths; partitions beyond the number of bins have none."""
    partitions = 2**log_partitions if by_hash else others
    settings = settings_of(2**bit_length, partitions, {}, by_hash=by_hash)
    layout, partitioning = settings.layout, settings.partitioning
    named = {partition: partitioning.names_in(partition) for partition in range(partitions)}
    assert sorted(itertools.chain(*named.values())) == [layout.name(index) for index in range(layout.number_of_bins)]
    for index in range(layout.number_of_bins):
        assert layout.name(index) in named[partitioning.partition_of(index)]
    used = [partition for partition in named if named[partition]]
    assert used == list(range(min(partitions, layout.number_of_bins)))
    assert len({len(names) for names in named.values() if names}) == 1 or not by_hash


@given(st.integers(-3, 300))
def test_partitions_of_a_new_repository_are_a_power_of_two(partitions: int) -> None:
    """Any other number is refused; the message has the nearest valid ones."""
    if partitions in {2**bits for bits in range(9)}:
        check_partitions(partitions)
        return
    with pytest.raises(ConfigError, match="power of two") as refused:
        check_partitions(partitions)
    below, above = (int(word) for word in str(refused.value).rpartition(" = ")[2].split(" or "))
    assert below == 1 if partitions < 1 else below < partitions < above
    assert above == 2 * below
    check_partitions(below)


@pytest.mark.parametrize(
    ("bins", "partitions", "bits", "version", "says"),
    [
        (4, 3, 1, 2, "bus.partitions = 2 or 4"),
        (4, 4, 3, 2, "from 0 to 2"),
        (4, 8, 3, 2, "from 0 to 2"),
        (8, 4, -1, 2, "from 0 to 2"),
        (8, 4, 2, 1, "schema version 2"),
        (3, 3, None, 1, "number of bins"),
    ],
)
def test_settings_that_misplace_bins_are_refused(bins: int, partitions: int, bits: int | None, version: int, says: str) -> None:
    """A bootstrap whose bins would lie in several partitions, or that an older version would misread, does not count."""
    with pytest.raises(ValueError, match=says):
        check_settings(Bootstrap(v=version, settings=Settings(bins, "bins", partitions, {}, partition_bits=bits), root={}))


@pytest.mark.parametrize(("bins", "partitions", "bits", "version"), [(4, 3, None, 1), (8, 4, 2, 2), (8, 4, 0, 2), (2, 8, 1, 2)])
def test_settings_of_either_rule_count(bins: int, partitions: int, bits: int | None, version: int) -> None:
    """The settings of each rule are accepted, even with unused partitions."""
    check_settings(Bootstrap(v=version, settings=Settings(bins, "bins", partitions, {}, partition_bits=bits), root={}))


def test_an_older_version_refuses_the_new_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that does not know the rule stops at such a bootstrap and asks for an upgrade; it reads one with the first rule."""
    old, new = (settings_of(8, 4, {}, by_hash=by_hash) for by_hash in (False, True))
    monkeypatch.setattr(codec, "NEWEST_SCHEMA", 1)
    first = Bootstrap(v=old.schema, settings=old, root={})
    assert records.decode(records.admin_decoder, records.encode(first)) == first
    with pytest.raises(SchemaError, match="upgrade"):
        records.decode(records.admin_decoder, records.encode(Bootstrap(v=new.schema, settings=new, root={})))


async def test_a_new_log_needs_a_power_of_two(tmp_path: Path) -> None:
    """With any other number of partitions a log is not created, but an existing one is opened."""
    log = tmp_path / "log.db"
    config = Config(bus=BusConfig(url=f"embedded:{log}", partitions=3))
    with pytest.raises(ConfigError, match=r"bus\.partitions = 2 or 4"):
        async with open_bus(config):
            pass
    assert not log.exists()
    await (await open_embedded(log, topics.topics(3))).close()
    async with open_bus(config) as bus:
        assert bus.partitions(topics.ARTIFACTS) == 3


async def test_a_bootstrap_needs_a_power_of_two(tmp_path: Path) -> None:
    """On a log that was created with another number of partitions, a bootstrap is refused with advice."""
    bus = await open_embedded(tmp_path / "log.db", topics.topics(3))
    async with rest(tmp_path, bus=bus) as server:
        status, answer = await server.ask("POST", "/api/v1/bootstrap/", make_bootstrap(tmp_path / "keys", bins=4).payload)
        assert (status, await server.bus.end(topics.ADMIN, 0)) == (422, 0)
        assert "bus.partitions = 2 or 4" in answer["detail"]
    await bus.close()


def test_a_bootstrap_that_is_misread_does_not_count(tmp_path: Path) -> None:
    """The fold of admin refuses the same settings as their check."""
    bootstrap = bootstrap_record(tmp_path / "keys", 3, bins=4)
    with pytest.raises(InvalidBootstrapError, match="power of two"):
        check_bootstrap(bootstrap, utc_now())


def test_as_many_partitions_are_used_as_can_be() -> None:
    """A repository uses all partitions, or as many as it has bins."""
    assert [partition_bits(*numbers) for numbers in ((1, 2), (4, 16), (16, 4), (256, 16_384))] == [0, 2, 2, 8]
