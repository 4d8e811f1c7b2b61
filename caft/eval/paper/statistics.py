"""Size of an evaluation set and of its texts, as the paper's appendix A.2 counts them."""

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from caft.captions.sentences import split
from caft.captions.tokenizer import encode
from caft.data.sets import RetrievalSet


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
