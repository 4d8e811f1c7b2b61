"""How a trained model is scored: the part `evaluation` of params.yaml."""

from typing import Annotated, Literal

from pydantic import Field

from caft.params.section import Positive, Section, Share

Membership = Literal["hard", "soft"]
BoxMode = Literal["masked_pool", "crop", "avg_pool"]


class EvaluationParams(Section):
    """How scores are formed."""

    blend: Annotated[tuple[Share, ...], Field(strict=False, min_length=1)]
    blend_space: Literal["logit", "cosine"]
    membership: Membership
    box_mode: BoxMode
    rerank: Positive | None
    batch: Positive
