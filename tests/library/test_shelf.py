"""Features on disk: what a kill, a second process and a changed folder leave, and searches against all that is stored."""

import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from PIL import Image

from caft.digests import file_digest
from caft.locking import locked
from caft.model import gallery, search, shelf
from caft.model.command import main
from caft.model.encoding import EncodedCaptions, EncodedImages
from caft.model.gallery import read_gallery
from caft.model.model import Model
from caft.model.shelf import Shelf
from caft.model.stored import HALF
from caft.network.part_cosines import PartCosines
from caft.network.text_pool import TextConditionedPool

PROJECT = Path(__file__).parents[2]
BYTES = 64 * 4 + 32 * 64 * 2  # of a picture of the model `tiny`


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of the test's own, and shards of two pictures."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(shelf, "_SHARD_BYTES", 2 * BYTES)
    return tmp_path / "cache/caft"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "photos").mkdir()
    for number in range(8):
        picture(tmp_path / f"photos/{number}.png", number)
    return tmp_path / "photos"


@pytest.fixture
def encoded(monkeypatch):
    """Names of the pictures that were encoded."""
    original, names = gallery.encode_cropped, []

    def counted(network, paths, batch):
        names.extend(path.name for path in paths)
        return original(network, paths, batch)

    monkeypatch.setattr(gallery, "encode_cropped", counted)
    return names


def picture(path, number):
    Image.effect_noise((30, 20 + number), 60).convert("RGB").save(path)


def same_as_without(model, found):
    """As encoded now, in one batch, and rounded here: to 11 bits, as half precision has."""
    expected = model.encode_images(found.files)
    torch.testing.assert_close(found.encoded.whole, expected.whole)
    torch.testing.assert_close(found.encoded.part, expected.part, rtol=2**-11, atol=1e-5)
    assert torch.equal(found.encoded.part, found.encoded.part.half().float())


# ---------------------------------------------------------------------- kills, other processes, changed folders

KILLED = """
import os, signal, sys
from pathlib import Path
import caft
from caft.model import gallery, shelf
shelf._SHARD_BYTES = int(sys.argv[4])
model = caft.load(sys.argv[1])
original, calls = gallery.encode_cropped, []

def encode(network, paths, batch):
    calls.append(paths)
    if len(calls) == 6 and sys.argv[3] == "encoding":
        os.kill(os.getpid(), signal.SIGKILL)
    return original(network, paths, batch)

write = shelf.write_text

def unwritten(path, text):
    if len(calls) == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, text)

gallery.encode_cropped = encode
if sys.argv[3] == "the record":
    shelf.write_text = unwritten
gallery.read_gallery(model.network, "m", Path(sys.argv[2]), batch=1)
"""


@pytest.mark.slow
@pytest.mark.parametrize("before", ["encoding", "the record"])
def test_a_killed_build_goes_on_after_its_last_whole_shard(model, model_file, folder, cache, encoded, caplog, before):
    """Before the sixth picture is encoded, or after it, with the third shard, is written and before its record is."""
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(model_file), str(folder), before, str(2 * BYTES)], capture_output=True, timeout=300,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )  # fmt: skip
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert len(list(cache.glob("*/*.safetensors"))) == (2 if before == "encoding" else 3)
    found = read_gallery(model.network, "m", folder)
    assert len(encoded) == 4 and "damaged" not in caplog.text
    same_as_without(model, found)
    names = {path.stem for path in cache.glob("*/*.*") if not path.name.startswith(".")}
    assert len(list(cache.glob("*/*.json"))) == len(list(cache.glob("*/*.safetensors"))) == len(names)
    assert not list(cache.glob("*/.tmp*"))
    encoded.clear()
    same_as_without(model, read_gallery(model.network, "m", folder))
    assert not encoded


