"""Size of an evaluation set and of its texts, as the paper's appendix A.2 counts them."""

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from caft.captions.sentences import split
from caft.captions.tokenizer import encode
from caft.data.sets import Missing, RetrievalSet, load_retrieval
from caft.eval.paper.targets import load_targets
from caft.eval.sets import each_set
from caft.params import Params


def statistics_of_sets(params: Params) -> dict[str, Mapping[str, Any]]:
    """Returns Table 6 of the paper's retrieval sets that the settings name, or `not_run` with the reason."""
    found: dict[str, Mapping[str, Any]] = {}
    for name, pairs in each_set(params, {"retrieval": load_retrieval}):
        if name in load_targets().sets:
            found[name] = {"not_run": pairs.reason} if isinstance(pairs, Missing) else statistics_of(pairs)
    return found


def statistics_of(pairs: RetrievalSet) -> Mapping[str, Any]:
    """Images, texts, and the means over texts of sub_captions and tokens.

    Sub-captions are the sentences of DreamLIP's rule. Tokens are CLIP's with start and end, none cut off: for DOCCI that
    gives the paper's 141.52.
    """
    return {
        "images": len(pairs.images),
        "texts": len(pairs.captions),
        "sub_captions": fmean(len(split(caption, "dreamlip")) for caption in pairs.captions),
        "tokens": fmean(len(encode(caption)) + 2 for caption in pairs.captions),
    }
