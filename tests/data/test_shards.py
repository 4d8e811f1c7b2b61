import pytest

from caft.data.crawl.causes import OTHER_KIND, cause_of


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        ("HTTP Error 404: Not Found", "http_404"),
        ("HTTP Error 429: Too Many Requests", "http_429"),
        ("timed out", "timeout"),
        ("<urlopen error timed out>", "timeout"),
        ("<urlopen error _ssl.c:989: The handshake operation timed out>", "timeout"),
        ("<urlopen error [Errno -2] Name or service not known>", "unreachable"),
        ("<urlopen error [Errno 111] Connection refused>", "unreachable"),
        ("[Errno 104] Connection reset by peer", "unreachable"),
        ("Remote end closed connection without response", "unreachable"),
        ("<urlopen error [Errno 2] No such file or directory: 'a.jpg'>", "no_file"),
        ("unknown url type: 'None'", "bad_url"),
        ("<urlopen error unknown url type: ttp>", "bad_url"),
        ("Use of image disallowed by X-Robots-Tag directive", "opt_out"),
        ("no whole answer within 60 seconds (fetch.timeout_total)", "too_slow"),
        ("an answer of more than 9 bytes (fetch.most_bytes)", "too_large"),
        ("folder/a.jpg is no file", "not_a_file"),  # in folders of before
        ("names no file: timed out.jpg ([Errno 2] No such file or directory)", "no_file"),
        ("is no file: HTTP Error 404.jpg", "not_a_file"),
        ("cannot be read: X-Robots-Tag.jpg ([Errno 13] Permission denied)", "not_readable"),
        ("nonnumeric port: 'port'", "bad_url"),
        ("Invalid IPv6 URL", "bad_url"),
        ("encoding with 'idna' codec failed (UnicodeError: label too long)", "bad_url"),
        ("IncompleteRead(100 bytes read, 50 more expected)", "cut_short"),
        ("got 300 and 27 odd things", "other:got # and # odd things"),
        (None, "other:no message"),
    ],
)
def test_messages_of_failed_downloads_have_their_cause(message: str | None, cause: str) -> None:
    assert cause_of("failed_to_download", message) == cause


def test_a_picture_that_opencv_alone_opens_is_a_loss_of_its_own() -> None:
    assert cause_of("failed_to_resize", f"the picture {OTHER_KIND} (whatever)") == "other_kind"


def test_whatever_the_decoder_says_is_a_decoding_loss() -> None:
    assert cause_of("failed_to_resize", "Image decoding error") == "decode"
    assert cause_of("failed_to_resize", "OpenCV(4.11.0) error: (-215) size timed out") == "decode"
