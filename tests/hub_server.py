"""A model hub on this machine: the routes that huggingface_hub asks, over repositories in memory, and its failures."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

LARGE = 1000  # bytes from which a file is stored apart, by Git LFS


@dataclass
class Hub:
    """What the server holds and does.

    Attributes:
        repositories: Content of files by name, of revisions by name, of repositories by name.
        private: Repositories that were made so.
        refuse: Status and error code with which requests are answered whose path matches a pattern.
        served: Content of files by name that is sent in place of their own.
        ignored: Files that a `.gitignore` keeps out.
        stall: Bytes of large files after which their answer waits for `resume`.
        asked: Method and path of each request.
        sent: Lines of each commit, as the client sent them.
        large: Content that came by Git LFS, by its sha256.
        url: Where it listens.
    """

    repositories: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    refuse: dict[str, tuple[int, str]] = field(default_factory=dict)
    served: dict[str, bytes] = field(default_factory=dict)
    ignored: set[str] = field(default_factory=set)
    stall: int | None = None
    stalled: threading.Event = field(default_factory=threading.Event)
    resume: threading.Event = field(default_factory=threading.Event)
    asked: list[str] = field(default_factory=list)
    sent: list[list[dict]] = field(default_factory=list)
    large: dict[str, bytes] = field(default_factory=dict)
    url: str = ""

    def commit(self, repository: str, revision: str) -> str:
        """A commit's name, of what is in it."""
        held = self.repositories[repository][revision]
        return hashlib.sha1(b"".join(n.encode() + c for n, c in sorted(held.items()))).hexdigest()


