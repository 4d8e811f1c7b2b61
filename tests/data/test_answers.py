"""Answers that never end, are huge or compressed, and addresses that only browsers open: each is a picture or its cause."""

import gzip
import hashlib
import io
import os
import socket
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from caft.data.crawl.addresses import request_of, spelled
from caft.data.crawl.answers import Asking
from caft.data.crawl.causes import cause_of
from caft.data.crawl.fetch import fetch_images
from caft.params import load_params
from pipelines.fetch import warn_of_repeats
from tests.data.test_fetch import images_of, rows_of
from tests.data.web import SETTINGS, colour, with_captions

TOTAL, MOST = 5, 200_000
UNAVAILABLE = 35  # the number of a picture that a host shows for those that are gone
HELD = "/held/0/p.jpg"
SPELLINGS = {"ü.jpg": "%C3%BC.jpg", "a b.jpg": "a%20b.jpg", "100%.jpg": "100%.jpg", "%C3%A4.jpg": "%C3%A4.jpg"}


def jpeg(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), colour(number)).save(buffer, "JPEG")
    return buffer.getvalue()


class Host(ThreadingHTTPServer):
    """Answers `/KIND/NUMBER/...` as its kind says; counts requests by path as sent, and bytes sent by kind."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.requests: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.lock = Lock()
        self.first = self.last = 0.0  # when the first request came and the last answer ended
        self.elsewhere = ""
        self.address = f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    server: Host

    def do_GET(self) -> None:
        _, kind, number, *_ = self.path.split("/")
        with self.server.lock:
            self.server.requests[self.path] += 1
            self.server.first = self.server.first or time.monotonic()
        try:
            self._answer(kind, int(number))
        except ConnectionError:
            pass  # the client has had enough
        self.server.last = time.monotonic()

    def _answer(self, kind: str, number: int) -> None:
        content, headers = jpeg(number % UNAVAILABLE), {}
        if kind == "gzip":
            content, headers = gzip.compress(content), {"Content-Encoding": "gzip"}
        elif kind == "members":  # each a gzip of its own, as a server writes that compresses block by block
            content = b"".join(gzip.compress(content[at : at + 100]) for at in range(0, len(content), 100))
            headers = {"Content-Encoding": "gzip"}
        elif kind == "members_cut":
            content, headers = (
                gzip.compress(content[:300]) + gzip.compress(content[300:])[:-9],
                {"Content-Encoding": "gzip"},
            )
        elif kind == "members_huge":
            content, headers = gzip.compress(bytes(MOST // 2)) * 3, {"Content-Encoding": "gzip"}
        elif kind == "padded":
            content, headers = gzip.compress(content) + bytes(100), {"Content-Encoding": "gzip"}
        elif kind == "deflate":
            content, headers = zlib.compress(content), {"Content-Encoding": "deflate"}
        elif kind == "bomb":
            content, headers = gzip.compress(bytes(100 * MOST)), {"Content-Encoding": "gzip"}
        elif kind in ("gone", "held"):
            content = jpeg(UNAVAILABLE)  # with status 200
        elif kind == "page":
            content = b"<html>gone</html>"
        elif kind == "late":
            time.sleep(SETTINGS.timeout + 1)
        elif kind in ("missing", "forbidden"):
            self.send_error(404 if kind == "missing" else 403)
            return
        elif kind == "radio":
            self.wfile.write(b"ICY 200 OK\r\n\r\n" + content)
            return
        elif kind == "mislabelled":
            headers = {"Content-Encoding": "gzip"}
        elif kind == "drip_header":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while True:
                self._send(kind, b"x")
                time.sleep(0.3)
        elif kind in ("elsewhere", "moved", "circle"):
            self.send_response(302)
            place = {"elsewhere": self.server.elsewhere, "moved": HELD, "circle": self.path}[kind]
            self.send_header("Location", place)
            self.end_headers()
            return
        elif kind == "loop":
            time.sleep(0.5)
            self.send_response(302)
            self.send_header("Location", f"/loop/{number}/{time.monotonic_ns()}")
            self.end_headers()
            return
        self.send_response(200)
        for name, value in headers.items():
            self.send_header(name, value)
        if kind in ("huge", "cut"):
            self.send_header("Content-Length", str(10**9))
        if kind in ("chunked", "endless_parts"):
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while kind == "endless_parts":
            self._send(kind, b"ffff\r\n" + bytes(0xFFFF) + b"\r\n")
        if kind == "chunked":
            half = len(content) // 2
            content = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (content[:half], content[half:], b""))
        if kind in ("endless", "huge"):
            while True:
                self._send(kind, bytes(1 << 16))
        if kind == "drip":
            while True:
                self._send(kind, b"\xff")
                time.sleep(0.3)
        self._send(kind, content)

    def _send(self, kind: str, content: bytes) -> None:
        self.wfile.write(content)
        with self.server.lock:
            self.server.sent[kind] += len(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def host() -> Iterator[Host]:
    server = Host()
    Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def fetched_from(tmp_path: Path, addresses: list[str], home: Path | None = None, **changes: object):  # type: ignore[no-untyped-def]
    """Fetches addresses; the manifest, and the middle pixel of each that came."""
    urls = with_captions(pa.table({"row_id": list(range(len(addresses))), "url": addresses}))
    pq.write_table(urls, tmp_path / "urls.parquet")
    update = {"images_per_shard": 1000, "timeout_total": TOTAL, "most_bytes": MOST, "minimum_yield": 0.0, "retries": 1}
    settings = SETTINGS.model_copy(update=update | {"threads": 32} | changes)
    folder = tmp_path / "images"
    manifest = fetch_images("web", tmp_path / "urls.parquet", folder, settings, nullcontext(), home)
    pixels = {}
    for name, rows in rows_of(folder).items():
        images = images_of(folder, name)
        pixels |= {row["url"]: images[str(row["key"])].getpixel((20, 15)) for row in rows}
    return manifest, pixels


# How many of 500 addresses are of each kind, and the cause by which each is lost; None: a picture.
CRAWL = {
    **{
        "good": (300, None),
        "gzip": (20, None),
        "deflate": (20, None),
        "mislabelled": (10, None),
        "chunked": (20, None),
    },
    **{"gone": (20, None), "moved": (15, None)},  # "photo unavailable", at once or by a redirect to it
    **{"drip": (10, "too_slow"), "drip_header": (6, "too_slow"), "loop": (4, "too_slow"), "late": (5, "timeout")},
    **{
        "endless": (8, "too_large"),
        "huge": (8, "too_large"),
        "bomb": (6, "too_large"),
        "endless_parts": (4, "too_large"),
    },
    **{"missing": (15, "http_404"), "forbidden": (10, "http_403"), "circle": (4, "http_302"), "cut": (6, "cut_short")},
    **{"page": (5, "decode"), "radio": (4, "bad_answer")},
}


@pytest.mark.slow
def test_no_answer_of_a_host_holds_a_corpus_up_and_each_is_counted_by_what_it_did(host: Host, tmp_path: Path) -> None:
    paths = [f"/{kind}/{number}/p.jpg" for kind, (count, _) in CRAWL.items() for number in range(count)]
    addresses = [host.address + paths[place] for place in np.random.default_rng(8).permutation(500)]
    manifest, pixels = fetched_from(tmp_path, addresses, threads=96, retries=0)
    lost: Counter[str] = Counter()
    for count, cause in CRAWL.values():
        if cause:
            lost[cause] += count
    assert manifest.lost == dict(lost)
    assert manifest.rows == 500 and manifest.successes == len(pixels) == 500 - sum(lost.values())
    for url, pixel in pixels.items():
        kind, number = url.split("/")[3:5]
        shown = UNAVAILABLE if kind in ("gone", "moved") else int(number) % UNAVAILABLE
        assert np.abs(np.subtract(pixel, colour(shown))).max() < 12, url
    copies = Counter(row["sha256"] for rows in rows_of(tmp_path / "images").values() for row in rows)
    assert copies[hashlib.sha256(jpeg(UNAVAILABLE)).hexdigest()] == 35
    assert host.last - host.first < 2 * TOTAL
    # Loopback's buffers hold some megabytes; none of these was asked for again, nor was a whole gigabyte read.
    assert host.sent["endless"] + host.sent["huge"] + host.sent["endless_parts"] < 20 * 20_000_000
    asked = {path: count for path, count in host.requests.items() if path.split("/")[1] != "circle"}
    assert set(asked.values()) == {1, 15} and [path for path in asked if asked[path] > 1] == [HELD]


@pytest.mark.slow
def test_addresses_that_a_browser_opens_are_asked_for_as_a_browser_does_and_rows_keep_theirs(
    host: Host, tmp_path: Path
) -> None:
    addresses = {f"{host.address}/good/{number}/{name}": name for number, name in enumerate(SPELLINGS)}
    odd = f" {host.address}/good/7/x\ty.jpg?q=ä b&c=%20#part"
    manifest, pixels = fetched_from(tmp_path, [*addresses, odd])
    assert (manifest.successes, manifest.lost) == (5, {})
    assert set(pixels) == {*addresses, odd}
    expected = {f"/good/{number}/{sent}" for number, sent in enumerate(SPELLINGS.values())}
    assert set(host.requests) == expected | {"/good/7/xy.jpg?q=%C3%A4%20b&c=%20"}


@pytest.mark.slow
def test_a_folder_a_pipe_and_a_huge_file_in_the_place_of_a_picture_are_losses(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "folder.jpg").mkdir(parents=True)
    os.mkfifo(home / "pipe.jpg")
    (home / "good.jpg").write_bytes(jpeg(3))
    (home / "huge.jpg").write_bytes(jpeg(3) + bytes(MOST))
    names = ["folder.jpg", "pipe.jpg", "good.jpg", "huge.jpg", "gone.jpg"]
    manifest, pixels = fetched_from(tmp_path, [f"file:{name}" for name in names], home)
    assert manifest.lost == {"no_file": 1, "not_a_file": 2, "too_large": 1} and set(pixels) == {"file:good.jpg"}


@pytest.mark.slow
def test_one_picture_for_many_addresses_is_warned_of(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    params = load_params("params.yaml")
    monkeypatch.setenv("CAFT_STORAGE", str(tmp_path))
    addresses = [f"{host.address}/{'gone' if number < 5 else 'good'}/{number}/p.jpg" for number in range(9)]
    manifest, _ = fetched_from(tmp_path, addresses)
    (tmp_path / "images").rename(tmp_path / "cc3m")
    (tmp_path / "images").mkdir()
    (tmp_path / "cc3m").rename(tmp_path / "images/cc3m")
    warn_of_repeats(params, "cc3m")
    digest = hashlib.sha256(jpeg(UNAVAILABLE)).hexdigest()[:12]
    found = f"cc3m: 1 pictures came for more than 3 addresses each, 5 images in all; the most frequent for 5 (SHA-256 {digest})"
    assert found in caplog.text and "data.repeated_images: drop_above 3" in caplog.text


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("http://host/plain/%41.jpg?a=1&b=%2F", "http://host/plain/%41.jpg?a=1&b=%2F"),
        ("https://host/ü b.jpg", "https://host/%C3%BC%20b.jpg"),
        ("http://bücher.example:8080/x", "http://xn--bcher-kva.example:8080/x"),
        ('http://host/a"<>`{}.jpg', "http://host/a%22%3C%3E%60%7B%7D.jpg"),
        ("http://host/a'[1]|^.jpg", "http://host/a'[1]|^.jpg"),
        ("http://host?q=日本", "http://host/?q=%E6%97%A5%E6%9C%AC"),
        ("http://host\\folder\\a.jpg", "http://host/folder/a.jpg"),
        ("HTTP://Host/A.jpg#top", "http://Host/A.jpg"),
        ("http:/host/a.jpg", "http://host/a.jpg"),
        ("https:///host/a.jpg", "https://host/a.jpg"),
        ("http:\\\\host\\a.jpg", "http://host/a.jpg"),
        ("http://host/x/./y/../a%2E.jpg", "http://host/x/a%2E.jpg"),
        ("http://host/../../a/%2e%2E/", "http://host/"),
        ("http://host//a//b.jpg", "http://host//a//b.jpg"),
        ("http://straße.example/ß", "http://xn--strae-oqa.example/%C3%9F"),  # IDNA 2003 would ask strasse.example
        ("http://日本語。example/x", "http://xn--wgv71a119e.example/x"),
        ("http://ＦＵＬＬ．example/x", "http://full.example/x"),
        ("http://☃.example/x", "http://xn--n3h.example/x"),
        ("http://soft\u00adhyphen.example/x", "http://softhyphen.example/x"),
        ("http://%68ost/x", "http://host/x"),
        ("http://a_b.example/x", "http://a_b.example/x"),
        (" http://ho\nst/a\tb.jpg\n", "http://host/ab.jpg"),
        ("http://me:pä@host/x@y", "http://me:p%C3%A4@host/x@y"),
        ("file:a b.jpg", "file:a b.jpg"),
    ],
)
def test_addresses_are_spelled_as_browsers_do(written: str, sent: str) -> None:
    assert spelled(written) == sent
    assert spelled(sent) == sent


NO_ADDRESSES = [
    *("http://[::1/x.jpg", f"http://{'ä' * 80}.example/x.jpg", "http://host:port/x.jpg", "ttp://x", "http://", "x.jpg"),
    *("http://a b/x.jpg", "http://a\x00b/x.jpg", "http://a%2Fb/x.jpg", "http://a..b/x.jpg", "http://h/\udc80.jpg"),
]


@pytest.mark.parametrize("url", NO_ADDRESSES, ids=ascii)
def test_what_is_no_address_is_an_error_in_words(url: str) -> None:
    key, content, message = Asking(TOTAL, MOST)((5, url), 2, 0, None, None)
    assert (key, content) == (5, None) and cause_of("failed_to_download", message) == "bad_url"


def test_a_password_in_an_address_is_sent_to_that_host_alone() -> None:
    request = request_of("https://me:p%C3%A4@host/x@y.jpg")
    assert request.full_url == "https://host/x@y.jpg" and request.headers == {}
    assert request.unredirected_hdrs == {"Authorization": "Basic bWU6cMOk"}  # base64 of "me:pä"


@pytest.mark.parametrize(
    ("kind", "cause"),
    [("members", None), ("padded", None), ("members_cut", "cut_short"), ("members_huge", "too_large")],
)
def test_a_body_of_several_gzip_members_is_unpacked_to_its_end(host: Host, kind: str, cause: str | None) -> None:
    _, content, message = Asking(TOTAL, MOST)((5, f"{host.address}/{kind}/7/p.jpg"), 2, 0, None, None)
    if cause is None:
        assert content is not None and content.read() == jpeg(7)
    else:
        assert content is None and cause_of("failed_to_download", message) == cause


def raw_deflate(content: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush()


HEAD = b"HTTP/1.1 200 OK\r\n"
PARTS = b"Transfer-Encoding: chunked\r\n\r\n"
WHOLE = jpeg(7)
RAW = {
    "parts": (HEAD + PARTS + b"%x\r\n%s\r\n0\r\n\r\n" % (len(WHOLE), WHOLE), None),
    "raw deflate": (HEAD + b"Content-Encoding: deflate\r\n\r\n" + raw_deflate(WHOLE), None),
    "twice": (HEAD + b"Content-Encoding: gzip, GZIP\r\n\r\n" + gzip.compress(gzip.compress(WHOLE)), None),
    "two headers": (
        HEAD + b"Content-Encoding: deflate\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(zlib.compress(WHOLE)),
        None,
    ),
    "identity": (HEAD + b"Content-Encoding: identity\r\n\r\n" + WHOLE, None),
    "length that is none": (HEAD + b"Content-Length: many\r\n\r\n" + WHOLE, None),
    "longer than it is": (HEAD + b"Content-Length: 99999\r\n\r\n" + WHOLE, "cut_short"),
    "parts that are cut": (HEAD + PARTS + b"fff\r\n" + WHOLE, "cut_short"),
    "parts of no length": (HEAD + PARTS + b"-5\r\n" + WHOLE, "bad_answer"),
    "no header": (WHOLE, "bad_answer"),
    "of another service": (b"SSH-2.0-OpenSSH_9.6\r\n", "bad_answer"),
    "of TLS": (b"\x15\x03\x01\x00\x02\x02\n", "bad_answer"),
    "of a radio": (b"ICY 200 OK\r\n\r\n" + WHOLE, "bad_answer"),
    "of a later kind": (b"HTTP/3.0 200 OK\r\n\r\n" + WHOLE, "bad_answer"),
    "a long header": (HEAD + b"X: " + b"x" * 70_000 + b"\r\n\r\n" + WHOLE, "bad_answer"),
    "many headers": (HEAD + b"X: x\r\n" * 200 + b"\r\n" + WHOLE, "bad_answer"),
    "nothing": (b"", "unreachable"),
    "no such code": (b"HTTP/1.1 999 Denied\r\n\r\n", "http_999"),
    "to itself": (b"HTTP/1.1 302 Found\r\nLocation: /x.jpg\r\n\r\n", "http_302"),
    "to nowhere": (b"HTTP/1.1 302 Found\r\nLocation: http://[::1/x.jpg\r\n\r\n", "bad_url"),
}


@contextmanager
def talking(talk: Callable[[socket.socket], None]) -> Iterator[socket.socket]:
    """A server on loopback that talks to one client after another."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while server.fileno() >= 0:
            with suppress(OSError):  # the client has gone, or the server is closed
                client, _ = server.accept()
                with client:
                    talk(client)

    Thread(target=serve, daemon=True).start()
    try:
        yield server
    finally:
        server.close()


