"""Addresses of pictures, spelled as browsers send them."""

from __future__ import annotations

import base64
import re
import unicodedata
import urllib.request
from urllib.parse import quote, unquote

# What stays as it is: what browsers leave in a path, and in a query. A percent sign is taken for an escape that is there.
IN_PATH = "%/:@!$&'()*+,;=~[]|^"
IN_QUERY = IN_PATH + "?`{}\\"
_WEB = re.compile(r"(https?):[/\\]*", re.IGNORECASE)  # browsers mind no slash too many or too few
_UNSEEN = re.compile("[\u00ad\u200b\u2060\ufeff\ufe00-\ufe0f]")
_NO_HOST = re.compile(r"[\x00-\x20\x7f#/<>?@\\^|%]")


def request_of(url: str) -> urllib.request.Request:
    """Asks for an address as it is `spelled`; a name and password in it are for that host alone, whoever it sends to.

    Raises:
        ValueError: It is no address.
    """
    url = spelled(url)
    secret, at, _ = url.partition("//")[2].partition("/")[0].rpartition("@")
    if not at or not _WEB.match(url):
        return urllib.request.Request(url)
    request = urllib.request.Request(url.replace(secret + at, "", 1))
    name, _, password = unquote(secret).partition(":")
    coded = base64.b64encode(f"{name}:{password}".encode()).decode()
    request.add_unredirected_header("Authorization", f"Basic {coded}")
    return request


def spelled(url: str) -> str:
    """An address as browsers send it: blanks and letters beyond ASCII percent-encoded, a host's name in Punycode.

    Raises:
        ValueError: It is no address.
    """
    written = re.sub(r"[\t\r\n]", "", url.strip()).partition("#")[0]
    if not (found := _WEB.match(written)):
        return url
    address, mark, query = written[found.end() :].partition("?")
    place, slash, path = address.replace("\\", "/").partition("/")
    user, at, host = place.rpartition("@")
    path = _without_dots(quote(slash + path or "/", safe=IN_PATH))
    return f"{found[1].lower()}://{quote(user, safe=IN_PATH)}{at}{_host(host)}{path}{mark}{quote(query, safe=IN_QUERY)}"


def _host(host: str) -> str:
    """A host's name as name servers know it: by UTS #46, for which ß is a letter of its own, as it is for browsers."""
    if host.isascii() and "%" not in host:
        return host
    name, colon, port = unquote(host, errors="strict").partition(":")
    name = unicodedata.normalize("NFKC", _UNSEEN.sub("", name)).replace("。", ".").lower()
    labels = [label if label.isascii() else f"xn--{label.encode('punycode').decode()}" for label in name.split(".")]
    if _NO_HOST.search(name) or max(map(len, labels)) > 63:
        raise ValueError(f"no netloc: {host[:60]!r}")
    return ".".join(labels) + colon + port


def _without_dots(path: str) -> str:
    """A path without the parts `.` and `..`, which tell a place by another."""
    result: list[str] = []
    parts = path.split("/")[1:]
    for place, part in enumerate(parts, start=1):
        plain = part.lower().replace("%2e", ".")
        if plain not in (".", ".."):
            result.append(part)
            continue
        if plain == ".." and result:
            result.pop()
        if place == len(parts):
            result.append("")
    return "/" + "/".join(result)