def test_a_second_process_waits_and_takes_what_the_first_has_encoded(model, folder, encoded, monkeypatch, caplog):
    begun, results = threading.Event(), []
    counted = gallery.encode_cropped

    def slowly(network, paths, batch):
        begun.set()
        waiting.wait(120)
        return counted(network, paths, batch)

    waiting = threading.Event()
    monkeypatch.setattr(gallery, "encode_cropped", slowly)
    first = threading.Thread(target=lambda: results.append(read_gallery(model.network, "m", folder)))
    second = threading.Thread(target=lambda: results.append(read_gallery(model.network, "m", folder)))
    first.start()
    assert begun.wait(120)
    second.start()
    for _ in range(200):
        if "waiting for it to end" in caplog.text:
            break
        second.join(0.05)
    waiting.set()
    first.join()
    second.join()
    assert f"is encoding the pictures of {folder}; waiting for it to end" in caplog.text
    assert len(encoded) == 8 and len(results) == 2
    assert torch.equal(results[0].encoded.part, results[1].encoded.part)


def test_who_encodes_nothing_waits_for_nobody(model, folder, cache):
    read_gallery(model.network, "m", folder)
    (place,) = cache.iterdir()
    with locked(place, "encoding"):
        assert len(read_gallery(model.network, "m", folder).files) == 8


def test_a_shard_that_went_while_the_folder_was_looked_at_is_not_damaged(
    model, folder, cache, encoded, monkeypatch, caplog
):
    read_gallery(model.network, "m", folder)
    encoded.clear()
    listed, looks = shelf.os.listdir, []

    def before(place):
        if Path(place).parent != cache:
            return listed(place)
        looks.append(place)
        return [*listed(place), *(["00000-gone.json"] if len(looks) == 1 else [])]

    monkeypatch.setattr(shelf.os, "listdir", before)
    same_as_without(model, read_gallery(model.network, "m", folder))
    assert len(looks) == 2 and not encoded and not caplog.text


def test_a_search_whose_features_another_search_moves_looks_again(model, model_file, folder, monkeypatch, capsys):
    original, calls = Model.retrieve, []

    def moved(self, query, images, *more):
        calls.append(images)
        if len(calls) == 1:  # another search finds a new picture, and puts the small shards together
            picture(folder / "9.png", 9)
            read_gallery(self.network, file_digest(model_file), folder)
        return original(self, query, images, *more)

    monkeypatch.setattr(Model, "retrieve", moved)
    monkeypatch.setattr(shelf, "_SHARD_BYTES", 4 * BYTES)
    for number in (5, 6, 7):  # so that the second shard is small
        (folder / f"{number}.png").unlink()
    assert main(["search", str(folder), "A cat.", "--model", str(model_file), "-k", "20"]) == 0
    output = capsys.readouterr().out
    assert len(output.splitlines()) == 6 and "9.png" in output and len(calls) == 2


def test_shards_that_are_small_or_worn_are_put_together(model, folder, cache, encoded, monkeypatch):
    monkeypatch.setattr(shelf, "_SHARD_BYTES", 4 * BYTES)
    first = read_gallery(model.network, "m", folder)
    before = first.encoded.part
    assert len(list(cache.glob("*/*.safetensors"))) == 2
    for number in (1, 3, 4, 5, 6):  # two of four are left of the first shard, which stays, and one of the second
        (folder / f"{number}.png").unlink()
    picture(folder / "25.png", 1)
    encoded.clear()
    second = read_gallery(model.network, "m", folder)
    assert encoded == ["25.png"] and [path.stem for path in second.files] == ["0", "2", "25", "7"]
    same_as_without(model, second)
    assert torch.equal(second.encoded.part[[0, 1, 3]], before[[0, 2, 7]])
    assert len(list(cache.glob("*/*.safetensors"))) == 2
    before = sorted(cache.glob("*/*"))
    read_gallery(model.network, "m", folder)
    assert sorted(cache.glob("*/*")) == before
    # The features that an earlier look took are gone with their shards: said, and not mistaken for others.
    with pytest.raises(gallery.DataError, match="was there and cannot be read now .*run the search again"):
        first.features.in_memory()


def test_a_broken_picture_does_not_make_small_shards_be_written_again(model, folder, cache, caplog):
    (folder / "9.png").write_bytes(b"")
    (folder / "0.png").unlink()
    read_gallery(model.network, "m", folder)
    before = sorted(cache.glob("*/*.*s*"))
    read_gallery(model.network, "m", folder)
    assert sorted(cache.glob("*/*.*s*")) == before and caplog.text.count("9.png: cannot be decoded") == 2