@pytest.mark.parametrize("kind", RAW)
def test_each_odd_answer_is_a_picture_or_its_cause(kind: str) -> None:
    answer, cause = RAW[kind]

    def answers(client: socket.socket) -> None:
        client.recv(1 << 16)
        client.sendall(answer)
        client.shutdown(socket.SHUT_WR)
        client.recv(1)

    with talking(answers) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/x.jpg"
        _, content, message = Asking(TOTAL, MOST)((5, address), 2, 0, None, None)
        if kind == "of TLS":  # and the other way round
            _, secure, refused = Asking(TOTAL, MOST)((5, address.replace("http", "https")), 2, 0, None, None)
            assert secure is None and cause_of("failed_to_download", refused) == "unreachable"
    if cause is None:
        assert content is not None and content.read() == WHOLE
    else:
        assert content is None and cause_of("failed_to_download", message) == cause


@pytest.fixture
def dripping() -> Iterator[socket.socket]:
    """Greets as an FTP server whose greeting takes far longer than an answer may."""

    def greets(client: socket.socket) -> None:
        for _ in range(40):
            client.sendall(b"220-wait\r\n")
            time.sleep(0.2)

    with talking(greets) as server:
        yield server


def test_nothing_but_the_web_is_asked_not_even_if_a_host_says_so(host: Host, dripping: socket.socket) -> None:
    host.elsewhere = f"ftp://127.0.0.1:{dripping.getsockname()[1]}/p.jpg"
    ask, begun = Asking(1, MOST), time.monotonic()
    for url in (host.elsewhere, f"{host.address}/elsewhere/1/p.jpg"):
        _, content, message = ask((5, url), 2, 0, None, None)
        assert content is None and cause_of("failed_to_download", message) == "bad_url"
    for local in ("file:///etc/hostname", "data:image/png;base64,iVBORw0KGgo="):
        host.elsewhere = local
        _, content, message = ask((5, f"{host.address}/elsewhere/1/p.jpg"), 2, 0, None, None)
        assert content is None and cause_of("failed_to_download", message) == "http_302"
    assert time.monotonic() - begun < 3
