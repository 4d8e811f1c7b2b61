"""CAFT: forest and trees in images and long captions, aligned at both levels (arXiv 2602.02977)."""

from caft.model.card import ModelCard
from caft.model.model import Model
from caft.network.caft import CAFT
from caft.weights.load import load

__all__ = ["CAFT", "Model", "ModelCard", "load"]
