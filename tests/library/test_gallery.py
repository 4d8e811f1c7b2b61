"""Folders as people have them, and caches that cannot be used: the search is done, and what is left out is said."""

import importlib.util
import json
import logging
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from caft.errors import ArgumentError, DataError
from caft.model import gallery
from caft.model.folder import list_pictures
from caft.model.gallery import read_gallery

_HEIF = importlib.util.find_spec("pillow_heif") is not None


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/caft"


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "photos"
    (place / "below").mkdir(parents=True)
    picture(place / "a.png", (200, 0, 0))
    picture(place / "below/b.jpg", (0, 200, 0))
    return place


# Recycle bins, snapshots and thumbnails of systems and network storages, as they write them.
KEPT_BY_SYSTEMS = (
    "#recycle", "@Recycle", "@eaDir", "#snapshot", ".snapshot", "lost+found", "$RECYCLE.BIN", "System Volume Information",
    ".Trash-1000", "RECYCLER", "~snapshot", "@Recently-Snapshot", ".@__thumb", "Network Trash Folder", "FOUND.000",
)  # fmt: skip


def picture(path, colour=(9, 9, 200), kind=None):
    Image.new("RGB", (20, 20), colour).save(path, kind)


@contextmanager
def without_rights():
    """As a user who may not read everything, as root may."""
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)
        yield
    finally:
        os.seteuid(user)


def names(folder):
    return [path.relative_to(folder).as_posix() for path in list_pictures(folder).pictures]


def test_what_systems_leave_in_a_folder_is_neither_read_nor_counted(model, folder, caplog):
    for name in (".DS_Store", "._a.png", "Thumbs.db", "desktop.ini", "__MACOSX/._b.jpg", ".thumbnails/a.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"\0\5\x16\7")
    with caplog.at_level(logging.INFO):
        found = read_gallery(model.network, "m", folder)
    assert [path.name for path in found.files] == ["a.png", "b.jpg"]
    assert not found.damaged and not found.other and "left out" not in caplog.text


@pytest.mark.parametrize("name", KEPT_BY_SYSTEMS)
def test_what_was_deleted_or_is_of_days_before_is_none_of_the_users_pictures(folder, name):
    (folder / "below" / name / "holiday").mkdir(parents=True)
    picture(folder / "below" / name / "deleted.png")
    picture(folder / "below" / name / "holiday" / "deleted.png")
    (folder / "below" / name / "notes.txt").write_text("deleted")
    assert names(folder) == ["a.png", "below/b.jpg"] and not list_pictures(folder).other


def test_a_folder_of_the_user_with_a_like_name_is_searched(folder):
    for name in ("recycle", "snapshot", "lost and found", "#1"):
        (folder / name).mkdir()
        picture(folder / name / "c.png")
    assert len(names(folder)) == 6


def test_endings_in_upper_case_and_every_format_that_is_decoded_are_searched(folder):
    for name, kind in {"C.JPG": None, "d.JFIF": "JPEG", "e.TIF": None, "f.tga": None, "g.ppm": None, "h.j2k": None,
                       "i.apng": "PNG", "j.Ico": None, "k.qoi": None, "l.pcx": None}.items():  # fmt: skip
        picture(folder / name, kind=kind)
    assert len(names(folder)) == 12 and names(folder) == sorted(names(folder), key=Path)


def test_a_folder_whose_name_ends_like_a_picture_is_a_folder(folder):
    (folder / "x.jpg").mkdir()
    picture(folder / "x.jpg/c.png")
    assert names(folder) == ["a.png", "below/b.jpg", "x.jpg/c.png"]


def test_links_are_followed_once_and_loops_end(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    picture(tmp_path / "elsewhere/far.png")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "linked_again").symlink_to(tmp_path / "elsewhere")
    (folder / "below/up").symlink_to(folder)
    (folder / "z.png").symlink_to("a.png")
    assert names(folder) == ["a.png", "below/b.jpg", "linked/far.png", "z.png"]


def test_odd_files_are_left_out_one_by_one_with_the_reason(model, folder, caplog):
    (folder / "dangling.jpg").symlink_to("gone.jpg")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "empty.jpg").touch()
    (folder / "page.jpg").write_text("<html>404</html>")
    (folder / "notes.png").write_text("notes")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "cut.jpg").write_bytes((folder / "below/b.jpg").read_bytes()[:300])
    Image.fromarray(np.full((4, 4), np.nan, np.float32)).save(folder / "nan.tif")
    found = read_gallery(model.network, "m", folder)
    assert [path.name for path in found.files] == ["a.png", "b.jpg"]
    reasons = {
        "dangling.jpg": "is a link to gone.jpg, which leads nowhere",
        "loop.jpg": "is a link to loop.jpg, which leads nowhere",
        "empty.jpg": "it is empty",
        "page.jpg": "it is a web page",
        "notes.png": "it is text",
        "pipe.jpg": "is a pipe",
        "cut.jpg": "it is cut off",
        "nan.tif": "16 of 16 values are not finite",
    }
    assert {path.name for path in found.damaged} == set(reasons)
    lines = [record.message for record in caplog.records]
    for name, reason in reasons.items():
        assert sum(line.startswith(f"left out: {folder / name}: ") and reason in line for line in lines) == 1