@pytest.mark.parametrize("pages", range(2, 12))
def test_a_full_disk_stops_nothing_and_holds_nothing_in_vain(model, folder, small_disk, monkeypatch, caplog, pages):
    """Full at any point: before a shard, within it, before its record, or after some."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(small_disk))
    with (small_disk / "filler").open("wb", buffering=0) as filler:
        filler.write(bytes(shutil.disk_usage(small_disk).free - pages * os.sysconf("SC_PAGESIZE")))
    same_as_without(model, read_gallery(model.network, "m", folder, batch=3))
    assert caplog.text.count("features are not kept (") == 1 and "No space left on device" in caplog.text
    files = {path.name for path in small_disk.glob("caft/*/*")} - {".lock"}
    assert files == {f"{name[:14]}{end}" for name in files for end in (".json", ".safetensors")}


def test_features_are_as_open_to_others_as_their_records(model, folder, cache):
    read_gallery(model.network, "m", folder)
    assert len({path.stat().st_mode for path in cache.glob("*/*.*s*") if path.name[0] != "."}) == 1


# ---------------------------------------------------------------------- searches


@pytest.fixture
def filled(tmp_path):
    """300 pictures' features in shards of some, added in another order than they are asked for, and a query near to one."""
    generator = torch.Generator().manual_seed(0)
    part = torch.randn(300, 8, 64, generator=generator)
    whole = torch.nn.functional.normalize(torch.randn(300, 64, generator=generator), dim=-1)
    for copy, source in ((17, 0), (250, 3), (251, 3)):
        part[copy], whole[copy] = part[source], whole[source]
    order = torch.randperm(300, generator=generator).tolist()
    store = Shelf(tmp_path / "shelf", "key")
    store._folder.mkdir()
    for number in order:
        store.add((f"{number}", number, 0), EncodedImages(whole[number], part[number]))
    store.tidy([(f"{number}", number, 0) for number in order])
    store = Shelf(tmp_path / "shelf", "key")
    known = store.known()
    query = torch.nn.functional.normalize(
        whole[:1] + whole[3:4] + 0.1 * torch.randn(1, 64, generator=generator), dim=-1
    )
    chunks = part[:1, :4] + torch.randn(1, 4, 64, generator=generator)
    captions = EncodedCaptions(query, chunks, 0, 0, 4, 8, 8)
    return store.images(known[(f"{number}", number, 0)] for number in range(300)), EncodedImages(whole, part), captions


@torch.no_grad()
def by_hand(network, given, captions, weight):
    """Scores of all pictures in float64 by the pooled features, from segments that numpy has rounded to half precision."""
    pool = deepcopy(network.pool).double()
    part = torch.from_numpy(given.part.numpy().astype("float16").astype("float64"))
    chunks = captions.parts.double()
    cosines = [torch.cosine_similarity(pool(chunks, one[None])[0], chunks, dim=-1).mean() for one in part]
    whole = given.whole.double() @ captions.whole[0].double()
    scale, other = (network.temperature(level)[0].double().exp() for level in ("whole", "part"))
    return ((1 - weight) * scale * whole + weight * other * torch.stack(cosines)).float()


def test_rows_are_those_that_were_added_rounded_once(filled):
    stored, given, _ = filled
    assert torch.equal(stored.in_memory().whole, given.whole)
    expected = torch.from_numpy(given.part.numpy().astype("float16").astype("float32"))
    assert torch.equal(stored.in_memory().part, expected)
    chosen = torch.tensor([299, 3, 3, 0])
    assert torch.equal(stored.part[chosen], expected[chosen]) and torch.equal(stored.part[5:7], expected[5:7])
    assert stored.part.shape == given.part.shape and len(stored.whole) == 300
    tiles = list(stored.tiles(part=False))
    assert torch.equal(torch.cat([tile.whole for tile in tiles]), given.whole) and tiles[0].part is None


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("k", [1, 10, 299])
def test_the_best_are_those_of_all_that_is_stored(model, filled, monkeypatch, weight, k):
    monkeypatch.setattr(search, "_NUMBERS", 8 * 64 * 40)  # blocks of 40 pictures at most
    monkeypatch.setattr(search, "_TILE", 64)
    monkeypatch.setattr("caft.model.stored._TILE", 64)
    stored, given, captions = filled
    scores = by_hand(model.network, given, captions, weight)
    found = model.retrieve(captions, stored, k, weight)
    assert [match.image for match in found] == scores.argsort(descending=True, stable=True)[:k].tolist()
    assert [match.score for match in found] == pytest.approx(
        scores[[match.image for match in found]].tolist(), abs=1e-5
    )


