"""Scenes: what every scene, look-alike group and table of links must hold."""

from dataclasses import astuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caft.data.scenes.corpus import links, url
from caft.data.scenes.grammar import (
    LOOK_ALIKE,
    RANDOM,
    SPEC,
    Scene,
    generator,
    look_alike_group,
    random_scene,
    training_scene,
)
from caft.params.corpora import Faults, ScenesCorpus


def corpus(**changes: object) -> ScenesCorpus:
    values = {
        "kind": "scenes",
        "images": 60,
        "image_size": 32,
        "evaluation_images": 8,
        "regions": 5,
        "seed": 3,
        "evaluation_seed": 4,
        "port": 8765,
        "faults": Faults(missing=3, server_error=2, stalled=1, corrupt=2, opt_out=2, duplicate=5),
        "licence": "none",
    }
    return ScenesCorpus.model_validate({**values, **changes})


def differences(one: Scene, other: Scene) -> list[str]:
    """Names of the attributes that differ; objects are compared position by position."""
    assert len(one.objects) == len(other.objects)
    found = [name for name in ("background", "texture") if getattr(one, name) != getattr(other, name)]
    for a, b in zip(one.objects, other.objects, strict=True):
        found += [
            name for name in ("shape", "colour", "pattern", "size", "cell") if getattr(a, name) != getattr(b, name)
        ]
    return found


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 5), number=st.integers(0, 3000))
def test_every_scene_follows_the_grammar(seed: int, number: int) -> None:
    scene = training_scene(seed, number)
    assert 2 <= len(scene.objects) <= 4
    assert len({item.cell for item in scene.objects}) == len(scene.objects)
    assert len({(item.shape, item.colour) for item in scene.objects}) == len(scene.objects)
    for item in scene.objects:
        assert item.shape in {"circle", "square", "triangle", "star", "cross", "heart"}
        assert item.colour in {"red", "green", "blue", "yellow", "orange", "purple", "white", "black"}
        assert item.pattern in {"plain", "striped", "dotted"}
        assert item.size in {"small", "large"}
        assert 0 <= item.cell <= 8
    assert training_scene(seed, number) == scene


def test_all_attributes_occur_and_none_dominates() -> None:
    scenes = [random_scene(generator(0, RANDOM, number, SPEC)) for number in range(600)]
    objects = [item for scene in scenes for item in scene.objects]
    for name, options in (("shape", 6), ("colour", 8), ("pattern", 3), ("size", 2), ("cell", 9)):
        values = [getattr(item, name) for item in objects]
        shares = [values.count(value) / len(values) for value in set(values)]
        assert len(shares) == options
        assert max(shares) < 1.35 / options and min(shares) > 0.65 / options, name
    assert len({scene.background for scene in scenes}) == 6
    assert len({scene.texture for scene in scenes}) == 3


def test_about_a_quarter_of_the_training_scenes_repeat_an_earlier_one_but_for_one_change() -> None:
    scenes = [training_scene(0, number) for number in range(800)]
    by_background: dict[tuple[object, ...], list[Scene]] = {}
    look_alikes = 0
    for scene in scenes:
        group = by_background.setdefault((scene.background, scene.texture, len(scene.objects)), [])
        look_alikes += any(len(differences(scene, earlier)) == 1 for earlier in group)
        group.append(scene)
    assert 0.2 < look_alikes / len(scenes) < 0.3


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 5), number=st.integers(0, 500))
def test_members_of_a_look_alike_group_differ_from_the_first_in_exactly_one_attribute(seed: int, number: int) -> None:
    group = look_alike_group(seed, number)
    assert len(group) == len({repr(astuple(scene)) for scene in group}) == 4
    for member in group[1:]:
        (changed,) = differences(group[0], member)
        assert changed in {"shape", "colour", "pattern", "cell"}
        assert len({item.cell for item in member.objects}) == len(member.objects)
        assert len({(item.shape, item.colour) for item in member.objects}) == len(member.objects)


def test_all_four_kinds_of_change_occur() -> None:
    found = {
        name
        for number in range(40)
        for group in [look_alike_group(1, number)]
        for member in group[1:]
        for name in differences(group[0], member)
    }
    assert found == {"shape", "colour", "pattern", "cell"}


def test_equal_seeds_of_training_and_evaluation_give_other_scenes() -> None:
    training = {training_scene(0, number) for number in range(300)}
    random = {random_scene(generator(0, RANDOM, number, SPEC)) for number in range(300)}
    alike = {random_scene(generator(0, LOOK_ALIKE, number, SPEC)) for number in range(300)}
    assert not training & random and not training & alike and not random & alike


def test_links_hold_every_picture_once_and_every_fault_as_often_as_asked() -> None:
    rows = links(corpus())
    working = [number for kind, number in rows if kind == "train"]
    assert len(rows) == 60 + 3 + 2 + 1 + 2 + 2 + 5
    assert sorted(set(working)) == list(range(60)) and len(working) == 65
    assert {kind: sum(k == kind for k, _ in rows) for kind, _ in rows} == {
        "train": 65,
        "missing": 3,
        "server_error": 2,
        "stalled": 1,
        "corrupt": 2,
        "opt_out": 2,
    }
    faulty = [number for kind, number in rows if kind != "train"]
    assert faulty == list(range(60, 70)), "a faulty link shows a scene that no working link shows"
    assert links(corpus()) == rows


@pytest.mark.parametrize("seed", range(8))
def test_faults_lie_scattered_and_repetitions_come_after_what_they_repeat(seed: int) -> None:
    rows = links(corpus(seed=seed))
    places = [place for place, (kind, _) in enumerate(rows) if kind != "train"]
    assert min(places) < 35 and max(places) > 40
    first_seen: set[int] = set()
    for kind, number in rows:
        if kind == "train" and number not in first_seen:
            assert number == len(first_seen), "working pictures come in order, a repetition later"
            first_seen.add(number)


def test_addresses_are_those_of_the_loopback_server() -> None:
    assert url(8765, "train", 123) == "http://127.0.0.1:8765/train/000123.jpg"
    assert url(9000, "opt_out", 4001) == "http://127.0.0.1:9000/opt_out/004001.jpg"
