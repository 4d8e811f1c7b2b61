"""Why a row has no image: from what img2dataset and its workers here say to the names that manifests count."""

import re

MESSAGE_LENGTH = 60  # characters of an unknown message that are kept as the cause
# What the workers here say; see `caft.data.crawl.seen` and `answers`.
OTHER_KIND = "is of a kind that OpenCV opens and Pillow does not"
TOO_SLOW = "fetch.timeout_total"
TOO_LARGE = "fetch.most_bytes"
NO_FILE = "names no file"
NOT_A_FILE = "is no file"
NOT_READABLE = "cannot be read"
NOT_PACKED = "not_packed"  # a status of its own, where no tar holds a row's image
NO_HTTP = "is no answer by HTTP"

# How messages about own files begin, in which a path may say anything.
OWN = {NO_FILE: "no_file", NOT_A_FILE: "not_a_file", NOT_READABLE: "not_readable"}
# First match wins; messages as Python's urllib and img2dataset word them.
CAUSES = (
    (re.compile(r"X-Robots-Tag"), "opt_out"),
    (re.compile(re.escape(TOO_SLOW)), "too_slow"),
    (re.compile(re.escape(TOO_LARGE)), "too_large"),
    (re.compile(r"timed out|handshake operation timed"), "timeout"),
    (re.compile(r"IncompleteRead"), "cut_short"),
    (re.compile(rf"{NO_HTTP}|got more than \d+ headers|read length must be"), "bad_answer"),
    (re.compile(r"\[Errno 2\]"), "no_file"),
    (re.compile(rf"{NOT_A_FILE}$"), "not_a_file"),  # as folders of before have it
    (
        re.compile(
            r"unknown url type|no host given|nonnumeric port|Invalid IPv6|netloc|codec can't encode|label|"
            r"URL can't contain control"
        ),
        "bad_url",
    ),
    (re.compile(r"urlopen error|Connection|Remote end closed|\[Errno"), "unreachable"),
)
HTTP_STATUS = re.compile(r"HTTP Error (\d{3})")


def cause_of(status: str, message: str | None) -> str:
    """Returns why a row has no image, from img2dataset's status and error message.

    One of ``http_<code>``, ``timeout``, ``too_slow``, ``too_large``, ``decode``, ``other_kind``, ``opt_out``, ``cut_short``,
    ``bad_answer``, ``no_file``, ``not_a_file``, ``not_readable``, ``not_packed``, ``bad_url``, ``unreachable`` or
    ``other:<message>`` with digits masked, so that messages differing in numbers are counted together.
    """
    if status == NOT_PACKED:
        return NOT_PACKED
    if status == "failed_to_resize":
        return "other_kind" if OTHER_KIND in (message or "") else "decode"
    text = message or "no message"
    for words, cause in OWN.items():
        if text.startswith(words):
            return cause
    if found := HTTP_STATUS.search(text):
        return f"http_{found[1]}"
    for pattern, cause in CAUSES:
        if pattern.search(text):
            return cause
    shown = "".join(character if character.isprintable() else " " for character in text)
    return f"other:{re.sub(r'[0-9]+', '#', ' '.join(shown.split()))[:MESSAGE_LENGTH]}"
