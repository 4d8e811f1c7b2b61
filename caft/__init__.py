"""CAFT: forest and trees in images and long captions, aligned at both levels (arXiv 2602.02977)."""

from caft.model import CAFT
from caft.pretrained import load

__all__ = ["CAFT", "load"]
