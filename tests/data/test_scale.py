"""Twenty thousand rows in published form through the stages; tests/verify does a million by the same code."""

from pathlib import Path

import pytest

from tests.verify import scale

# Where a stage stays far below this with few rows, what is left to grow is bounded by the shard and the setting.
MOST_MEMORY = 3 << 30


@pytest.mark.slow
def test_rows_are_all_accounted_for_in_bounded_memory(tmp_path: Path) -> None:
    costs = scale.run(tmp_path, 20_000, images_per_shard=5000, memory_gb=1)
    print(scale.table({20_000: costs}))
    assert all(0 < cost.memory < MOST_MEMORY for cost in costs.values()), scale.table({20_000: costs})
