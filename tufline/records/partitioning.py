"""In which partition of ``artifacts`` a path's changes are, and in which partition of ``heads`` the head of its bin. Pure.

By hash: the top bits of SHA-256(path) choose the partition, as they choose the bin. There are at most as many bits for the partition as for
the bin, so that each bin lies in one partition, whose writer owns it. How many they are is settled at bootstrap, and does not follow from
the number of bins: where that changes one day, a path stays in its partition, and its changes stay in their order.

By the first rule, which logs keep that were bootstrapped under it, the partition is the bin's index modulo the number of partitions.
"""

import msgspec

from tufline.errors import ConfigError
from tufline.metadata.bins import BinLayout


def partition_bits(partitions: int, number_of_bins: int) -> int:
    """Say how many bits choose the partition in a repository that uses as many partitions as it can.

    Args:
        partitions: of ``artifacts``; a power of two.
        number_of_bins: a power of two. Of more partitions than that, those beyond stay empty.

    Returns:
        The number of bits, from 0.
    """
    return min(partitions, number_of_bins).bit_length() - 1


def check_partitions(partitions: int) -> None:
    """Make sure that a new repository can use so many partitions.

    Args:
        partitions: of ``artifacts``.

    Raises:
        ConfigError: if it can't; with what to write.
    """
    if partitions < 1 or partitions & (partitions - 1):
        below = 1 << (max(1, partitions).bit_length() - 1)
        advice = f"make its log with bus.partitions = {below} or {2 * below}"
        raise ConfigError(f"bus.partitions is {partitions}, and a new repository needs a power of two: {advice}")


class Partitioning(msgspec.Struct, frozen=True):
    """How the bins of a repository are spread over partitions.

    Attributes:
        layout: how paths are spread over bins.
        partitions: of ``artifacts``.
        bits: how many top bits of SHA-256(path) choose the partition; None for the first rule.
    """

    layout: BinLayout
    partitions: int
    bits: int | None

    def partition_of(self, index: int) -> int:
        """Say in which partition a bin is.

        Args:
            index: of the bin.

        Returns:
            The partition, from 0.
        """
        if self.bits is None:
            return index % self.partitions
        return index >> (self.layout.bit_length - self.bits)

    def partition_of_path(self, path: str) -> int:
        """Say in which partition a path's changes are.

        Args:
            path: a target path.

        Returns:
            The partition, from 0.
        """
        return self.partition_of(self.layout.index_of(path))

    def names_in(self, partition: int) -> list[str]:
        """Name all bins of one partition.

        Args:
            partition: from 0.

        Returns:
            Their role names, by index; none where the partition is not used.
        """
        return [self.layout.name(index) for index in self._indexes_in(partition)]

    def _indexes_in(self, partition: int) -> range:
        if self.bits is None:
            return range(partition, self.layout.number_of_bins, self.partitions)
        each = self.layout.number_of_bins >> self.bits
        return range(partition * each, min((partition + 1) * each, self.layout.number_of_bins))