@contextmanager
def serving() -> Iterator[Hub]:
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing is printed."""

    def do_HEAD(self) -> None:
        self._answered()

    do_GET = do_POST = do_PUT = do_HEAD

    def _answered(self) -> None:
        path = unquote(self.path.partition("?")[0])
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.asked.append(f"{self.command} {path}")
        for pattern, (status, code) in self.hub.refuse.items():
            if re.search(pattern, f"{self.command} {path}"):
                return self._send(status, {"error": code}, {"X-Error-Code": code} if code else {})
        for method, pattern, answer in _ROUTES:
            if (self.command, bool(found := re.fullmatch(pattern, path))) == (method, True):
                return getattr(self, answer)(body, *found.groups())
        return self._send(404, {"error": f"no route {self.command} {path}"})

    def _send(self, status: int, content: object, headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        given = {"Content-Length": str(len(body)), **(headers or {})}
        for name, value in given.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.hub.stall is not None and "ETag" in given and len(body) >= self.hub.stall:
            self.wfile.write(body[: self.hub.stall])
            self.hub.stalled.set()
            self.hub.resume.wait(300)
            self.close_connection = True
            return
        self.wfile.write(body)

    def _found(self, repository: str, revision: str) -> str | None:
        """The revision's name; what is not there has been answered."""
        held = self.hub.repositories.get(repository)
        if held is None:
            self._send(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
            return None
        for name in held:
            if revision in (name, self.hub.commit(repository, name)):
                return name
        self._send(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
        return None

    # ---- reading

    def info(self, body: bytes, repository: str, revision: str | None = None) -> None:
        if (name := self._found(repository, revision or "main")) is not None:
            siblings = [{"rfilename": file} for file in self.hub.repositories[repository][name]]
            self._send(200, {"id": repository, "sha": self.hub.commit(repository, name), "siblings": siblings})

    def tree(self, body: bytes, repository: str, revision: str) -> None:
        if (name := self._found(repository, revision)) is not None:
            held = self.hub.repositories[repository][name]
            self._send(200, [_entry(file, content) for file, content in held.items()])

    def file(self, body: bytes, repository: str, revision: str, file: str) -> None:
        if (name := self._found(repository, revision)) is None:
            return
        content = self.hub.repositories[repository][name].get(file)
        commit = {"X-Repo-Commit": self.hub.commit(repository, name)}
        if content is None:
            self._send(404, {"error": "Entry not found"}, {**commit, "X-Error-Code": "EntryNotFound"})
            return
        headers = {**commit, "ETag": f'"{hashlib.sha256(content).hexdigest()}"', "Accept-Ranges": "bytes"}
        content = self.hub.served.get(file, content)
        start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if start and int(start[1]):
            first, total = int(start[1]), len(content)
            headers["Content-Range"] = f"bytes {first}-{total - 1}/{total}"
            self._send(206, content[first:], headers)
        else:
            self._send(200, content, headers)

    # ---- writing

    def create(self, body: bytes) -> None:
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else f"me/{asked['name']}"
        if name in self.hub.repositories:
            self._send(409, {"error": "You already created this model repo", "url": f"{self.hub.url}/{name}"})
            return
        self.hub.repositories[name] = {"main": {".gitattributes": b"*.safetensors filter=lfs\n"}}
        if asked.get("private") or asked.get("visibility") == "private":
            self.hub.private.add(name)
        self._send(200, {"url": f"{self.hub.url}/{name}"})

    def me(self, body: bytes) -> None:
        self._send(200, {"type": "user", "name": "me", "orgs": []})

    def page(self, body: bytes) -> None:
        self._send(200, {"errors": [], "warnings": []})

    def preupload(self, body: bytes, repository: str, revision: str) -> None:
        if self._found(repository, revision) is not None:
            asked = json.loads(body)["files"]
            modes = [
                {"path": f["path"], "uploadMode": "lfs" if f["size"] >= LARGE else "regular"}
                | {"shouldIgnore": f["path"] in self.hub.ignored}
                for f in asked
            ]
            self._send(200, {"files": modes})

    def large_files(self, body: bytes, repository: str) -> None:
        objects = [
            {
                **{key: one[key] for key in ("oid", "size")},
                "actions": {"upload": {"href": f"{self.hub.url}/upload/{one['oid']}", "header": {}}},
            }
            for one in json.loads(body)["objects"]
        ]
        self._send(200, {"transfer": "basic", "objects": objects})

    def upload(self, body: bytes, oid: str) -> None:
        self.hub.large[oid] = body
        self._send(200, b"")

    def send_commit(self, body: bytes, repository: str, revision: str) -> None:
        if self._found(repository, revision) is None:
            return
        lines = [json.loads(line) for line in body.splitlines() if line.strip()]
        self.hub.sent.append(lines)
        held = self.hub.repositories[repository][revision]
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                held[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                held[value["path"]] = self.hub.large[value["oid"]]
        oid = self.hub.commit(repository, revision)
        self._send(200, {"commitUrl": f"{self.hub.url}/{repository}/commit/{oid}", "commitOid": oid})


def _entry(file: str, content: bytes) -> dict[str, object]:
    entry = {"type": "file", "path": file, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
    if len(content) < LARGE:
        return entry
    sha = hashlib.sha256(content).hexdigest()
    return {**entry, "lfs": {"oid": sha, "size": len(content), "pointerSize": 130}}


_REPOSITORY = r"([^/]+/[^/]+)"
_REVISION = r"(refs/pr/\d+|[^/]+)"
_ROUTES = (
    ("GET", rf"/api/models/{_REPOSITORY}", "info"),
    ("GET", rf"/api/models/{_REPOSITORY}/revision/(.+)", "info"),
    ("GET", rf"/api/models/{_REPOSITORY}/tree/(.+)", "tree"),
    ("HEAD", rf"/{_REPOSITORY}/resolve/{_REVISION}/(.+)", "file"),
    ("GET", rf"/{_REPOSITORY}/resolve/{_REVISION}/(.+)", "file"),
    ("GET", r"/api/whoami-v2", "me"),
    ("POST", r"/api/repos/create", "create"),
    ("POST", r"/api/validate-yaml", "page"),
    ("POST", rf"/api/models/{_REPOSITORY}/preupload/(.+)", "preupload"),
    ("POST", rf"/{_REPOSITORY}\.git/info/lfs/objects/batch", "large_files"),
    ("PUT", r"/upload/(\w+)", "upload"),
    ("POST", rf"/api/models/{_REPOSITORY}/commit/(.+)", "send_commit"),
)
