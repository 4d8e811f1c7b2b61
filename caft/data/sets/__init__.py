"""The evaluation sets, read from the files in which they are published.

A kind has a class and a loader; a layout has a reader, which the loader calls. A set that is not there is `Missing`.
"""

from collections.abc import Callable, Mapping

from caft.data.sets.composition import CompositionSet, Question, View, load_composition
from caft.data.sets.files import Missing, folder_of
from caft.data.sets.findings import BadItemsError, LeftOut
from caft.data.sets.pictures import open_annotated
from caft.data.sets.referring import Expression, ReferringImage, ReferringSet, load_referring
from caft.data.sets.regions import ATTRIBUTE_FILES, REGION_FILES, Region, RegionSet, load_regions
from caft.data.sets.retrieval import RetrievalSet, load_retrieval
from caft.data.sets.segmentation import LabelledImage, SegmentationSet, load_segmentation
from caft.data.sets.zero_shot import ZeroShotSet, load_zero_shot
from caft.params.sets import BenchmarkParams

AnySet = RetrievalSet | ReferringSet | RegionSet | ZeroShotSet | CompositionSet | SegmentationSet
# By kind.
LOADERS: Mapping[str, Callable[[BenchmarkParams], AnySet | Missing]] = {
    "retrieval": load_retrieval,
    "referring": load_referring,
    "regions": load_regions,
    "zero_shot": load_zero_shot,
    "composition": load_composition,
    "segmentation": load_segmentation,
}

__all__ = [
    "ATTRIBUTE_FILES",
    "LOADERS",
    "REGION_FILES",
    "AnySet",
    "BadItemsError",
    "CompositionSet",
    "Expression",
    "LabelledImage",
    "LeftOut",
    "Missing",
    "Question",
    "ReferringImage",
    "ReferringSet",
    "Region",
    "RegionSet",
    "RetrievalSet",
    "SegmentationSet",
    "View",
    "ZeroShotSet",
    "folder_of",
    "load_composition",
    "load_referring",
    "load_regions",
    "load_retrieval",
    "load_segmentation",
    "load_zero_shot",
    "open_annotated",
]
