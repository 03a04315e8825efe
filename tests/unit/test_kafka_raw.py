"""Batches of Kafka that no honest producer writes, each with the right checksum."""

import pytest

from tufline.bus.kafka.record_batches import DamagedError
from tufline_testing.fuzz.targets import TARGETS

HOSTILE = {
    "a value that ends far beyond the batch": (
        "00000000000000000000003bffffffff0200000000000000000000000001ba60d33800000001ba60d33800ffffffffffffffffffff00000000"
        "00000001f40100000001feffffff0f"
    ),
    "a gzip stream that is none": (
        "00000000000000000000006bffffffff02990152bc000100000001000001ba60d33800000001ba60d33800ffffffffffffffffffff00000000000000021f80080008ee076b02"
    ),
    "a gzip stream with a wrong distance": (
        "00000000000000000000006bffffffff02990152bc000100000001000001ba60d33800000001ba60d33800ffffffffffffffffffff00001800000000021f"
        "8b080008ee076b02fffbc2c8c0c0c0969d5a7982b12c31a73440f49c8c95c60413475e626e2a4f466a624a6ad117a0dd4c03643700d1043764f8000000"
    ),
}


@pytest.mark.parametrize("reader", ["kafka, committed, right checksum", "kafka, uncommitted, right checksum"])
@pytest.mark.parametrize("batch", HOSTILE)
def test_a_hostile_batch_is_reported_as_damaged(batch: str, reader: str) -> None:
    """An undecodable batch raises one documented error, and never ends the process."""
    with pytest.raises(DamagedError):
        TARGETS[reader].read(bytes.fromhex(HOSTILE[batch]))
