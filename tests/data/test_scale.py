"""Four thousand rows in published form through the stages; tests/verify does a million by the same code."""

from pathlib import Path

import pytest

from tests.verify import scale

# Where a stage stays far below this with few rows, what is left to grow is bounded by the shard and the setting.
MOST_MEMORY = 3 << 30
ROWS = 4_000  # four shards


@pytest.mark.slow
@pytest.mark.verify
def test_rows_are_all_accounted_for_in_bounded_memory(tmp_path: Path) -> None:
    costs = scale.run(tmp_path, ROWS, images_per_shard=1000, memory_gb=1)
    print(scale.table({ROWS: costs}))
    assert all(0 < cost.memory < MOST_MEMORY for cost in costs.values()), scale.table({ROWS: costs})
