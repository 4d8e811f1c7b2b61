"""Measures JPEG decoders, those of them that are installed, against Pillow: time and pixels for each kind of file.

Beside Pillow, which is used here: simplejpeg, PyTurboJPEG, OpenCV and torchvision, of which only OpenCV is among our packages.
Pixels are compared with `open_image`'s: RGB, upright. A decoder that gives pixels for a damaged file without a word is marked.
"""

import argparse
import importlib
import io
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import PIL
from PIL import Image, features

from benchmarks.decoding import picture
from benchmarks.measuring import machine, times
from caft.errors import DataError
from caft.transforms import open_image

Pixels = np.ndarray
Decoder = Callable[[bytes], Pixels]
PICTURES, REPETITIONS = 200, 5


def files() -> dict[str, bytes]:
    """One picture as a file of each kind."""
    image = Image.open(io.BytesIO(picture(np.random.default_rng(3))))
    image.load()
    exif = Image.Exif()
    exif[0x0112] = 6
    made = {
        "4:4:4": _jpeg(image, subsampling=0),
        "4:2:2": _jpeg(image, subsampling=1),
        "4:2:0": _jpeg(image, subsampling=2),
        "4:2:0, 333 x 247": _jpeg(image.crop((0, 0, 333, 247)), subsampling=2),
        "progressive": _jpeg(image, progressive=True),
        "restart markers": _jpeg(image, restart_marker_rows=1),
        "grey": _jpeg(image.convert("L")),
        "CMYK": _jpeg(image.convert("CMYK")),
        "turned by EXIF": _jpeg(image, exif=exif),
    }
    whole = made["4:2:0"]
    return made | {
        "cut off": whole[: len(whole) // 2],
        "zeros in its middle": whole[: len(whole) // 2] + bytes(400) + whole[len(whole) // 2 + 400 :],
        "without its end marker": whole[:-2],
    }


def _jpeg(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90, **options)
    return file.getvalue()


def decoders() -> dict[str, Decoder]:
    """Those that are installed, by name and version."""
    found: dict[str, Decoder] = {
        f"Pillow {PIL.__version__}, libjpeg-turbo {features.version('libjpeg_turbo')}": _pillow,
    }
    for make in (_simplejpeg, _turbojpeg, _opencv, _torchvision):
        try:
            name, decode = make()
        except (ImportError, OSError, RuntimeError) as missing:
            print(f"not measured: {make.__name__[1:]}: {str(missing).splitlines()[0]}")
        else:
            found[name] = decode
    return found


def _pillow(encoded: bytes) -> Pixels:
    return np.array(open_image(encoded))


def _simplejpeg() -> tuple[str, Decoder]:
    module = importlib.import_module("simplejpeg")
    return f"simplejpeg {module.__version__}", lambda encoded: module.decode_jpeg(encoded, "RGB")


def _turbojpeg() -> tuple[str, Decoder]:
    module = importlib.import_module("turbojpeg")
    turbo = module.TurboJPEG()  # finds the library of the system
    return f"PyTurboJPEG {module.__version__}", lambda encoded: turbo.decode(encoded, pixel_format=module.TJPF_RGB)


def _opencv() -> tuple[str, Decoder]:
    module = importlib.import_module("cv2")
    module.setNumThreads(1)

    def decode(encoded: bytes) -> Pixels:
        pixels = module.imdecode(np.frombuffer(encoded, np.uint8), module.IMREAD_COLOR_RGB)
        if pixels is None:
            raise ValueError("no picture")
        return pixels

    return f"OpenCV {module.__version__}", decode


def _torchvision() -> tuple[str, Decoder]:
    import torch

    module = importlib.import_module("torchvision")
    jpeg = importlib.import_module("torchvision.io").decode_jpeg
    rgb = importlib.import_module("torchvision.io").ImageReadMode.RGB

    def decode(encoded: bytes) -> Pixels:
        planes = jpeg(torch.frombuffer(bytearray(encoded), dtype=torch.uint8), mode=rgb, apply_exif_orientation=True)
        return planes.permute(1, 2, 0).numpy()

    return f"torchvision {module.__version__}", decode


def compared(decode: Decoder, encoded: bytes) -> str:
    """The most by which a value differs from Pillow's, or what is wrong."""
    try:
        expected = np.asarray(open_image(encoded)).astype(int)
    except DataError:
        expected = None
    try:
        pixels = decode(encoded)
    except Exception as error:  # each has its own
        return "refused" if expected is None else f"{type(error).__name__}"
    if expected is None:
        return "NOT REFUSED"
    if pixels.shape != expected.shape:
        return "x".join(map(str, pixels.shape))
    return str(np.abs(pixels - expected).max())


def _all(decode: Decoder, pictures: list[bytes]) -> None:
    for encoded in pictures:
        decode(encoded)


def main() -> None:
    """Prints both tables."""
    argparse.ArgumentParser(prog="python -m benchmarks.decoders", description=__doc__).parse_args()
    print(machine())
    found, made = decoders(), files()
    for name, decode in found.items():
        print(f"{name}: " + ", ".join(f"{kind} {compared(decode, encoded)}" for kind, encoded in made.items()))
    rng = np.random.default_rng(0)
    pictures = [picture(rng) for _ in range(PICTURES)]
    forms: dict[str, Callable[[], object]] = {name: partial(_all, decode, pictures) for name, decode in found.items()}
    for name, taken in times(forms, REPETITIONS).items():
        print(f"{name}: {taken.median / PICTURES * 1e6:.0f} us a picture, {taken.least / PICTURES * 1e6:.0f} at least")


if __name__ == "__main__":
    main()