def test_pictures_that_rounding_may_have_put_last_are_counted_and_none_of_them_was_left_out(
    model, filled, monkeypatch, caplog
):
    """Those within twice the bound of the last score, of all pictures; a bound that large keeps more from being left out."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(search, "_BLOCK", 1)
    stored, given, captions = filled
    network, weight, slack = model.network, 0.3, 0.5
    features = (network, stored.whole, stored.part, captions.whole, captions.parts, 1, weight)
    _, scores, least = search.best_images(*features)
    assert "half precision" not in caplog.text
    _, same, done = search.best_images(*features, slack)
    assert torch.equal(scores, same) and done > least
    every, scale = by_hand(network, given, captions, weight), network.temperature("part")[0].detach().exp().item()
    expected = int((every >= scores[-1] - 2 * weight * scale * (slack + search.ERROR)).sum()) - 1
    assert 0 < expected < done
    assert f"of the pictures that were not chosen, {expected} are as near to the last one" in caplog.text
    assert f"may move a score by {weight * scale * slack:.3f}" in caplog.text


@pytest.mark.parametrize("shrink", [1.0, 0.2])
@pytest.mark.parametrize(("dim", "heads"), [(64, 1), (64, 4), (512, 8)])
def test_half_precision_moves_a_cosine_by_less_than_is_said(dim, heads, shrink):
    """Random poolings, and such whose heads cancel: their output is brought to a fifth of its length."""
    generator = torch.Generator().manual_seed(dim + heads)
    torch.manual_seed(3)
    pool = TextConditionedPool(dim, heads)
    segments = 30 * torch.randn(40, 32, dim, generator=generator) * torch.rand(40, 32, 1, generator=generator)
    texts = torch.randn(50, 4, dim, generator=generator)
    with torch.no_grad():
        key, value = pool.project_tokens(segments)
        pool.out.bias.copy_(-(1 - shrink) * pool(texts.flatten(0, 1)[None], segments[:1])[0].mean((0, 1)))
        before, after = (
            torch.cat([found for _, found in PartCosines(pool, texts).of_all(rows)])
            for rows in (segments, segments.half().float())
        )
    assert 0 < (before - after).abs().max() < HALF


HELD = """
import sys, torch, caft
from pathlib import Path
from caft.model.command import main
from caft.model.encoding import EncodedCaptions, EncodedImages
from caft.model.shelf import Shelf

def held(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name)) / 1024

model, place, added = caft.load(sys.argv[1]), Path(sys.argv[2]), 0
store = Shelf(place, "key")
for size in (2_000, 80_000):
    for number in range(added, size):
        if number % 1000 == 0:
            part, whole = torch.randn(1000, 32, 64), torch.nn.functional.normalize(torch.randn(1000, 64), dim=-1)
        store.add((str(number), 0, 0), EncodedImages(whole[number % 1000], part[number % 1000]))
    added = size
    store.tidy((str(number), 0, 0) for number in range(size))
    images = store.images(store.known().values())
    captions = EncodedCaptions(whole[:1], part[:1, :4], 0, 0, 4, 8, 8)
    Path("/proc/self/clear_refs").write_text("5")  # the most memory counts from here
    before = held("VmRSS")
    for weight in (0, 0.3, 1):
        assert len(model.retrieve(captions, images, 10, weight)) == 10
    print(len(images.whole), held("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's count of memory")
def test_memory_of_a_search_does_not_grow_with_the_pictures(model_file, tmp_path):
    """80,000 pictures have 348 MB on disk, and 676 as tensors in float32; a search takes up to 250, of a million as well."""
    (tmp_path / "shelf").mkdir()
    ended = subprocess.run(
        [sys.executable, "-c", HELD, str(model_file), str(tmp_path / "shelf")], capture_output=True, text=True,
        timeout=300, env={**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    _, (many, more) = (map(float, line.split()) for line in ended.stdout.splitlines())
    assert many == 80_000 and more < 340, more
