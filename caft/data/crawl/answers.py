"""How img2dataset's workers ask for a picture: as browsers do, and with an end to every answer.

By itself img2dataset bounds each read, so an answer of a byte a second, as a video stream gives it, never ends, and one that
is fast and endless fills the memory.
"""

from __future__ import annotations

import errno
import http.client
import io
import socket
import stat
import threading
import time
import urllib.request
import zlib
from pathlib import Path
from typing import Any

from img2dataset.downloader import is_disallowed

from caft.data.crawl.addresses import request_of
from caft.data.crawl.causes import NO_FILE, NO_HTTP, NOT_A_FILE, NOT_READABLE, TOO_LARGE, TOO_SLOW

AGENT = "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:72.0) Gecko/20100101 Firefox/72.0"  # img2dataset's
BLOCK = 1 << 16  # bytes read at a time
GZIP = b"\x1f\x8b"
# What the system says of names that cannot be those of a file.
NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL)


class Asking:
    """Takes the place of img2dataset's `download_image_with_retry`.

    Args:
        seconds: For the answers of all tries of one address together, redirects included.
        most: Bytes of an answer, also after it was decompressed.
    """

    def __init__(self, seconds: float, most: int) -> None:
        self._seconds, self._most = seconds, most

    def __call__(
        self,
        row: tuple[int, str],
        timeout: float,
        retries: int,
        user_agent_token: str | None,
        disallowed_header_directives: set[str] | None,
    ) -> tuple[int, io.BytesIO | None, str | None]:
        """Returns key, content and error message, as img2dataset's function does, of which one is None."""
        key, url = row
        message = None
        end = time.monotonic() + self._seconds
        for _ in range(retries + 1):
            with _Watch(end - time.monotonic()) as watch:
                try:
                    return (
                        key,
                        io.BytesIO(self._ask(url, timeout, user_agent_token, disallowed_header_directives)),
                        None,
                    )
                except _Refused as error:
                    return key, None, str(error)
                except (http.client.BadStatusLine, http.client.LineTooLong, http.client.UnknownProtocol) as error:
                    message = (
                        str(error) if isinstance(error, ConnectionError) else f"it {NO_HTTP} ({str(error)[:60]!r})"
                    )
                except (
                    Exception
                ) as error:  # as img2dataset does: whatever it is, it is a loss, and counted by its words
                    message = str(error) or type(error).__name__
            if watch.ended:
                return key, None, f"no whole answer within {self._seconds:g} seconds ({TOO_SLOW})"
        return key, None, message

    def _ask(self, url: str, timeout: float, token: str | None, directives: set[str] | None) -> bytes:
        agent = f"{AGENT} (compatible; {token}; +https://github.com/rom1504/img2dataset)" if token else AGENT
        request = request_of(url)
        request.add_header("User-Agent", agent)
        if request.type == "file":
            return self._own(Path(urllib.request.url2pathname(request.selector)))
        with _opener.open(request, timeout=timeout) as answer:
            if directives and is_disallowed(answer.headers, token, directives):
                raise _Refused("Use of image disallowed by X-Robots-Tag directive")
            content = self._read(answer)
            encodings = ",".join(answer.headers.get_all("Content-Encoding") or []).lower().split(",")
        for encoding in reversed(encodings):  # the last was put on last
            if encoding.strip() in ("gzip", "x-gzip", "deflate"):
                content = self._decompressed(content)
        return content

    def _own(self, path: Path) -> bytes:
        try:
            if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for without an end
                raise _Refused(f"{NOT_A_FILE}: {path}")
            with path.open("rb") as file:
                return self._read(file)
        except TimeoutError:
            raise
        except (OSError, ValueError) as error:
            missing = isinstance(error, ValueError) or error.errno in NOWHERE
            raise _Refused(f"{NO_FILE if missing else NOT_READABLE}: {path} ({error})") from error

    def _read(self, answer: Any) -> bytes:
        content = bytearray()
        while block := answer.read(BLOCK):
            content += block
            if len(content) > self._most:
                raise self._too_large()
            _thread.watch.go_on()
        _thread.watch.go_on()  # a socket that was shut reads as an answer's end, even within its headers
        if left := getattr(answer, "length", None):  # read in parts, an answer that was cut is no error
            raise http.client.IncompleteRead(bytes(content), left)
        return bytes(content)

    def _decompressed(self, content: bytes) -> bytes:
        found, left = bytearray(), content
        while True:
            try:
                stream = zlib.decompressobj(zlib.MAX_WBITS | 32)  # gzip or zlib, by its header
                found += stream.decompress(left, self._most + 1 - len(found))
            except zlib.error:
                try:
                    stream = zlib.decompressobj(-zlib.MAX_WBITS)  # as some servers understand "deflate"
                    found = bytearray(stream.decompress(content, self._most + 1))
                except zlib.error:
                    return content  # as it is, in spite of what the server says; the decoder will tell
            if len(found) > self._most:
                raise self._too_large()
            if not stream.eof:
                raise http.client.IncompleteRead(bytes(found))
            if not (left := stream.unused_data).startswith(GZIP):  # else the next member of several
                return bytes(found)
            _thread.watch.go_on()  # of many small members, each copies what is left

    def _too_large(self) -> _Refused:
        return _Refused(f"an answer of more than {self._most} bytes ({TOO_LARGE})")


class _Refused(Exception):
    """Not to be asked again."""


class _Watch:
    """Ends what its thread waits for once its seconds are over, by shutting the socket that the answer comes from."""

    def __init__(self, seconds: float) -> None:
        self.ended = False
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()
        self._timer = threading.Timer(max(0.0, seconds), self._end)
        self._timer.daemon = True

    def __enter__(self) -> _Watch:
        _thread.watch = self
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def take(self, connected: socket.socket) -> None:
        """From now on the answer comes from this socket."""
        with self._lock:
            self._socket = connected
        self.go_on()

    def go_on(self) -> None:
        """Raises TimeoutError if the seconds are over."""
        if self.ended:
            raise TimeoutError(TOO_SLOW)

    def _end(self) -> None:
        with self._lock:
            self.ended = True
            if self._socket is not None:
                try:
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # its thread reads the end, also below TLS
                except OSError:
                    pass  # closed already


_thread = threading.local()


class _Connection(http.client.HTTPConnection):
    def connect(self) -> None:
        super().connect()
        _thread.watch.take(self.sock)


class _SecureConnection(http.client.HTTPSConnection):
    def connect(self) -> None:
        super().connect()
        _thread.watch.take(self.sock)


class _Handler(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(_Connection, req)


class _SecureHandler(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(_SecureConnection, req)


def _opened() -> urllib.request.OpenerDirector:
    """Opens the web's addresses; none else, as what no watch holds may go on for ever: hosts redirect to FTP, too."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        *(urllib.request.ProxyHandler, _Handler, _SecureHandler),
        *(urllib.request.HTTPRedirectHandler, urllib.request.HTTPDefaultErrorHandler),
        *(urllib.request.HTTPErrorProcessor, urllib.request.UnknownHandler),
    ):
        opener.add_handler(handler())
    return opener


_opener = _opened()