def test_what_may_not_be_read_is_left_out_and_said(model):
    with tempfile.TemporaryDirectory() as place:  # pytest's own folders may be read by their owner alone
        folder = Path(place)
        folder.chmod(0o755)
        picture(folder / "a.png")
        picture(folder / "private.png")
        (folder / "closed").mkdir()
        (folder / "private.png").chmod(0)
        (folder / "closed").chmod(0)
        with without_rights():
            found = read_gallery(model.network, "m", folder)
            with pytest.raises(DataError, match=r"closed: may not be read \(Permission denied\)"):
                list_pictures(folder / "closed")
    assert [path.name for path in found.files] == ["a.png"]
    assert {path.name: "may not be read" in reason for path, reason in found.damaged.items()} == {
        "private.png": True,
        "closed": True,
    }


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file whose reading fails")
def test_a_picture_whose_reading_fails_is_left_out(model, folder):
    (folder / "lost.jpg").symlink_to("/proc/self/mem")
    found = read_gallery(model.network, "m", folder)
    assert [path.name for path in found.files] == ["a.png", "b.jpg"]
    assert "lost.jpg: cannot be read (Input/output error)" in found.damaged[folder / "lost.jpg"]


def test_a_picture_that_vanishes_after_it_was_listed_is_left_out(model, folder, monkeypatch):
    original = gallery.list_pictures

    def listed_then_deleted(place):
        found = original(place)
        (place / "a.png").unlink()
        return found

    monkeypatch.setattr(gallery, "list_pictures", listed_then_deleted)
    found = read_gallery(model.network, "m", folder)
    assert [path.name for path in found.files] == ["b.jpg"]
    assert "not found" in found.damaged[folder / "a.png"]


@pytest.mark.skipif(_HEIF, reason="the plug-in is installed")
def test_files_of_other_endings_are_counted_in_one_line(model, folder, caplog):
    for name in ("1.HEIC", "2.heic", "3.heic", "clip.mp4", "clip2.mp4", "page.pdf", "plain", "h.h5"):
        (folder / name).write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0")
    found = read_gallery(model.network, "m", folder)
    assert found.other == {".heic": 3, ".mp4": 2, ".pdf": 1, ".h5": 1, "without an ending": 1}
    assert [record.message for record in caplog.records if "left out" in record.message] == [
        "left out: 3 .heic (`pip install pillow-heif` adds them), 2 .mp4, 1 .h5, 1 .pdf, 1 without an ending"
    ]
    shutil.rmtree(folder / "below")
    (folder / "a.png").unlink()
    with pytest.raises(DataError, match="no picture in it or below; found 3 .heic .`pip install pillow-heif` adds"):
        read_gallery(model.network, "m", folder)


