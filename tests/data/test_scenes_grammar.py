"""Scenes: what every scene, look-alike group and table of links must hold."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caft.data.scenes.corpus import links, url
from caft.data.scenes.grammar import (
    LOOK_ALIKE,
    RANDOM,
    SPEC,
    Scene,
    SceneObject,
    generator,
    random_scene,
    training_scene,
)
from caft.data.scenes.look_alikes import content, fresh_scene, kind_of, look_alike_group, variants
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


def kind_between(one: Scene, other: Scene) -> str:
    """What two scenes differ in, which must be one thing."""
    assert (one.background, one.texture) == (other.background, other.texture)
    if len(one.objects) != len(other.objects):
        fewer, more = sorted((one.objects, other.objects), key=len)
        assert set(fewer) < set(more) and len(more) == len(fewer) + 1
        return "count"
    pairs = [(a, b) for a, b in zip(one.objects, other.objects, strict=True) if a != b]
    if len(pairs) == 2:
        (a, b), (c, d) = pairs
        assert (a.cell, c.cell) == (d.cell, b.cell) and replace(a, cell=b.cell) == b and replace(c, cell=d.cell) == d
        return "relation"
    ((a, b),) = pairs
    (name,) = [name for name in ("shape", "colour", "pattern", "size", "cell") if getattr(a, name) != getattr(b, name)]
    return "place" if name == "cell" else name


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 5), number=st.integers(0, 500))
def test_members_of_a_look_alike_group_differ_from_the_first_in_one_thing_of_its_kind(seed: int, number: int) -> None:
    kind = kind_of(number)
    group = look_alike_group(generator(seed, LOOK_ALIKE, number, SPEC), kind, set())
    assert len(group) == len({content(scene) for scene in group}) == 4
    assert {kind_between(group[0], member) for member in group[1:]} == {kind}
    for member in group:
        assert 2 <= len(member.objects) <= 4
        assert len({item.cell for item in member.objects}) == len(member.objects)
        assert len({(item.shape, item.colour) for item in member.objects}) == len(member.objects)


def test_the_kinds_take_turns() -> None:
    kinds = [kind_of(number) for number in range(14)]
    assert kinds[:7] == kinds[7:] and set(kinds) == {
        "colour", "pattern", "shape", "size", "place", "relation", "count"
    }  # fmt: skip


def test_counts_go_up_and_down_and_swaps_are_all_there() -> None:
    red, green = SceneObject("circle", "red", "plain", "large", 0), SceneObject("star", "green", "plain", "small", 4)
    blue, black = SceneObject("star", "blue", "plain", "small", 8), SceneObject("heart", "black", "plain", "small", 2)
    rng = generator(0, LOOK_ALIKE, 0, SPEC)
    two, three, four = (Scene("gray", "tiled", (red, green, blue, black)[:count]) for count in (2, 3, 4))
    counts = [sorted(len(other.objects) for other in variants(scene, "count", rng)) for scene in (two, three, four)]
    assert counts == [[3] * 7, [2] * 3 + [4] * 6, [3] * 4]
    assert [len(variants(scene, "relation", rng)) for scene in (two, three, four)] == [1, 3, 6]
    # Seven other colours each, but the stars may not become equal in name: green no blue, blue no green.
    assert len(variants(three, "colour", rng)) == 3 * 7 - 2
    assert len(variants(two, "place", rng)) == 2 * 7 and len(variants(two, "size", rng)) == 2


def test_what_is_taken_is_not_drawn_in_whatever_order_its_objects_come() -> None:
    first = random_scene(generator(0, RANDOM, 5, SPEC))
    turned = replace(first, objects=first.objects[::-1])
    assert content(turned) == content(first)
    found = fresh_scene(generator(0, RANDOM, 5, SPEC), {content(turned)})
    assert content(found) != content(first)
    group = look_alike_group(generator(0, LOOK_ALIKE, 4, SPEC), "place", set())
    others = look_alike_group(generator(0, LOOK_ALIKE, 4, SPEC), "place", {content(group[2])})
    assert others[0] == group[0] and group[2] not in others and len(others) == 4


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
