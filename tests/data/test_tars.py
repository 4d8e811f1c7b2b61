import io
import os
import tarfile
from pathlib import Path

import pytest
from webdataset import TarWriter

from caft.data.crawl.tars import canonicalise, members
from caft.errors import DataError

CONTENTS = {f"{key:05d}": {"jpg": os.urandom(size), "json": b'{"a": 1}'} for key, size in ((7, 700), (2, 512), (11, 1))}


def write(path: Path, keys: list[str]) -> None:
    """As img2dataset does: by webdataset, whose members have extended headers with fractional times."""
    with TarWriter(str(path)) as tar:
        for key in keys:
            tar.write({"__key__": key, **CONTENTS[key]})


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    write(tmp_path / "shard.tar", ["00007", "00002", "00011"])
    return tmp_path / "shard.tar"


def test_members_lie_where_tarfile_finds_them(tar: Path) -> None:
    canonicalise(tar)
    with tarfile.open(tar) as reference:
        expected = [(info.name, info.offset_data, info.size) for info in reference]
    assert list(members(tar)) == expected
    assert [name for name, _, _ in expected] == [f"{key}.{end}" for key in sorted(CONTENTS) for end in ("jpg", "json")]
    content = tar.read_bytes()
    for name, offset, size in expected:
        key, ending = name.split(".")
        assert content[offset : offset + size] == CONTENTS[key][ending]


def test_canonical_bytes_depend_on_neither_order_nor_time(tar: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.tar"
    write(other, ["00011", "00007", "00002"])
    assert other.read_bytes() != tar.read_bytes()
    canonicalise(tar)
    canonicalise(other)
    assert other.read_bytes() == tar.read_bytes()


def test_canonical_tar_equals_the_one_tarfile_writes(tar: Path) -> None:
    canonicalise(tar)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as reference:
        for key in sorted(CONTENTS):
            for ending, content in CONTENTS[key].items():
                info = tarfile.TarInfo(f"{key}.{ending}")
                info.size = len(content)
                reference.addfile(info, io.BytesIO(content))
    assert tar.read_bytes() == buffer.getvalue()


def test_canonical_tar_is_left_alone(tar: Path) -> None:
    canonicalise(tar)
    before = tar.stat()
    canonicalise(tar)
    assert (tar.stat().st_ino, tar.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_tar_without_members_stays_readable(tmp_path: Path) -> None:
    write(tmp_path / "empty.tar", [])
    canonicalise(tmp_path / "empty.tar")
    assert list(members(tmp_path / "empty.tar")) == []


@pytest.mark.parametrize("length", [0, 300, 512, 1700, 3000])
@pytest.mark.parametrize("canonical", [True, False])
def test_tar_cut_short_is_refused_and_left_as_it_was(tar: Path, length: int, canonical: bool) -> None:
    if canonical:
        canonicalise(tar)
    cut = tar.read_bytes()[:length]
    tar.write_bytes(cut)
    with pytest.raises(DataError, match=r"shard\.tar"):
        canonicalise(tar)
    assert tar.read_bytes() == cut
    assert list(tar.parent.iterdir()) == [tar]


def test_members_refuse_a_tar_with_a_changed_header_or_tail(tar: Path) -> None:
    canonicalise(tar)
    good = tar.read_bytes()
    for position in (0, 130, 150, len(good) - 1):
        tar.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
        with pytest.raises(DataError, match="canonical|expected"):
            list(members(tar))
