"""The file that says which pairs of a retrieval set are look-alikes: what is read, and what is refused."""

from pathlib import Path

import pytest

from caft.data.sets import RetrievalSet, load_retrieval
from caft.data.sets.groups import Group
from caft.errors import DataError
from caft.params.sets import BenchmarkParams
from tests.data.published import CAPTIONS, write_karpathy, write_sharegpt4v, write_urban1k

MORE = {**CAPTIONS, 3: "A dog.", 4: "A hen."}  # 1, 2, 3, 4 and 10 in the order of the numbers


def loaded(folder: Path, text: str | None, captions: dict[int, str] = MORE, **changes: object) -> RetrievalSet:
    write_urban1k(folder, captions)
    if text is not None:
        (folder / "groups.csv").write_text(text, encoding="utf-8")
    found = load_retrieval(BenchmarkParams(kind="retrieval", layout="urban1k", path=str(folder), **changes))  # type: ignore[arg-type]
    assert isinstance(found, RetrievalSet)
    return found


def test_groups_name_places_in_the_set_whatever_its_layout(tmp_path: Path) -> None:
    text = "kind,id,group\nplace,10,b\ncolour,2,a\nplace,1,b\ncolour,3,a\n"
    assert loaded(tmp_path / "set", text).groups == (Group("place", (4, 0)), Group("colour", (1, 2)))
    assert loaded(tmp_path / "none", None).groups == ()


def test_a_partial_set_goes_without_pairs_and_groups_that_are_not_there(tmp_path: Path) -> None:
    text = "id,group,kind\n1,a,size\n2,a,size\n10,a,size\n3,b,size\n4,b,size\n"
    found = loaded(tmp_path / "set", text, {**MORE, 2: "", 3: "."}, partial=True)
    assert found.ids == ["1", "4", "10"] and found.groups == (Group("size", (0, 2)),)


def test_a_set_of_the_first_pairs_of_a_file_has_the_groups_among_them(tmp_path: Path) -> None:
    """SV-1k and SV-10k lie in one folder."""
    write_sharegpt4v(tmp_path, rows=4)
    (tmp_path / "groups.csv").write_text("id,group,kind\nsa_0,a,size\nsa_2,a,size\nsa_1,b,size\nsa_3,b,size\n")
    entry = {"kind": "retrieval", "layout": "sharegpt4v", "path": str(tmp_path)}
    found = {first: load_retrieval(BenchmarkParams(**entry, first=first)) for first in (3, 4)}  # type: ignore[arg-type]
    groups = {first: getattr(pairs, "groups", None) for first, pairs in found.items()}
    assert groups == {3: (Group("size", (0, 2)),), 4: (Group("size", (0, 2)), Group("size", (1, 3)))}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("id,group\n1,a\n", "expected the columns id, group, kind, found no kind"),
        ("", "expected the columns id, group, kind, found no id"),
        ("id,group,kind\n1,a,size\n2,a,\n", "line 3: expected a value for each of id, group, kind"),
        ("id,group,kind\n1,a,size\n2\n", "line 3: expected a value for each of id, group, kind"),
        ("id,group,kind\n1,a,size\n2,a,size\n1,b,size\n", "line 4: 1 is there for a second time"),
        ("id,group,kind\n1,a,size\n2,a,place\n", "line 3: group a is of kind place, and before of size"),
        ("id,group,kind\n1,a,size\n7,a,size\n", "line 3: the set has no pair 7; take the file that belongs to it"),
        ("id,group,kind\n1,a,size\n2,b,size\n3,b,size\n", "group a has a single pair; expected two or more"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(DataError) as error:
        loaded(tmp_path / "set", text)
    assert problem in str(error.value) and "groups.csv" in str(error.value)


def test_groups_are_of_sets_with_one_caption_an_image(tmp_path: Path) -> None:
    write_karpathy(tmp_path, "coco")
    (tmp_path / "groups.csv").write_text("id,group,kind\n")
    with pytest.raises(DataError, match=r"groups\.csv: groups are of sets with one caption an image"):
        load_retrieval(BenchmarkParams(kind="retrieval", layout="karpathy", path=str(tmp_path), split="test"))
