"""The card of a model: the facts that lie beside its weights as `.json`."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, PositiveInt, field_validator

from caft.captions.sentences import Splitter
from caft.errors import CheckpointError
from caft.params.arithmetic import Arithmetic
from caft.params.models import ModelParams


class TrainedCorpus(BaseModel):
    """A corpus that a model was trained on.

    Attributes:
        name: Of the table `corpus`.
        count: Images.
        fingerprint: Of images and captions, sha256.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str
    count: int
    fingerprint: str


class ModelCard(BaseModel):
    """How a model is built and reads captions, and where its weights come from.

    Other keys are kept as they are: some trainings record more (a subset of the data, images that were left out), and
    cards that an older or newer version wrote must load, print and be saved without loss.

    Attributes:
        splitter: How captions are split into sentences.
        chunks: Sub-captions of a long caption, M.
        balanced_rule: How sentences are grouped into chunks.
        model: Sizes; None for a model of another library.
        fingerprint: Of the training run; of given weights the start of their file's sha256.
        recipe: Of the training; not validated, since an older recipe may lack today's keys.
        seed: Of the training.
        arithmetic: How the training's numbers were rounded.
        data: What it was trained on.
        references: Sentences of its training captions, which `Model.match` ranks a sentence among; of older and given
            weights none.
        source: File of given weights.
        name: Of given weights, as tables show them.
        kind: Of given weights: caft_release, flair_release, caft or open_clip.
        size: Of the data of given weights, as the paper's Figure 5 names it: 3M, 12M, 15M or 30M.
        external: sha256 of given weights.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    splitter: Splitter
    chunks: PositiveInt
    balanced_rule: Literal["paper", "release"]
    model: ModelParams | None = None
    fingerprint: str | None = None
    recipe: dict[str, Any] | None = None
    seed: int | None = None
    arithmetic: Arithmetic | None = None
    data: tuple[TrainedCorpus, ...] = ()
    references: tuple[str, ...] = ()
    source: str | None = None
    name: str | None = None
    kind: str | None = None
    size: str | None = None
    external: str | None = None

    @field_validator("references")
    @classmethod
    def _have_words(cls, references: tuple[str, ...]) -> tuple[str, ...]:
        for number, text in enumerate(references):
            if not any(map(str.isalnum, text)):
                raise ValueError(f"reference {number} has no word: {text[:20]!r}")
        return references

    @property
    def sizes(self) -> ModelParams:
        """Sizes of a CAFT model.

        Raises:
            CheckpointError: The card has none.
        """
        if self.model is None:
            raise CheckpointError(
                "the model's card has no sizes (key model); restore the file that came with the weights"
            )
        return self.model

    @property
    def is_of_rendered_shapes(self) -> bool:
        """Whether it is recorded that the training saw rendered scenes and nothing else."""
        return bool(self.data) and all(corpus.name == "scenes" for corpus in self.data)

    def record(self) -> dict[str, Any]:
        """The card as JSON has it: facts that nobody recorded are absent."""
        found = self.model_dump(mode="json", exclude_unset=True)
        if self.model is not None:
            found["model"] = self.model.model_dump(mode="json")
        return found
