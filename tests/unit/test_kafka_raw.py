"""Batches that no honest Kafka producer writes, each with the right checksum."""

import pytest
from aiokafka import TopicPartition
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

from tufline.bus.kafka.record_batches import DamagedError, Fetched, read_committed
from tufline_testing.fuzz.targets import TARGETS

HOSTILE = {
    "a value that ends far beyond the batch": (
        "00000000000000000000003bffffffff0200000000000000000000000001ba60d33800000001ba60d33800ffffffffffffffffffff00000000"
        "00000001f40100000001feffffff0f"
    ),
    "bytes that are not a gzip stream": (
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


def test_a_marker_that_the_log_cleaner_has_emptied_is_read_over() -> None:
    """A transaction's marker without its record is skipped; the records after it are read."""
    builder = DefaultRecordBatchBuilder(2, 0, 1, 7, 0, 0, 10_000)
    builder.append(0, 1_900_000_000_000, b"key", b"value", [])
    whole = bytes(builder.build())
    header = bytearray(whole[:61])
    header[8:12] = (61 - 12).to_bytes(4, "big")
    header[22] |= 1 << 5  # a control batch
    header[57:61] = bytes(4)  # no records
    header[17:21] = calc_crc32c(bytes(header[21:])).to_bytes(4, "big")
    after = (1).to_bytes(8, "big") + whole[8:]
    (record,), beyond = read_committed(Fetched(bytes(header) + after, [], 2), TopicPartition("t", 0), 0)
    assert (record.offset, record.value, beyond) == (1, b"value", 2)
