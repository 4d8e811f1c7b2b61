"""Three hundred files that users may have, drawn from a seed: the command ends with 0, or with 2 and one error."""

import io
import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save

from caft.model.command import main

# Modes of Pillow with the formats that can hold them.
FORMATS = {
    "1": ("PNG", "TIFF", "BMP"),
    "L": ("JPEG", "PNG", "TIFF", "WEBP", "GIF"),
    "P": ("PNG", "GIF", "BMP", "TIFF"),
    "LA": ("PNG", "TIFF"),
    "PA": ("TIFF", "PNG"),
    "RGB": ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "PPM", "ICO", "TGA", "JPEG2000", "AVIF"),
    "RGBA": ("PNG", "TIFF", "WEBP", "ICO", "TGA", "JPEG2000"),
    "RGBX": ("TIFF",),
    "CMYK": ("JPEG", "TIFF"),
    "YCbCr": ("JPEG", "TIFF"),
    "LAB": ("TIFF",),
    "I": ("PNG", "TIFF"),
    "I;16": ("PNG", "TIFF", "JPEG2000"),
    "F": ("TIFF",),
}
ENDINGS = (".jpg", ".JPG", ".jpeg", ".png", ".PNG", ".tif", ".webp", ".gif", ".bmp", ".heic", ".txt", "", ".jpg.part")
NO_PICTURES = (
    b"",
    b"\n",
    b"<!DOCTYPE html><html><body>404</body></html>",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"%PDF-1.4\n",
    b"RIFF\x00\x00\x00\x00WEBP",
    b"\x00" * 4096,
)
TEXTS = (
    "A red star.", "", " ", ".", "...", "\n\n", "</s>", "a\u0301 \u00fcber", "\u732b\u3002\u72ac\u3002", "\U0001f408",
    "word " * 300, "A cat. " * 40, "\ufeff", "\u200b", "a\x00b", "-1", "\u0645\u0631\u062d\u0628\u0627", "&amp;&lt;",
)  # fmt: skip


def picture(rng: random.Random) -> bytes:
    """A picture of any mode, format, size and orientation; some are cut, some have a wrong byte, some are none."""
    if rng.random() < 0.1:
        return rng.choice(NO_PICTURES)
    mode = rng.choice(list(FORMATS))
    size = rng.choice([(1, 1), (2, 300), (300, 2), (33, 20), (64, 64), (90, 121)])
    noise = np.random.default_rng(rng.randrange(1 << 30))
    if mode in ("I", "I;16", "F"):
        scale = rng.choice([1, 255, 65535])
        values = noise.random(size[::-1]) * scale
        image = Image.fromarray(values.astype({"I": np.int32, "I;16": np.uint16, "F": np.float32}[mode]))
    else:
        image = Image.fromarray(noise.integers(0, 256, (*size[::-1], 3), np.uint8))
        image = image.convert("L").convert(mode) if mode in ("1", "LA") else _converted(image, mode)
    kind = rng.choice(FORMATS[mode])
    exif = Image.Exif()
    exif[0x0112] = rng.randint(0, 9)
    file = io.BytesIO()
    try:
        image.save(file, kind, **({"exif": exif} if kind in ("JPEG", "PNG", "WEBP", "TIFF") else {}))
    except (OSError, ValueError, KeyError):  # not a pair that this Pillow writes
        image.convert("RGB").save(file, "PNG")
    content = bytearray(file.getvalue())
    if rng.random() < 0.15:
        del content[rng.randrange(len(content)) :]
    elif rng.random() < 0.15:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(content)


def _converted(image: Image.Image, mode: str) -> Image.Image:
    if mode == "LAB":
        return Image.frombytes("LAB", image.size, image.tobytes())
    if mode == "PA":
        return image.convert("P").convert("PA")
    return image.convert(mode)


def weights(rng: random.Random, state: dict[str, torch.Tensor], card: dict[str, Any], folder: Path) -> Path:
    """A model's two files, or a torch file, with something about them that is not as it should be."""
    tensors, names = dict(state), list(state)
    for _ in range(rng.choice([0, 0, 1, 2])):
        name = rng.choice(names)
        if name not in tensors:
            continue
        change = rng.randrange(6)
        if change == 0:
            del tensors[name]
        elif change == 1:
            tensors[name] = tensors[name].to(rng.choice([torch.float16, torch.bfloat16, torch.float64, torch.int32]))
        elif change == 2:
            tensors[name] = torch.full_like(tensors[name].float(), rng.choice([float("nan"), float("inf")]))
        elif change == 3:
            tensors[name] = torch.zeros(3, 2)
        elif change == 4:
            tensors[f"more.{name}"] = tensors[name].clone()
        else:
            tensors[name] = tensors[name][None]
    prefix = "".join(rng.choice(["", "", "module.", "_orig_mod.", "model."]) for _ in range(2))
    tensors = {prefix + name: tensor.contiguous() for name, tensor in tensors.items()}
    path = folder / rng.choice(["model.safetensors", "model.pt", "model.bin", "model.ckpt"])
    if path.suffix == ".safetensors":
        content = save(tensors)
    else:
        wrapped: Any = tensors
        for _ in range(rng.randrange(3)):
            wrapped = {rng.choice(["model", "ema", "state_dict", "module", "epoch"]): wrapped, "epoch": 3}
        file = io.BytesIO()
        torch.save(rng.choice([wrapped, wrapped, wrapped, list(tensors.values()), 7, None]), file)
        content = file.getvalue()
    if rng.random() < 0.25:
        content = rng.choice(
            [*NO_PICTURES, content[: rng.randrange(len(content))], struct.pack("<Q", 1 << 60), content[8:]]
        )
    path.write_bytes(content)
    if rng.random() < 0.8:
        path.with_suffix(".json").write_bytes(_card(rng, card))
    return path


