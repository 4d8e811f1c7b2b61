"""Which kinds of picture files can be opened here: Pillow's own and its plug-ins', by ending and by first bytes."""

import importlib
from functools import cache

from PIL import Image, ImageFile

# Plug-ins of Pillow that are used where they are installed: module, the function that adds its formats (None: importing
# it does), and the name to install.
_PLUGINS = (("pillow_heif", "register_heif_opener"), ("pillow_jxl", None))
_INSTALL = {
    **dict.fromkeys((".heic", ".heics", ".heif", ".heifs", ".hif"), "pillow-heif"),
    ".jxl": "pillow-jxl-plugin",
    **dict.fromkeys((".avif", ".avifs"), "Pillow>=11.3"),
}
# Pillow recognises them without a decoder of its own: Ghostscript draws the one, and the other is video.
_NO_DECODER = frozenset({"EPS", "MPEG"})
_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_SIGNS = (
    (b"version https://git-lfs", "it is a Git LFS pointer; run `git lfs pull`"),
    (b"%PDF", "it is a PDF document; export the page as PNG"),
    (b"%!PS", "it is PostScript; export it as PNG"),
    (b"PK\x03\x04", "it is a ZIP archive; unpack it first"),
    (b"\x1f\x8b", "it is compressed with gzip; unpack it first"),
    (b"\xff\x0a", "it is JPEG XL; `pip install pillow-jxl-plugin` adds it"),
    (b"\x00\x00\x00\x0cJXL ", "it is JPEG XL; `pip install pillow-jxl-plugin` adds it"),
    (b"II*\x00", "it is a TIFF of a kind that Pillow does not read; save it with 8 bits per channel"),
    (b"MM\x00*", "it is a TIFF of a kind that Pillow does not read; save it with 8 bits per channel"),
)


@cache
def add_plugins() -> tuple[str, ...]:
    """Adds the formats of the plug-ins that are installed to Pillow's, once; returns the plug-ins' names."""
    added = []
    for name, register in _PLUGINS:
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        if register:
            getattr(module, register)()
        added.append(name)
    return tuple(added)


def endings() -> frozenset[str]:
    """Endings of names, in lower case with the dot, of the formats that are decoded here.

    These are all that Pillow and its plug-ins register, less those that Pillow only recognises: stubs for data of other
    programs (BUFR, GRIB, HDF5, WMF), EPS and MPEG.
    """
    Image.init()
    add_plugins()
    return frozenset(ending for ending, kind in Image.registered_extensions().items() if _decoded(kind))


def _decoded(kind: str) -> bool:
    if kind in _NO_DECODER or kind not in Image.OPEN:
        return False
    opener = Image.OPEN[kind][0]
    return not (isinstance(opener, type) and issubclass(opener, ImageFile.StubImageFile))


def to_install(ending: str) -> str | None:
    """The package that would open files of an ending, None if none is known."""
    return _INSTALL.get(ending)


def what_it_is(head: bytes) -> str:
    """What a file that is no known picture seems to be, by its first bytes, and what to do."""
    if not head:
        return "it is empty (0 bytes); fetch it again"
    for sign, meaning in _SIGNS:
        if head.startswith(sign):
            return meaning
    if head[4:8] == b"ftyp":
        if head[8:12] in _HEIF:
            return "it is HEIF (.heic); `pip install pillow-heif` adds it"
        if head[8:12] in (b"avif", b"avis"):
            return "it is AVIF; `pip install 'Pillow>=11.3'` adds it"
        return "it seems to be a video; take a frame of it, as PNG or JPEG"
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(b"<"):
        if b"<svg" in start:
            return "it is SVG, a drawing; export it as PNG"
        return "it is a web page or XML; download the picture itself"
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head):
        return "it is text; give a picture file"
    return "its content is of no format that is known here; it is damaged, or save it as PNG or JPEG"