@pytest.mark.skipif(not _HEIF, reason="needs the plug-in pillow-heif")
def test_heic_is_searched_where_the_plug_in_is_installed(model, folder):
    names(folder)  # adds the plug-in
    picture(folder / "phone.HEIC", (9, 9, 200), "HEIF")
    found = read_gallery(model.network, "m", folder)
    assert [path.name for path in found.files] == ["a.png", "b.jpg", "phone.HEIC"] and not found.other
    expected = model.encode_image(Image.new("RGB", (20, 20), (9, 9, 200)))
    assert (found.encoded.whole[2] @ expected[0]).item() > 0.99


@pytest.mark.parametrize("batch", [0, -1, 2.5, True, "8", None])
def test_a_batch_that_is_none_is_refused_before_anything(model, folder, batch):
    with pytest.raises(ArgumentError, match="batch: expected a whole number from 1, found"):
        read_gallery(model.network, "m", folder, batch)


def test_a_place_that_is_no_folder_is_named(model, folder, tmp_path):
    (tmp_path / "link").symlink_to("gone")
    for place, words in {
        folder / "a.png": "a.png: is a file; give a folder",
        tmp_path / "absent": "absent: no such folder",
        tmp_path / "link": "link: no such folder",
    }.items():
        with pytest.raises(DataError, match=words):
            read_gallery(model.network, "m", place)


# ---------------------------------------------------------------------- the cache


def same_as_without(model, found, folder):
    torch.testing.assert_close(found.encoded.whole, model.encode_image([folder / "a.png", folder / "below/b.jpg"]))


