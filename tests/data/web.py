"""A web server that misbehaves in known ways, and the table of its addresses."""

import io
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Lock
from typing import Any

import pyarrow as pa
from PIL import Image

from caft.data.crawl.manifest import Manifest
from caft.data.tables.schema import FIELDS, URLS
from caft.params.corpora import FetchParams

SETTINGS = FetchParams(
    processes=1,
    threads=8,
    timeout=2,
    timeout_total=20,
    most_bytes=1_000_000,
    retries=0,
    images_per_shard=12,
    image_size=32,
    quality=95,
    minimum_yield=0.5,
    second_pass=False,
)
GOOD = 34
# How many addresses of each kind of fault, and how the loss must be called.
FAULTS = {
    "missing": (3, "http_404"),
    "error": (2, "http_500"),
    "stall": (1, "timeout"),
    "short": (2, "cut_short"),
    "half": (1, "decode"),
    "html": (2, "decode"),
    "opt_out": (3, "opt_out"),
}


def colour(number: int, version: int = 0) -> tuple[int, int, int]:
    """A colour that tells pictures apart after JPEG."""
    return (number % 6) * 50, (number // 6) * 40, 40 * version


def picture(number: int, version: int = 0) -> bytes:
    """A picture of 100 x 50 pixels, or of 20 x 30 for every fifth number."""
    buffer = io.BytesIO()
    Image.new("RGB", (20, 30) if number % 5 == 0 else (100, 50), colour(number, version)).save(buffer, "PNG")
    return buffer.getvalue()


# Kinds of a larger crawl, of a hundred addresses, and how the server answers in the end: None is a picture.
CRAWL = {
    "good": (66, None),
    "redirect": (6, None),
    "missing": (6, "http_404"),
    "forbidden": (4, "http_403"),
    "busy": (3, "http_429"),
    "error": (3, "http_500"),
    "later": (3, None),  # 429 at first
    "flaky": (2, None),  # 500 at first
    "short": (2, "cut_short"),
    "half": (1, "decode"),
    "html": (2, "decode"),
    "opt_out": (2, "opt_out"),
}
STATUS = {"missing": 404, "forbidden": 403, "busy": 429, "error": 500, "later": 429, "flaky": 500}


@dataclass
class Web:
    """What the server does and has done; tests change it between requests.

    Attributes:
        address: Beginning of every address.
        version: Of the pictures; another one has other colours.
        delay: Seconds before each answer.
        slow: Seconds before each answer to a ``/slow/`` address, which is else as a ``/good/`` one.
        hang: While set, the first answer to each ``/good/`` address never ends: a byte now and then.
        restored: Kinds of faults that are none any more.
        requests: How often each path was asked for.
        answers: What the last answer to each path was, as the loss is called; None for a picture.
    """

    address: str = ""
    version: int = 0
    delay: float = 0.0
    slow: float = 0.0
    hang: bool = False
    restored: set[str] = field(default_factory=set)
    requests: Counter[str] = field(default_factory=Counter)
    answers: dict[str, str | None] = field(default_factory=dict)
    lock: Any = field(default_factory=Lock)

    def reset(self) -> None:
        self.version, self.delay, self.slow, self.hang = 0, 0.0, 0.0, False
        self.restored = set()
        self.requests.clear()
        self.answers.clear()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        kind, number = handler.path.strip("/").split("/")
        with self.lock:
            self.requests[handler.path] += 1
            is_first = self.requests[handler.path] == 1
            hanging = self.hang and is_first
            failing = kind in STATUS and (is_first or kind not in ("later", "flaky"))
            fault = FAULTS.get(kind, CRAWL.get(kind, (0, None)))[1]
            if kind in self.restored:
                kind, failing, fault = "good", False, None
            self.answers[handler.path] = f"http_{STATUS[kind]}" if failing else fault
        time.sleep(self.slow if kind == "slow" else self.delay)
        if failing:
            handler.send_error(STATUS[kind])
            return
        if kind == "redirect":
            handler.send_response(302)
            handler.send_header("Location", f"{self.address}/moved/{number}")
            handler.end_headers()
            return
        content = b"<html>gone</html>" if kind == "html" else picture(int(number), self.version)
        length = len(content)
        if kind == "short":
            length += 50
        elif kind == "half":
            content = content[:20] + bytes(length - 20)  # of the right length, so only the decoder can tell
        elif hanging:
            length *= 1000
        handler.send_response(200)
        if kind == "opt_out":
            handler.send_header("X-Robots-Tag", "noai, noimageai")
        handler.send_header("Content-Length", str(length))
        handler.end_headers()
        if kind == "stall":
            time.sleep(2 * SETTINGS.timeout)
        handler.wfile.write(content)
        while hanging and self.hang:
            time.sleep(SETTINGS.timeout / 4)  # so no single read of the client times out
            handler.wfile.write(b"x")


def crawl_table(web: Web, rows: int, without: tuple[str, ...] = ()) -> pa.Table:
    """A table of many addresses in the shares of `CRAWL`, and two that stall."""
    kinds = [kind for kind, (share, _) in CRAWL.items() if kind not in without for _ in range(share)]
    paths = [f"/{kinds[number % len(kinds)]}/{number}" for number in range(rows - 2)] + ["/stall/0", "/stall/1"]
    random.Random(4).shuffle(paths)
    columns: dict[str, list[Any]] = {"row_id": list(range(rows)), "url": [web.address + path for path in paths]}
    for name in FIELDS:
        columns[name] = [f"{name} of {path}" for path in paths]
    return pa.table(columns, schema=URLS)


def with_captions(rows: pa.Table) -> pa.Table:
    """The source stage's table of rows with row_id and url: each caption names its field and row."""
    columns: dict[str, list[Any]] = rows.select(["row_id", "url"]).to_pydict()
    for name in FIELDS:
        columns[name] = [f"{name} of row {row}." for row in columns["row_id"]]
    return pa.table(columns, schema=URLS)


def url_table(web: Web, order: list[int] | None = None) -> pa.Table:
    """The source stage's table of all addresses; `order` permutes which row has which address."""
    paths = [f"/good/{number}" for number in range(GOOD)]
    paths += [f"/{kind}/{number}" for kind, (count, _) in FAULTS.items() for number in range(count)]
    random.Random(3).shuffle(paths)
    if order is not None:
        paths = [paths[place] for place in order]
    columns: dict[str, list[Any]] = {
        "row_id": [10 * row for row in range(len(paths))],  # not the position, so that the two cannot be confused
        "url": [web.address + path for path in paths],
    }
    for name in FIELDS:
        columns[name] = [f"{name} of {path}, naïve “quoted”\nwords" for path in paths]
    columns["short_sv"][4] = None
    return pa.table(columns, schema=URLS)


@dataclass
class Fetched:
    """A fetch that nothing has disturbed; `seconds` is what it took on this machine, mostly img2dataset's start."""

    urls: Path
    folder: Path
    manifest: Manifest
    requests: Counter[str]
    seconds: float
