"""CAFT: forest and trees in images and long captions, aligned at both levels (arXiv 2602.02977)."""

from caft.network.caft import CAFT
from caft.weights.files import load

__all__ = ["CAFT", "load"]