def test_a_cache_that_is_a_file_or_below_one_is_said_before_the_work(model, folder, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file/below", Path("/proc")):
        caplog.clear()
        monkeypatch.setenv("XDG_CACHE_HOME", str(place))
        same_as_without(model, read_gallery(model.network, "m", folder), folder)
        (line,) = [record.message for record in caplog.records]
        assert line.startswith("features are not kept (") and "set XDG_CACHE_HOME to a folder" in line


def test_a_cache_that_may_not_be_written_is_read_and_said_before_the_work(model, monkeypatch, caplog):
    with tempfile.TemporaryDirectory() as place:
        folder, cache = Path(place, "photos"), Path(place, "cache")
        (folder / "below").mkdir(parents=True)
        Path(place).chmod(0o755)
        picture(folder / "a.png")
        picture(folder / "below/b.jpg")
        monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
        first = read_gallery(model.network, "m", folder)
        (cache / "caft").chmod(0o555)
        (kept,) = (cache / "caft").iterdir()
        kept.chmod(0o555)
        for file in kept.iterdir():
            file.chmod(0o444)
        with without_rights():
            assert torch.equal(read_gallery(model.network, "m", folder).encoded.whole, first.encoded.whole)
            same_as_without(model, read_gallery(model.network, "other", folder), folder)
        assert [kept] == list((cache / "caft").iterdir())
        cache.chmod(0)  # not even to be looked into
        with without_rights():
            same_as_without(model, read_gallery(model.network, "m", folder), folder)
        cache.chmod(0o755)
    lines = [record.message for record in caplog.records]
    assert len(lines) == 3 and all(line.startswith("features are not kept (") for line in lines)


def test_a_relative_cache_is_ignored_as_the_standard_says(model, folder, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    same_as_without(model, read_gallery(model.network, "m", folder), folder)
    assert not Path("here").exists() and len(list((tmp_path / "home/.cache/caft").iterdir())) == 1
    assert "XDG_CACHE_HOME is 'here', which is no absolute path, and is ignored" in caplog.text


def test_without_a_home_nothing_is_kept_and_that_is_said(model, folder, monkeypatch, caplog):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "~")  # as for a user without an entry: no folder comes of it
    same_as_without(model, read_gallery(model.network, "m", folder), folder)
    assert "features are not kept (" in caplog.text and not Path("~").exists()


@pytest.mark.parametrize(
    "damage", ["cut", "empty", "gone", "values", "facts", "no key", "list", "no object", "no record"]
)
def test_damaged_features_are_computed_anew(model, folder, cache, caplog, damage):
    read_gallery(model.network, "m", folder)
    (features,), (record,) = cache.glob("*/*.safetensors"), cache.glob("*/*.json")
    content, facts = features.read_bytes(), json.loads(record.read_text())
    if damage in ("cut", "empty"):
        features.write_bytes(content[: len(content) // 2 if damage == "cut" else 0])
    elif damage == "gone":
        features.unlink()
    elif damage == "values":
        features.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "no record":
        record.write_bytes(record.read_bytes()[:100])
    else:
        if damage == "facts":
            facts["pictures"] = facts["pictures"][:-1]
        elif damage == "list":
            facts["pictures"] = [["a.png", 1]]
        elif damage == "no object":
            facts = [facts]
        else:
            del facts["key"]
        record.write_text(json.dumps(facts))
    same_as_without(model, read_gallery(model.network, "m", folder), folder)
    assert f"{record}: is damaged" in caplog.text and not features.exists() and not record.exists()
    caplog.clear()
    same_as_without(model, read_gallery(model.network, "m", folder), folder)
    assert not caplog.text


def test_features_that_were_copied_are_taken_after_they_were_looked_at(model, folder, cache, caplog):
    read_gallery(model.network, "m", folder)
    (features,) = cache.glob("*/*.safetensors")
    os.utime(features, (1, 1))  # as by a copy that keeps no times
    same_as_without(model, read_gallery(model.network, "m", folder), folder)
    assert features.exists() and not caplog.text


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_stands_where_features_would_is_somebodys_and_stays(model, folder, cache, caplog, kind):
    read_gallery(model.network, "m", folder)
    (place,) = cache.iterdir()
    shutil.rmtree(place)
    if kind == "file":
        place.write_text("mine")
    else:
        (place / "mine.json").mkdir(parents=True)
    for _ in range(2):
        same_as_without(model, read_gallery(model.network, "m", folder), folder)
    assert place.is_file() if kind == "file" else (place / "mine.json").is_dir()
    assert caplog.text.count("features are not kept") == (2 if kind == "file" else 0)


def test_features_beyond_half_precision_are_left_out_and_said(model, folder, caplog, monkeypatch):
    original = gallery.encode_cropped

    def large(network, paths, batch):
        found = original(network, paths, batch)
        found.part[[path.name == "a.png" for path in paths], 0, 0] = 70_000
        return found

    monkeypatch.setattr(gallery, "encode_cropped", large)
    found = read_gallery(model.network, "m", folder)
    assert [path.name for path in found.files] == ["b.jpg"]
    assert found.damaged == {
        folder / "a.png": "its features reach 70000, and half precision, in which they are kept, 65504"
    }
    assert f"left out: {folder / 'a.png'}: its features reach 70000" in caplog.text


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps no time at which a file was renamed")
def test_two_files_that_change_names_are_not_mistaken_for_each_other(model, folder, cache):
    """Of one size and one second, as frames from an archive; and one whose bytes were changed and whose time was put back."""
    for name, colour in {"1.bmp": (200, 0, 0), "2.bmp": (0, 0, 200), "3.bmp": (0, 90, 0)}.items():
        picture(folder / name, colour)
        os.utime(folder / name, (1_700_000_000, 1_700_000_000))
    read_gallery(model.network, "m", folder)
    (folder / "1.bmp").rename(folder / "x")
    (folder / "2.bmp").rename(folder / "1.bmp")
    (folder / "x").rename(folder / "2.bmp")
    (folder / "3.bmp").write_bytes((folder / "1.bmp").read_bytes())
    os.utime(folder / "3.bmp", (1_700_000_000, 1_700_000_000))
    found = read_gallery(model.network, "m", folder)
    torch.testing.assert_close(found.encoded.whole, model.encode_image(found.files))


def test_the_file_that_earlier_versions_kept_is_removed_when_its_successors_are_written(model, folder, cache):
    read_gallery(model.network, "m", folder)
    (place,) = cache.iterdir()
    shutil.rmtree(place)
    place.with_suffix(".safetensors").write_bytes(b"features")
    (cache / "other.safetensors").write_bytes(b"of another folder")
    read_gallery(model.network, "m", folder)
    assert sorted(path.name for path in cache.iterdir()) == [place.name, "other.safetensors"]
