"""A file of JSON lines that grows, ends in the middle of a line, and is replaced."""

import os
from pathlib import Path

import pytest

from caft.train.follow import Tail, cluster_job


def test_each_whole_line_is_given_once_and_all_again_after_a_replacement(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = Tail(path)
    assert tail.new() == []
    path.write_text('{"step": 1}\n{"st')
    assert tail.new() == [{"step": 1}]
    assert tail.new() == []
    with path.open("a") as file:
        file.write('ep": 2}\n')
    assert tail.new() == [{"step": 2}]
    (tmp_path / "shorter").write_text('{"step": 1}\n')
    os.replace(tmp_path / "shorter", path)
    assert tail.new() == [{"step": 1}]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"executor": "slurm"}', '{"executor": "local", "id": "7"}'])
def test_a_record_of_a_job_that_is_not_whole_is_none(text: str, tmp_path: Path) -> None:
    """It is a side thing: a finished run whose record a full disk has cut is taken all the same."""
    assert cluster_job(tmp_path) is None
    (tmp_path / "job.json").write_text(text)
    assert cluster_job(tmp_path) is None
    (tmp_path / "job.json").write_text('{"executor": "slurm", "id": "7"}')
    assert cluster_job(tmp_path) == "7"
