"""The entries of the table `corpus`, and how their images are fetched."""

import re
from typing import Annotated, Literal

from pydantic import Field

from caft.params.section import Count, Positive, Section, Share, overrides

# Without any file of a crawl growing, after which img2dataset is killed and started again.
STALL_SECONDS = 600.0
# Names of files, folders and stages, and parts of commands, are made of a corpus' name.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")


def name_problem(name: str) -> str | None:
    """Says what is wrong with a corpus' name; None for a good one."""
    if _NAME.fullmatch(name):
        return None
    return "no name for a corpus; expected up to 64 of a-z, A-Z, 0-9, _ and -, the first no -"


class FetchParams(Section):
    """How img2dataset is called; times are in seconds, `image_size` is the short side in pixels.

    `minimum_yield` counts for addresses; of a table that names files, each must come unless the corpus itself sets it.
    """

    processes: Positive
    threads: Positive
    timeout: Positive
    timeout_total: Positive
    most_bytes: Positive
    retries: Count
    images_per_shard: Positive
    image_size: Positive
    quality: Annotated[int, Field(ge=1, le=100)]
    minimum_yield: Share
    second_pass: bool


class FetchOverrides(overrides(FetchParams)):  # type: ignore[misc]  # made from the fields above
    """Values of `fetch` that one corpus replaces; null keeps them."""


class Faults(Section):
    """How many rows of the rendered corpus go wrong on purpose, by kind."""

    missing: Count
    server_error: Count
    stalled: Count
    corrupt: Count
    opt_out: Count
    duplicate: Count


class RecaptionCorpus(Section):
    """A corpus that is a CSV in DreamLIP's columns; its images come from their URLs, or out of `packed` tars.

    `minimum_usable` is the least share of the CSV's rows that must be usable, else the stage `source` fails.
    """

    kind: Literal["recaption"]
    csv: str
    packed: str | None = None
    expected_images: Positive
    licence: str
    fetch: FetchOverrides = FetchOverrides()
    minimum_usable: Share = 0.5


class CustomCorpus(Section):
    """A table of the user's own, CSV or Parquet: address or file of each image, and its captions.

    `minimum_usable` is as for a published CSV.
    """

    kind: Literal["custom"]
    table: str
    packed: str | None = None
    expected_images: Positive
    licence: str = "not stated"
    fetch: FetchOverrides = FetchOverrides()
    minimum_usable: Share = 0.5


class ScenesCorpus(Section):
    """The corpus that is rendered here; a share of its captions' sentences can be made false."""

    kind: Literal["scenes"]
    images: Annotated[int, Field(ge=8)]
    image_size: Positive
    evaluation_images: Annotated[int, Field(ge=4, multiple_of=4)]
    regions: Positive
    seed: Count
    evaluation_seed: Count
    port: Annotated[int, Field(ge=1024, le=65535)]
    faults: Faults
    false_sentences: Share = 0.0
    licence: str
    fetch: FetchOverrides = FetchOverrides()


CorpusParams = Annotated[RecaptionCorpus | CustomCorpus | ScenesCorpus, Field(discriminator="kind")]
