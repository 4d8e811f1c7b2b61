"""The third term of the authors' code: the class token of the part level against each sub-caption.

It is FLAIR's multi-positive loss. The paper has no equation for it; it is Eq. 9 with the K texts of each image.
"""

from dataclasses import dataclass

from torch import Tensor

from caft.loss.hierarchical import Features, Term
from caft.loss.whole import matrix_loss


@dataclass(frozen=True)
class PartClsTerm(Term):
    """1 / (B K) sum_i sum_(j,k) log(1 + exp(-y_ij (s_p <c_i, t_jk> + b_p))), with the class token c_i."""

    name = "part_cls"

    def __call__(self, features: Features) -> dict[str, Tensor]:  # noqa: D102
        assert features.part_cls is not None and features.sub_captions is not None
        return {self.name: matrix_loss(features.part_cls, features.sub_captions, self.temperature, self.form)}
