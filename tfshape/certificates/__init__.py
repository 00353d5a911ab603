"""What no poison can do, proved: ceilings that differential privacy puts on attacks, and votes that no change sways.

ts.certificates.poisoning_ceiling(1.0, 128, 6_000, 460, num_poisons=1, clean_success=0.01)
ts.defenses.parse("deep_partition_aggregation(partitions=50)")  # `certificate` of what it trains
"""

from typing import TYPE_CHECKING

from tfshape import lazy

_LAZY = {
    "DeepPartitionAggregation": "deep_partition_aggregation",
    "certified_poisons": "ceilings",
    "poisoning_bound": "ceilings",
    "poisoning_ceiling": "ceilings",
}

__all__ = [*_LAZY]  # noqa: PLE0604 (they are strings)

if TYPE_CHECKING:
    from tfshape.certificates.ceilings import certified_poisons as certified_poisons
    from tfshape.certificates.ceilings import poisoning_bound as poisoning_bound
    from tfshape.certificates.ceilings import poisoning_ceiling as poisoning_ceiling
    from tfshape.certificates.deep_partition_aggregation import DeepPartitionAggregation as DeepPartitionAggregation
else:
    __getattr__ = lazy.getter(__name__, _LAZY)
