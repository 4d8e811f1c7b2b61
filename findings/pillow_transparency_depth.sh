#!/usr/bin/env bash
# Pillow 13.0.0 on Python 3.11.
# Guess: a colour that a PNG marks as transparent (chunk tRNS) is transparent after `convert("RGBA")`, whatever the bit depth.
# Seen:  pixels of 2 and 4 bits grey and of 16 bits RGB are scaled to 8 bits, the mark is not. So at 2 and 4 bits the marked
#        pixels stay opaque, and where the mark's number happens to be a scaled grey, others become transparent; at 16 bits
#        RGB nothing does. 1 and 8 bits are right. Scans and screenshots saved by tools that shrink PNGs are such files.
# Here:  `caft.pictures.reading` scales the mark as the pixels, so that transparent parts are white; a test has each depth.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet pillow==13.0.0
cat > "$work/depths.py" <<'P'
import io
import struct
import zlib

import PIL
from PIL import Image


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def alpha(depth: int, colour: int, row: bytes, mark: bytes) -> list[int]:
    """Alpha of two pixels side by side, the first of which has the marked colour."""
    head = struct.pack(">IIBBBBB", 2, 1, depth, colour, 0, 0, 0)
    parts = ((b"IHDR", head), (b"tRNS", mark), (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b""))
    png = b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)
    return list(Image.open(io.BytesIO(png)).convert("RGBA").getchannel("A").tobytes())


found = {
    "grey 1": alpha(1, 0, bytes([0b10_000000]), struct.pack(">H", 1)),
    "grey 2": alpha(2, 0, bytes([0b10_01_0000]), struct.pack(">H", 2)),
    "grey 4": alpha(4, 0, bytes([0x94]), struct.pack(">H", 9)),
    "grey 8": alpha(8, 0, bytes([200, 100]), struct.pack(">H", 200)),
    "RGB 8": alpha(8, 2, bytes([1, 2, 3, 4, 5, 6]), struct.pack(">3H", 1, 2, 3)),
    "RGB 16": alpha(16, 2, struct.pack(">6H", 1000, 2000, 3000, 40000, 50000, 60000), struct.pack(">3H", 1000, 2000, 3000)),
}
print(PIL.__version__, "alpha of the marked pixel and of another:", found)
right = [name for name, pixels in found.items() if pixels == [0, 255]]
assert right == ["grey 1", "grey 8", "RGB 8"], right
assert all(found[name] == [255, 255] for name in ("grey 2", "grey 4", "RGB 16"))
P
"$work/env/bin/python" "$work/depths.py"
