"""Partitioning: which partition of ``artifacts`` has a path's changes, and which partition of ``heads`` has the head of its bin. Pure.

The leading bits of SHA-256(path) choose the partition, as they choose the bin. The partition uses at most as many bits as the bin, so that
each bin is in one partition, whose writer owns it. The number of bits is set at bootstrap and then fixed: if the number of bins ever
changes, a path stays in its partition, and its changes stay in order.

Under the first rule, which still applies to logs that were bootstrapped with it, the partition is the bin's index modulo the number of
partitions.
"""

import msgspec

from tufline.errors import ConfigError
from tufline.metadata.bins import BinLayout


def partition_bits(partitions: int, number_of_bins: int) -> int:
    """Return how many bits choose the partition in a repository that uses as many partitions as possible.

    Args:
        partitions: how many partitions ``artifacts`` has; a power of two.
        number_of_bins: a power of two. If there are more partitions than bins, the remaining partitions stay empty.

    Returns:
        The number of bits, from 0.
    """
    return min(partitions, number_of_bins).bit_length() - 1


def check_partitions(partitions: int) -> None:
    """Check that a new repository can use a number of partitions.

    Args:
        partitions: how many partitions ``artifacts`` has.

    Raises:
        ConfigError: if it is not a power of two; the message names the nearest ones.
    """
    if partitions < 1 or partitions & (partitions - 1):
        below = 1 << (max(1, partitions).bit_length() - 1)
        advice = f"create its log with bus.partitions = {below} or {2 * below}"
        raise ConfigError(f"bus.partitions is {partitions}, but a new repository needs a power of two: {advice}")


class Partitioning(msgspec.Struct, frozen=True):
    """How the bins of a repository are spread over partitions.

    Attributes:
        layout: how paths are spread over bins.
        partitions: how many partitions ``artifacts`` has.
        bits: how many leading bits of SHA-256(path) choose the partition; None for the first rule.
    """

    layout: BinLayout
    partitions: int
    bits: int | None

    def partition_of(self, index: int) -> int:
        """Return the partition of a bin.

        Args:
            index: the bin's index, from 0.

        Returns:
            The partition, from 0.
        """
        if self.bits is None:
            return index % self.partitions
        return index >> (self.layout.bit_length - self.bits)

    def partition_of_path(self, path: str) -> int:
        """Return the partition of a path's changes.

        Args:
            path: a target path.

        Returns:
            The partition, from 0.
        """
        return self.partition_of(self.layout.index_of(path))

    def names_in(self, partition: int) -> list[str]:
        """List the role names of all bins in one partition.

        Args:
            partition: from 0.

        Returns:
            The role names, by index; empty if the partition is not used.
        """
        return [self.layout.name(index) for index in self._indexes_in(partition)]

    def _indexes_in(self, partition: int) -> range:
        if self.bits is None:
            return range(partition, self.layout.number_of_bins, self.partitions)
        each = self.layout.number_of_bins >> self.bits
        return range(partition * each, min((partition + 1) * each, self.layout.number_of_bins))
