"""A page on loopback: one file to whoever asks this machine by its own name, and nothing else."""

import errno
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from caft.errors import CaftError

ADDRESS = "127.0.0.1"
_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",  # it holds pictures of the user
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "frame-ancestors 'none'",  # the rest is in the page
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class PageServer(ThreadingHTTPServer):
    """Serves a page at `/` until it is closed; use as a context.

    Requests under another name than loopback's are refused: a page of the web whose name is made to lead here (DNS
    rebinding) could read what is served.

    Args:
        port: 0 takes a free one. It is had from now on; who asks waits until `serve`.

    Raises:
        CaftError: The port cannot be had.
    """

    daemon_threads = True

    def __init__(self, port: int) -> None:
        self.page = b""
        try:
            super().__init__((ADDRESS, port), _Handler)
        except OSError as error:
            why = (
                "is taken by another program"
                if error.errno == errno.EADDRINUSE
                else f"cannot be had ({error.strerror})"
            )
            raise CaftError(f"--port {port}: {why}; give another, or leave it out for a free one") from None
        self.hosts = {f"{name}:{self.server_port}" for name in (ADDRESS, "localhost")}
        if self.server_port == 80:
            self.hosts |= {ADDRESS, "localhost"}

    def serve(self, page: str) -> None:
        """Answers with a page until Ctrl-C."""
        self.page = page.encode()
        self.serve_forever()

    def handle_error(self, *asked: Any) -> None:
        """Says nothing of a browser that leaves before it has the whole page."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(*asked)

    @property
    def address(self) -> str:
        """Where a browser finds the page."""
        return f"http://{ADDRESS}:{self.server_port}/"


class _Handler(BaseHTTPRequestHandler):
    server: PageServer

    def do_GET(self) -> None:
        """Answers with the page."""
        if self.headers.get("Host", "").lower() not in self.server.hosts:
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
        elif self.path != "/":
            self._refuse()
        else:
            self.send_response(HTTPStatus.OK)
            for name, value in {**_HEADERS, "Content-Length": str(len(self.server.page))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(self.server.page)

    def _refuse(self) -> None:
        self.send_error(HTTPStatus.NOT_FOUND)

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _refuse

    def version_string(self) -> str:
        """Names no versions."""
        return "caft"

    def log_message(self, *_: object) -> None:
        """Says nothing: the one who asks is the one who sees."""
