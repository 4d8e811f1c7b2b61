"""The evaluation sets, read from the files in which they are published.

A kind has a class and a loader; a layout has a reader, which the loader calls. A set that is not there is `Missing`.
"""

from caft.data.sets.files import Missing, folder_of
from caft.data.sets.findings import BadItemsError, LeftOut
from caft.data.sets.pictures import open_annotated
from caft.data.sets.referring import Expression, ReferringImage, ReferringSet, load_referring
from caft.data.sets.regions import ATTRIBUTE_FILES, REGION_FILES, Region, RegionSet, load_regions
from caft.data.sets.retrieval import RetrievalSet, load_retrieval
from caft.data.sets.zero_shot import ZeroShotSet, load_zero_shot

__all__ = [
    "ATTRIBUTE_FILES",
    "REGION_FILES",
    "BadItemsError",
    "Expression",
    "LeftOut",
    "Missing",
    "ReferringImage",
    "ReferringSet",
    "Region",
    "RegionSet",
    "RetrievalSet",
    "ZeroShotSet",
    "folder_of",
    "load_referring",
    "load_regions",
    "load_retrieval",
    "load_zero_shot",
    "open_annotated",
]
