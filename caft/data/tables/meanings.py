"""What every column of this project's Parquet tables means, and in which unit: the one place where these texts stand.

They are written into the tables as metadata of their columns, so that a file says what it holds wherever it lies:
``pyarrow.parquet.read_schema(path).field("size").metadata``. docs/tables.md has them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pyarrow as pa

from caft.data.tables.fields import FIELDS

_BY = {"ib": "InstructBLIP", "sv": "ShareGPT4V", "lla": "LLaVA-1.5"}
_SPLITTERS = {"spacy": "spaCy's rules", "dreamlip": "DreamLIP's rule (at full stops and line breaks)"}


def _caption(field: str) -> str:
    length, _, annotator = field.partition("_")
    if not annotator:
        return "caption that came with the image; null if there is none"
    return f"{length} caption in the place of {_BY[annotator]}'s; null if there is none"


# Meaning and unit of each column; "" where it counts or measures nothing.
MEANINGS: dict[str, tuple[str, str]] = {
    # ---- addresses, images and captions
    "row_id": ("row of the source's table that this is about: its position there, from 0", ""),
    "url": ("address of the image as the source's table has it; `file:` and a path for pictures of one's own", ""),
    "line": ("where the record begins in the source's table: line of a CSV, row of a Parquet file, from 1", ""),
    "reason": ("why the record was left out", ""),
    "text": ("start of what the record holds", ""),
    "key": ("name of the image in its tar, without ending", ""),
    "shard": ("name of the tar, without ending; null for a row that was never asked for", ""),
    "cause": ("why there is no image; null if there is one", ""),
    "status": ("how it went, in img2dataset's words", ""),
    "error_message": ("what went wrong, in img2dataset's words; null if nothing did", ""),
    "offset": ("where the picture's bytes begin in its tar", "byte"),
    "size": ("length of the picture's file", "byte"),
    "width": ("width of the picture as it is stored", "pixel"),
    "height": ("height of the picture as it is stored", "pixel"),
    "download_sha256": (
        "SHA-256 of the file as it was downloaded, before it was reduced: equal for equal downloads, and not that of the "
        "bytes in the tar",
        "",
    ),
    "sha256": ("SHA-256 of the file as it was downloaded, in img2dataset's column", ""),
    "place": ("position of the picture among those of its tar, from 0", ""),
    "mtime_ns": ("time of the file's last change when it was read, since 1970", "nanosecond"),
    **{field: (_caption(field), "") for field in FIELDS},
    # ---- sentences
    **{
        f"{splitter}_spans": (f"sentences of each caption by {rule}; a struct with the captions' names", "")
        for splitter, rule in _SPLITTERS.items()
    },
    **{
        f"{splitter}_ids": (
            f"token ids of CLIP's BPE for each sentence of {splitter}_spans, without start and end; a struct with the "
            "captions' names",
            "",
        )
        for splitter in _SPLITTERS
    },
    "start": ("first character of the sentence in its caption, from 0", "code point"),
    "end": ("character after the sentence's last", "code point"),
    # ---- support of sentences
    "caption": ("name of the caption, as in the other tables", ""),
    "number": ("place of the sentence in its caption, from 0", ""),
    "sentence": ("the sentence", ""),
    "logit": ("part-level logit of the sentence with its own picture", ""),
    "support": (
        "the logit less its mean over other pictures; null where they are alike to the sentence",
        "",
    ),
    "flagged": ("whether the support is below the corpus' threshold", ""),
    # ---- near-duplicates of evaluation images
    "benchmark": ("evaluation set", ""),
    "image": ("picture of the evaluation set", ""),
    "position": ("place of the training image in data/index, from 0", ""),
    "corpus": ("corpus of the training image", ""),
    "bits": ("bits in which the two perceptual hashes of 64 differ", "bit"),
    # ---- expressions of referring sets
    "set": ("evaluation set", ""),
    "annotation": ("number of the object's annotation in its set", ""),
    "level": ("stage of the model whose map was scored: its number of tokens", "token"),
    "intersection": ("area of the mask and the object together", "pixel"),
    "union": ("area of the mask or the object", "pixel"),
    "iou": ("intersection over union of mask and object, in [0, 1]", ""),
    "iou_wrong_expression": (
        "mean of the same over the other objects of the image, in [0, 1]; null if there is none",
        "",
    ),
    "pointing": ("share of the map's largest pixels, mostly one, that lie on the object, in [0, 1]", ""),
    "threshold": ("Otsu's threshold of the map, by which the mask was made", ""),
    # ---- references of a refs(...).p
    "reference": ("place of the reference in the pickle, from 0", ""),
    "image_id": ("the image's number in its set", ""),
    "ann_id": ("the annotation's number in its set", ""),
    "split": ("part of the set", ""),
    "sent": ("expression as the set has cleaned it", ""),
}


def schema(
    columns: Iterable[tuple[str, pa.DataType]],
    metadata: Mapping[str, str] | None = None,
    other: Mapping[str, tuple[str, str]] | None = None,
) -> pa.Schema:
    """A schema whose columns, those in structs too, say what they mean and in which unit.

    Args:
        columns: Names and types.
        metadata: Of the table.
        other: Meaning and unit of columns that mean something else here than in `MEANINGS`.

    Raises:
        KeyError: A column has no meaning.
    """
    known = {**MEANINGS, **(other or {})}
    return pa.schema([_field(name, kind, known) for name, kind in columns], metadata=dict(metadata or {}) or None)


def _field(name: str, kind: pa.DataType, known: Mapping[str, tuple[str, str]]) -> pa.Field:
    meaning, unit = known[name]
    return pa.field(name, _inside(kind, known), metadata={"meaning": meaning} | ({"unit": unit} if unit else {}))


def _inside(kind: pa.DataType, known: Mapping[str, tuple[str, str]]) -> pa.DataType:
    if pa.types.is_list(kind):
        return pa.list_(_inside(kind.value_type, known))
    if not pa.types.is_struct(kind):
        return kind
    names = [kind.field(place).name for place in range(kind.num_fields)]
    return pa.struct([_field(name, kind.field(name).type, known) for name in names])
