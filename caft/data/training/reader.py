"""Reading the training index: images by offset, token ids of any chunk of sentences."""

import os
from pathlib import Path

import numpy as np
from PIL import Image

from caft.captions.chunking import JOINERS
from caft.captions.sentences import Splitter
from caft.captions.tokenizer import encode, is_plain
from caft.data.tables.fields import FIELDS
from caft.data.training.index import ARRAYS, read_repeats, read_summary
from caft.errors import DataError
from caft.transforms import open_image

Pair = tuple[int, int]
_OPEN_SHARDS = 128


class TrainingIndex:
    """A memory-mapped index and the image shards it points into.

    Args:
        folder: What the index stage wrote.
        images_root: Holds a folder of shards for each corpus.
    """

    def __init__(self, folder: Path | str, images_root: Path | str) -> None:
        folder = Path(folder)
        summary = read_summary(folder)
        self.images_root = Path(images_root)
        self.splitter: Splitter = summary["splitter"]
        self.corpora: list[dict[str, str]] = summary["corpora"]
        self._shards = [tuple(shard) for shard in summary["shards"]]
        # As plain arrays: indexing a memmap object is several times slower.
        arrays = {name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in ARRAYS}
        self._images = arrays["images"]
        self._captions = arrays["captions"]
        self._token_ends, self._tokens = arrays["token_ends"], arrays["tokens"]
        self._text_ends, self._text = arrays["text_ends"], arrays["text"]
        self.repeats = read_repeats(folder)
        self._files: dict[int, int] = {}
        self._joiner = JOINERS[self.splitter]
        self._joiner_ids = encode(self._joiner)

    def __len__(self) -> int:
        return len(self._images)

    @property
    def row_ids(self) -> np.ndarray:
        """Row of each image in its corpus' source, (images,), int64."""
        return self._images["row_id"]

    @property
    def shards(self) -> np.ndarray:
        """Number of the shard that holds each image, (images,), int32."""
        return self._images["shard"]

    def image_bytes(self, i: int) -> bytes:
        """The encoded picture of an image.

        Raises:
            DataError: The shard is missing or shorter than the index says.
        """
        record = self._images[i]
        shard, offset, size = int(record["shard"]), int(record["offset"]), int(record["size"])
        content = os.pread(self._file(shard), size, offset)
        if len(content) != size:
            corpus, name = self._shards[shard]
            raise DataError(
                f"{self.images_root / corpus / name}.tar: {len(content)} bytes at offset {offset}, expected {size}. "
                f"The shard is not the one that was indexed; run `dvc repro --force fetch@{corpus}`"
            )
        return content

    def picture(self, i: int) -> Image.Image:
        """The picture of an image, RGB.

        Raises:
            DataError: As `image_bytes`, or it cannot be decoded.
        """
        try:
            return open_image(self.image_bytes(i))
        except DataError as error:
            corpus, name = self._shards[int(self._images[i]["shard"])]
            tar = self.images_root / corpus / f"{name}.tar"
            raise DataError(f"row {self.row_ids[i]} of {corpus}, in {tar}: {error}") from None

    def num_sentences(self, i: int) -> list[int]:
        """Sentences in each of the seven captions of an image."""
        firsts = self._captions[i * len(FIELDS) : (i + 1) * len(FIELDS) + 1].tolist()
        return [b - a for a, b in zip(firsts, firsts[1:], strict=False)]

    def sub_caption_text(self, i: int, pairs: list[Pair]) -> str:
        """The string of a sub-caption: the sentences (caption, number) joined as the splitter does."""
        return self._joiner.join(self._sentence_text(self._number(i, pair)) for pair in pairs)

    def sub_caption_ids(self, i: int, pairs: list[Pair]) -> list[int]:
        """Token ids, without start and end, of `sub_caption_text`: the stored ones wherever that is exact."""
        numbers = [self._number(i, pair) for pair in pairs]
        if len(numbers) > 1:
            texts = [self._sentence_text(number) for number in numbers]
            if not self._can_join(texts):
                return encode(self._joiner.join(texts))
        ids: list[int] = []
        for place, number in enumerate(numbers):
            if place:
                ids += self._joiner_ids
            start = int(self._token_ends[number - 1]) if number else 0
            ids += self._tokens[start : int(self._token_ends[number])].tolist()
        return ids

    def _can_join(self, texts: list[str]) -> bool:
        """Whether ids of the sentences, put one after the other, are those of the joined text.

        Not where the text is repaired before it is encoded, which may look across sentences, nor where the joiner's
        stop follows punctuation: the two may be one token.
        """
        if self._joiner_ids and not all(text[-1].isalnum() for text in texts[:-1]):
            return False
        return all(map(is_plain, texts))

    def chunk_text(self, i: int, field: int, sentences: list[int]) -> str:
        """The string of a chunk of one caption."""
        return self.sub_caption_text(i, [(field, sentence) for sentence in sentences])

    def _number(self, i: int, pair: Pair) -> int:
        return int(self._captions[i * len(FIELDS) + pair[0]]) + pair[1]

    def _sentence_text(self, number: int) -> str:
        start = int(self._text_ends[number - 1]) if number else 0
        return self._text[start : int(self._text_ends[number])].tobytes().decode()

    def _file(self, shard: int) -> int:
        """Descriptor of a shard; the least recently opened is closed when there are many."""
        if shard not in self._files:
            if len(self._files) >= _OPEN_SHARDS:
                os.close(self._files.pop(next(iter(self._files))))
            corpus, name = self._shards[shard]
            path = self.images_root / corpus / f"{name}.tar"
            try:
                self._files[shard] = os.open(path, os.O_RDONLY)
            except FileNotFoundError:
                raise DataError(f"{path}: not found; run `dvc repro --force fetch@{corpus}`") from None
        return self._files[shard]

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_files": {}}  # a worker opens shards of its own
