"""Text-conditioned attention pooling: each sub-caption asks the segments of an image (Eq. 7).

The part loss computes the same for all pairs without storing a pooled feature: `caft.loss.part_tiles`.
"""

import torch
from torch import Tensor, nn


class TextConditionedPool(nn.Module):
    """Pools segments by attention with texts as queries, as FLAIR's.

    One all-zero key and value is appended after the projections: a text that nothing answers can put its mass
    there. There is no residual and no norm after the output projection.

    Args:
        dim: Width of queries, tokens and result, D.
        heads: Number of heads, H.
        identity: Start all four projections at the identity, which gives sharp, text-driven attention from the
            first step; else PyTorch's defaults for attention.
    """

    def __init__(self, dim: int, heads: int, identity: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.norm_query = nn.LayerNorm(dim)
        self.norm_key = nn.LayerNorm(dim)
        self.norm_value = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)
        with torch.no_grad():
            for linear in (self.query, self.key, self.value):
                # The bound of one packed (3 D, D) matrix under Xavier's rule, as torch starts attention.
                bound = (6 / (4 * dim)) ** 0.5
                linear.weight.copy_(torch.eye(dim)) if identity else linear.weight.uniform_(-bound, bound)
                linear.bias.zero_()
            if identity:
                self.out.weight.copy_(torch.eye(dim))
            self.out.bias.zero_()

    def forward(self, queries: Tensor, tokens: Tensor, log_weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Pools the segments that answer each text.

        Args:
            queries: Texts that ask, (B, Q, D).
            tokens: Segments of each image, (B, M, D).
            log_weights: Added to the attention logits of the segments, (B, M); -inf shuts one out.

        Returns:
            Pooled features (B, Q, D), and attention (B, H, Q, M + 1) whose last column is the empty slot; rows
            sum to one.
        """
        key, value = self.project_tokens(tokens)
        mixed, attention = attend(self.project_queries(queries), key, value, log_weights)
        return self.out(mixed), attention

    def project_queries(self, queries: Tensor) -> Tensor:
        """Norm, projection and scale of texts: (..., D) to (..., H, D / H). Acts on each text alone."""
        projected = self.query(self.norm_query(queries)).unflatten(-1, (self.heads, -1))
        return projected * projected.shape[-1] ** -0.5

    def project_tokens(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of segments: (B, M, D) to two of (B, M, H, D / H)."""
        key = self.key(self.norm_key(tokens)).unflatten(-1, (self.heads, -1))
        value = self.value(self.norm_value(tokens)).unflatten(-1, (self.heads, -1))
        return key, value


def attend(query: Tensor, key: Tensor, value: Tensor, log_weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Attention with an empty slot of logit and value zero, which takes the mass of a text that nothing answers.

    Args:
        query: Scaled queries, (B, Q, H, e), or (Q, H, e) when all images are asked the same.
        key: Keys, (B, M, H, e).
        value: Values, (B, M, H, e).
        log_weights: Added to the logits, (B, M).

    Returns:
        Mixed values (B, Q, H * e), and attention (B, H, Q, M + 1) with the empty slot last.
    """
    texts = "qhe" if query.dim() == 3 else "bqhe"
    logits = torch.einsum(f"{texts},bmhe->bhqm", query, key)
    if log_weights is not None:
        logits = logits + log_weights[:, None, None]
    attention = torch.cat([logits, torch.zeros_like(logits[..., :1])], dim=-1).softmax(-1)
    mixed = torch.einsum("bhqm,bmhe->bqhe", attention[..., :-1], value)
    return mixed.flatten(2), attention
