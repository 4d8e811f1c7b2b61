"""The entries of the table `corpus`, and how their images are fetched."""

from typing import Annotated, Literal

from pydantic import Field

from caft.params.section import Count, Positive, Section, Share, overrides


class FetchParams(Section):
    """How img2dataset is called; times are in seconds, `image_size` is the short side in pixels."""

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
    """A corpus that is a CSV in DreamLIP's columns; its images come from their URLs, or out of `packed` tars."""

    kind: Literal["recaption"]
    csv: str
    packed: str | None = None
    expected_images: Positive
    licence: str
    fetch: FetchOverrides = FetchOverrides()


class CustomCorpus(Section):
    """A table of the user's own, CSV or Parquet: address or file of each image, and its captions."""

    kind: Literal["custom"]
    table: str
    packed: str | None = None
    expected_images: Positive
    licence: str = "not stated"
    fetch: FetchOverrides = FetchOverrides()


class ScenesCorpus(Section):
    """The corpus that is rendered here."""

    kind: Literal["scenes"]
    images: Annotated[int, Field(ge=8)]
    image_size: Positive
    evaluation_images: Annotated[int, Field(ge=4, multiple_of=4)]
    regions: Positive
    seed: Count
    evaluation_seed: Count
    port: Annotated[int, Field(ge=1024, le=65535)]
    faults: Faults
    licence: str
    fetch: FetchOverrides = FetchOverrides()


CorpusParams = Annotated[RecaptionCorpus | CustomCorpus | ScenesCorpus, Field(discriminator="kind")]