def _card(rng: random.Random, card: dict[str, Any]) -> bytes:
    card = json.loads(json.dumps(card))
    place = rng.choice([card, card["model"], card])
    change = rng.randrange(8)
    if change == 0:
        del place[rng.choice(list(place))]
    elif change == 1:
        place[rng.choice(list(place))] = rng.choice([None, -1, "x", [], {}, 1e99])
    elif change == 2:
        place["unknown"] = 1
    elif change == 3:
        return rng.choice([b"", b"[]", b"{}", b"null", b"{", b"\xff\xfe", b'"a"'])
    elif change == 4:
        return b"\xef\xbb\xbf" + json.dumps(card).encode()
    return json.dumps(card).encode()


def folder_of_pictures(rng: random.Random, folder: Path) -> Path:
    """A folder as users have them: pictures, other files, hidden ones, links to nothing, folders with names of pictures."""
    folder.mkdir()
    for number in range(rng.randrange(5)):
        (folder / f"{number}{rng.choice(ENDINGS)}").write_bytes(picture(rng))
    for name in (".DS_Store", "._1.jpg", "Thumbs.db", "film.mp4", "notes.txt", "sub/desktop.ini", "sub/\u00fc b.png"):
        if rng.random() < 0.3:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(rng.choice(NO_PICTURES))
    if rng.random() < 0.3:
        (folder / "gone.jpg").symlink_to(folder / "nowhere.jpg")
    if rng.random() < 0.2:
        (folder / "loop.png").symlink_to(folder / "loop.png")
    if rng.random() < 0.2:
        (folder / "folder.jpg").mkdir()
    return folder


@pytest.fixture
def attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., int]:
    """Gives a function that runs the command, and looks at how it ends."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(*arguments: object) -> int:
        words = [str(argument) for argument in arguments]
        try:
            code = main(words)
        except SystemExit as end:  # of argparse
            code = int(end.code or 0)
        output, errors = capsys.readouterr()
        assert code in (0, 2), (words, code, errors)
        lines = errors.splitlines()
        told = [place for place, line in enumerate(lines) if line.startswith(("error: ", "caft")) and "error: " in line]
        assert len(told) == (1 if code else 0), (words, errors)
        if code:
            assert len(lines) - told[0] <= 10 and "\x1b" not in errors, (words, errors)
        else:
            assert output, words
        assert "Traceback" not in errors, (words, errors)
        return code

    return run


def test_pictures(attempt, model_file, tmp_path):
    rng = random.Random(1)
    codes = []
    for number in range(140):
        file = tmp_path / f"{number}{rng.choice(ENDINGS)}"
        file.write_bytes(picture(rng))
        text = rng.choice(TEXTS) if rng.random() < 0.3 else TEXTS[0]
        what = ["ground", file, "--", text] if rng.random() < 0.8 else ["segment", file]
        codes.append(attempt(what[0], "--model", model_file, "-o", f"{number}.png", *what[1:]))
    assert 20 < codes.count(2) < 100


def test_folders(attempt, model_file, tmp_path):
    rng = random.Random(2)
    codes = [
        attempt("search", "--model", model_file, folder_of_pictures(rng, tmp_path / f"in {number}"), TEXTS[0])
        for number in range(40)
    ]
    assert codes.count(0) > 10 and codes.count(2) > 3


def test_weights(attempt, model, model_file, tmp_path):
    rng = random.Random(3)
    state, card = model.network.state_dict(), json.loads(model_file.with_suffix(".json").read_text())
    codes = []
    for number in range(90):
        (place := tmp_path / str(number)).mkdir()
        codes.append(attempt("info", weights(rng, state, card, place)))
    assert codes.count(0) > 10 and codes.count(2) > 40


def test_texts_and_lists(attempt, model_file, tmp_path):
    rng = random.Random(4)
    for number in range(30):
        metrics = tmp_path / f"metrics {number}"
        metrics.mkdir()
        for name in ("train", "retrieval", "grounding"):
            if rng.random() < 0.7:
                (metrics / f"{name}.json").write_bytes(
                    rng.choice([b"{}", b"[]", b"", b"null", b"{", b'{"a": {"b": 1}}'])
                )
        attempt("info", model_file, "--metrics", metrics)
        attempt("chunk", "--", rng.choice(TEXTS))
