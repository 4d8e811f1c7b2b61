"""Settings: what is resolved, and every message for what is wrong."""

import logging
import re
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest
import yaml

from caft.errors import ParamsError
from caft.params import Params, flat, load_params
from caft.params.corpora import FetchOverrides, FetchParams
from caft.params.recipes import CorporaOverrides, RecipeParams, TrainOverrides

PROJECT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def in_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)


@pytest.fixture
def overlay(tmp_path: Path) -> typing.Callable[[str], Path]:
    """Writes the text of an overlay to a file."""

    def write(text: str, name: str = "overlay.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


@pytest.fixture
def problems(overlay: typing.Callable[[str], Path]) -> typing.Callable[[str], list[str]]:
    """Lines of the error that an overlay over params.yaml raises, without the note of who set them."""

    def found(text: str) -> list[str]:
        path = overlay(text)
        with pytest.raises(ParamsError) as raised:
            load_params(overlays=[path])
        return [line.strip().removesuffix(f" (set in {path})") for line in str(raised.value).splitlines()[1:]]

    return found


# ---- what is resolved


def test_the_file_as_committed_is_valid_and_selects_the_embedded_default() -> None:
    params = load_params()
    assert params.corpora == ("scenes",)
    assert params.selected_model == params.models["tiny"]
    assert params.selected_recipe == params.recipes["smoke"]
    assert params.selected_launcher.world_size == 2
    assert params.selected_recipe.steps(images=4000) == 1250  # 60,000 samples in batches of 48


def test_overrides_replace_the_recipes_values_and_null_keeps_them(overlay: typing.Callable[[str], Path]) -> None:
    params = load_params(overlays=[overlay("train: {batch: 96, clip_norm: null}")])
    assert params.selected_recipe == params.recipes["smoke"].model_copy(update={"batch": 96})


def test_an_override_in_samples_replaces_a_budget_in_epochs(overlay: typing.Callable[[str], Path]) -> None:
    params = load_params(overlays=[overlay("{recipe: paper, train: {samples: 4096}}")])
    assert params.recipes["paper"].steps(images=1000) == 32 * 1000 // 2048
    assert params.selected_recipe.steps(images=1000) == 2


def test_a_corpus_replaces_single_values_of_fetch() -> None:
    params = load_params()
    assert params.fetch_for("cc3m") == params.fetch
    scenes = params.fetch_for("scenes")
    assert (scenes.timeout, scenes.images_per_shard) == (2, 1000)
    assert (scenes.quality, scenes.processes) == (params.fetch.quality, params.fetch.processes)


@pytest.mark.parametrize(
    ("overrides", "full"),
    [(TrainOverrides, RecipeParams), (CorporaOverrides, RecipeParams), (FetchOverrides, FetchParams)],
)
def test_overrides_take_what_they_replace(overrides: Any, full: Any) -> None:
    def allowed(model: Any) -> dict[str, list[Any]]:
        properties = model.model_json_schema()["properties"].items()
        types = {name: schema.get("anyOf", [schema]) for name, schema in properties}
        keys = ("default", "title")
        return {
            name: [{k: v for k, v in t.items() if k not in keys} for t in some if t.get("type") != "null"]
            for name, some in types.items()
        }

    everything = allowed(full)
    for name, types in allowed(overrides).items():
        assert types == everything[name], name
        assert overrides.model_fields[name].default is None


def test_effective_names_the_origin_of_each_value(overlay: typing.Callable[[str], Path]) -> None:
    path = overlay("{train: {batch: 96}, recipes: {smoke: {warmup_steps: 7}}}")
    table = load_params(overlays=[path]).effective()
    assert table["train.batch"] == (96, f"override train.batch ({path})")
    assert table["train.warmup_steps"] == (7, f"recipes.smoke ({path})")
    assert table["train.learning_rate"] == (0.001, "recipes.smoke")
    assert table["model.text.heads"] == (4, "models.tiny")
    assert table["fetch.scenes.timeout"] == (2, "corpus.scenes.fetch")
    assert table["fetch.scenes.quality"] == (95, "fetch")
    assert table["launcher.tasks_per_node"] == (2, "launchers.local")
    assert table["corpora"] == (("scenes",), "selection")


def test_overlays_are_merged_key_by_key_and_the_last_wins(overlay: typing.Callable[[str], Path]) -> None:
    first = overlay("{models: {tiny: {blocks: [2, 1, 1, 1], text: {sub_layers: 1}}}, seed: 5}", "first.yaml")
    second = overlay("seed: 6", "second.yaml")
    params = load_params(overlays=[first, second])
    base = load_params()
    assert params.seed == 6
    assert params.selected_model.blocks == (2, 1, 1, 1)
    assert params.selected_model.text == base.selected_model.text.model_copy(update={"sub_layers": 1})
    assert params.models["base"] == base.models["base"]


def test_settings_cannot_be_changed_after_they_were_checked() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_params().selected_recipe.batch = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "value"), [("5e-4", 0.0005), ("1", 1.0), (".5", 0.5), ("1.5E+1", 15.0), ("010.0", 10.0)]
)
def test_numbers_are_read_as_dvc_reads_them(overlay: typing.Callable[[str], Path], text: str, value: float) -> None:
    from dvc.utils.serialize import load_yaml

    path = overlay(f"train: {{learning_rate: {text}}}")
    assert load_yaml(path)["train"]["learning_rate"] == value
    assert load_params(overlays=[path]).selected_recipe.learning_rate == value


def test_the_whole_file_is_read_as_dvc_reads_it() -> None:
    from dvc.utils.serialize import load_yaml

    from caft.params.file import read

    assert read(Path("params.yaml")) == load_yaml("params.yaml")


# ---- what is wrong: all at once


def test_all_problems_come_at_once_in_the_files_order(tmp_path: Path) -> None:
    content = yaml.safe_load(Path("params.yaml").read_text())
    content["models"]["tiny"]["heads"] = 5
    content["train"] |= {"batch": 0, "warm_up": 100}
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.raises(ParamsError) as raised:
        load_params(path)
    assert str(raised.value) == (
        f"{path}: 3 problems\n"
        "  train.batch = 0: input should be greater than 0\n"
        "  train.warm_up: unknown key; did you mean train.warmup_steps?\n"
        "  models.tiny.heads = 5: must divide the width 64"
    )


def test_types_unknown_keys_and_rules_of_an_entry_come_together_and_then_rules_between_parts(
    problems: typing.Callable[[str], list[str]],
) -> None:
    """A rule between two parts is looked at once both are valid: it shows in the second run at the latest."""
    between = "train: {batch: 49%s}, jobs: {fetsh: a100x9}, corpora: [%s], data: {fraction: 0.5}"
    wrong = between % (", learning_rate: fast", "scene") + ", models: {tiny: {heads: 5}, base: {width: x}}, storage: 3"
    assert problems(f"{{{wrong}}}") == [
        "storage = 3: input should be a valid dictionary or instance of StorageParams",
        "train.learning_rate = fast: input should be a valid number",
        "models.base.width = x: input should be a valid integer",
        "models.tiny.heads = 5: must divide the width 64",
    ]
    assert problems(f"{{{between % ('', 'scene')}}}") == [
        "corpora = scene: no such key in corpus; did you mean scenes?",
        "jobs.fetsh = a100x9: no such stage; did you mean fetch?",
        "jobs.fetsh = a100x9: no such key in launchers; did you mean a100x8?",
    ]
    assert problems(f"{{{between % ('', 'scenes')}}}") == [
        "jobs.fetsh = a100x9: no such stage; did you mean fetch?",
        "jobs.fetsh = a100x9: no such key in launchers; did you mean a100x8?",
        "train.batch = 49: must be a multiple of the world size (2); nearest are 48 and 50",
    ]


def test_a_problem_names_the_overlay_that_set_the_value(overlay: typing.Callable[[str], Path]) -> None:
    first, second = overlay("seed: -1", "first.yaml"), overlay("train: {batch: 0}", "second.yaml")
    with pytest.raises(ParamsError) as raised:
        load_params(overlays=[first, second])
    assert str(raised.value).splitlines() == [
        f"params.yaml with {first} with {second}: 2 problems",
        f"  seed = -1: input should be greater than or equal to 0 (set in {first})",
        f"  train.batch = 0: input should be greater than 0 (set in {second})",
    ]
    third = overlay("train: {batch: 3}", "third.yaml")
    with pytest.raises(ParamsError, match=rf"train\.batch = 3: must be a multiple .* 2 and 4 \(set in {third}\)$"):
        load_params(overlays=[second, third])


# ---- entries written as their differences from another


def test_an_entry_has_the_values_of_its_base_but_for_its_own(overlay: typing.Callable[[str], Path]) -> None:
    text = """
    recipe: mine
    recipes:
      paper: {eps: 2.0e-8, per_corpora: {scenes: {weight_decay: 0.3}, cc3m: {eps: 3.0e-8}}}
      mine: {base: paper, splitter: spacy, batch: 64, loss: {part: 0.5}, per_corpora: {cc3m: {clip_norm: 2.0}}}
    launchers: {one: {base: local, arithmetic: native, tasks_per_node: 1}}
    """
    path = overlay(text)
    params = load_params(overlays=[path])
    paper, mine = params.recipes["paper"], params.recipes["mine"]
    own = {"splitter": "spacy", "batch": 64, "loss": paper.loss.model_copy(update={"part": 0.5})}
    assert mine.model_dump() == paper.model_copy(update=own).model_dump()
    assert mine.per_corpora["cc3m"].model_dump(exclude_none=True) == {"eps": 3e-8, "clip_norm": 2.0}
    assert params.launchers["one"].world_size == 1
    table = params.effective()
    assert table["train.batch"] == (64, f"recipes.mine ({path})")
    assert table["train.loss.part"] == (0.5, f"recipes.mine ({path})")
    assert table["train.loss.whole"] == (1.0, "recipes.paper")
    assert table["train.eps"] == (2e-8, f"recipes.paper ({path})")
    assert table["train.weight_decay"] == (0.3, f"recipes.paper.per_corpora.scenes ({path})")


def test_what_is_wrong_in_a_base_is_told_once_where_it_is_written(problems: typing.Callable[[str], list[str]]) -> None:
    assert problems("recipes: {paper: {chunks: 9, eps: x}}") == [
        "recipes.paper.eps = x: input should be a valid number"
    ]
    assert problems("recipes: {paper: {chunks: 9}, smoke: {sub_captions: 7}}") == [
        "recipes.paper.chunks = 9: must be at most sub_captions (8)",
        "recipes.paper.chunks = 9: must be at most sub_captions (7)",
    ]
    assert problems("{recipe: release, train: {samples: 9}, recipes: {paper: {batch: 9}}}") == [
        "recipes.paper.batch = 9: must be a multiple of the world size (2); nearest are 8 and 10"
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "recipes: {mine: {base: papre}}",
            "recipes.mine.base = papre: must be an entry of recipes without a base: paper",
        ),
        (
            "recipes: {mine: {base: release}}",
            "recipes.mine.base = release: must be an entry of recipes without a base: p",
        ),
        (
            "launchers: {a: {base: a}}",
            "launchers.a.base = a: must be an entry of launchers without a base: local, a100x8",
        ),
        ("recipes: {mine: {base: paper}}", "recipes.mine: give splitter beside base: the stage index depends on this"),
        (
            "launch: mine\nlaunchers: {mine: {base: local, arithmetic: native, nodes: 1, tasks_per_node: 1}}",
            "launchers.mine: give ranks_of_run, micro_batch, compile: of the selected launcher, DVC wants each key to be there",
        ),
        ("recipes: {mine: {bsae: paper}}", "recipes.mine.bsae: unknown key; did you mean recipes.mine.base?"),
        ("models: {small: {base: tiny}}", "models.small.base: unknown key; known are image_size, patch, "),
    ],
)
def test_a_base_is_an_entry_that_stages_depend_on(
    problems: typing.Callable[[str], list[str]], text: str, line: str
) -> None:
    found = problems(text)
    assert any(problem.startswith(line) for problem in found), found


def test_a_recipe_of_all_values_is_no_base_of_others(tmp_path: Path) -> None:
    """DVC runs a stage again if the selected recipe or `paper` changes; it would not see a change of a third one."""
    content = yaml.safe_load(Path("params.yaml").read_text())
    content["recipes"]["whole"] = {**content["recipes"]["paper"]}
    content["recipes"]["mine"] = {"base": "whole", "splitter": "spacy"}
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.raises(ParamsError, match=r"recipes\.mine\.base = whole: must be paper, on which stages depend beside"):
        load_params(path)


# ---- as DVC writes it


def test_dvc_sets_every_key_and_nothing_else_and_keeps_every_comment(tmp_path: Path) -> None:
    """What `dvc exp run -S` does to the file, by DVC's own function: an anchored table would be set twice, or not."""
    from dvc.utils.hydra import apply_overrides
    from dvc.utils.serialize import load_yaml

    def comments(path: Path) -> list[str]:
        return re.findall(r"(?:^|(?<=\s))#.*", path.read_text(), re.MULTILINE)

    path = tmp_path / "params.yaml"
    path.write_bytes(Path("params.yaml").read_bytes())
    given = dict(flat(load_yaml(path)))
    values = {key: f"value-{number}" for number, key in enumerate(given)}
    # Hydra would take a plus sign in a key for its own.
    quoted = [f"{key}={value}" for key, value in values.items() if "+" not in key]
    apply_overrides(path, quoted)
    expected = {key: given[key] if "+" in key else value for key, value in values.items()}
    assert dict(flat(load_yaml(path))) == expected
    assert len(given) > 300 and len(quoted) == len(given) - sum("+" in key for key in given)
    assert comments(path) == comments(Path("params.yaml")) and len(comments(path)) > 100


GRAPHS = [
    "dvc.yaml",
    *(f"pipelines/{name}/dvc.yaml" for name in ("ablation", "batches", "scaling", "scaling/paper", "score")),
]


@pytest.mark.parametrize("graph", GRAPHS)
def test_a_stage_that_depends_on_the_selected_recipe_depends_on_its_base(graph: str) -> None:
    stages = yaml.safe_load(Path(graph).read_text())["stages"].values()
    keys = [set(stage.get("do", stage).get("params", [])) for stage in stages]
    assert any("recipes.${recipe}" in some for some in keys)
    assert not [some for some in keys if "recipes.${recipe}" in some and "recipes.paper" not in some]
    # `give splitter beside base`: the one key of a recipe that a stage depends on alone.
    assert {key for some in keys for key in some if key.startswith("recipes.${recipe}.")} <= {
        "recipes.${recipe}.splitter"
    }


@pytest.mark.parametrize("recipe", ["paper", "release"])
def test_dvc_runs_train_again_after_a_change_of_the_selected_recipe_or_its_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    from dvc.repo import Repo
    from dvc.utils.hydra import apply_overrides
    from dvc.utils.serialize import load_yaml

    train = yaml.safe_load(Path("dvc.yaml").read_text())["stages"]["train"]
    stage = {"cmd": "echo trained > weights", "params": train["params"], "outs": ["weights"]}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"train": stage}}))
    path = tmp_path / "params.yaml"
    content = load_yaml("params.yaml") | {"recipe": recipe, "benchmarks": {}}
    path.write_text(yaml.safe_dump(content))
    monkeypatch.chdir(tmp_path)
    Repo.init(no_scm=True).close()

    def status(*changes: str) -> dict[str, Any]:
        if changes:
            apply_overrides(path, list(changes))
        with Repo() as repo:
            found = repo.status()
            repo.reproduce()
            return found

    assert status()
    assert status("recipes.paper.eps=2.0e-8") == {
        "train": [{"changed deps": {"params.yaml": {"recipes.paper": "modified"}}}]
    }
    assert status("launchers.local.workers=2", "recipes.smoke.batch=4", "corpus.cc3m.csv=other") == {}
    assert bool(status("recipes.release.precision=bf16")) == (recipe == "release")
    assert status("launchers.local.ranks_of_run=1") and not status("launchers.a100x8.ranks_of_run=1")
    assert status("launchers.local.micro_batch=12") and not status("launchers.a100x8.micro_batch=16")
    assert status("launchers.local.compile=true") and not status("launchers.a100x32.compile=true")


def test_a_selection_that_is_edited_while_dvc_runs_leaves_no_result_of_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC looks the selection up when it starts; an earlier stage of the same `dvc repro` takes its time."""
    from dvc.repo import Repo

    train = yaml.safe_load(Path("dvc.yaml").read_text())["stages"]["train"]
    text = Path("params.yaml").read_text()
    assert "\nmodel: tiny " in text
    stages = {
        "before": {"cmd": "sed -i 's/^model: tiny /model: base /' params.yaml; echo 1 > first", "outs": ["first"]},
        "train": {"cmd": "grep ^model: params.yaml > weights", "deps": ["first"], "params": train["params"]},
    }
    stages["train"]["outs"] = ["weights"]
    monkeypatch.chdir(tmp_path)
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    Path("params.yaml").write_text(text)
    Repo.init(no_scm=True).close()
    with Repo() as repo:
        repo.reproduce()
    assert Path("weights").read_text().startswith("model: base ")
    Path("params.yaml").write_text(text)  # the selection that DVC had looked up
    with Repo() as repo:
        assert "train" in repo.status()


# ---- what is wrong: one by one


@pytest.mark.parametrize(
    ("text", "line"),
    [
        # stages as jobs
        (
            "jobs: {fetch: a100x8}",
            "jobs.fetch = a100x8: must have one rank on each node, found 8: the stage would ",
        ),
        ("jobs: {index: a100x32}", "jobs.index = a100x32: must have one rank in all, found 32: the stage would run in"),
        ("jobs: {fetch: local}", "jobs.fetch = local: must have one rank in all, found 2: the stage would run in each"),
        ("jobs: {fetch: gpu}", "jobs.fetch = gpu: no such key in launchers; known are local, a100x8, a100x32"),
        (
            "jobs: {fetsh: local}\nlaunchers: {local: {tasks_per_node: 1}}",
            "jobs.fetsh = local: no such stage; did you mean fetch?",
        ),
        # unknown keys
        ("train: {warm_up: 3}", "train.warm_up: unknown key; did you mean train.warmup_steps?"),
        ("batch_size: 3", "batch_size: unknown key; did you mean train.batch?"),
        ("corpra: [cc3m]", "corpra: unknown key; did you mean corpora?"),
        (
            "models: {tiny: {text: {widht: 3}}}",
            "models.tiny.text.widht: unknown key; did you mean models.tiny.text.width?",
        ),
        ("corpus: {scenes: {prot: 9000}}", "corpus.scenes.prot: unknown key; did you mean corpus.scenes.port?"),
        (
            "corpus: {cc3m: {port: 9000}}",
            "corpus.cc3m.port: unknown key; known are kind, csv, packed, expected_images, ",
        ),
        (
            "corpus: {cc3m: {fetch: {timeuot: 9}}}",
            "corpus.cc3m.fetch.timeuot: unknown key; did you mean corpus.cc3m.fetch.timeout?",
        ),
        (
            "evaluation: {xyz: 1}",
            "evaluation.xyz: unknown key; known are blend, blend_space, membership, box_mode, rerank, batch",
        ),
        # names
        ("model: tinny", "model = tinny: no such key in models; did you mean tiny?"),
        ("recipe: papers", "recipe = papers: no such key in recipes; did you mean paper?"),
        ("launch: gpu", "launch = gpu: no such key in launchers; known are local, a100x8, a100x32"),
        ("corpora: [cc3m, yfcc]", "corpora = yfcc: no such key in corpus; did you mean yfcc15m?"),
        ("corpora: [cc3m, cc3m]", "corpora = [cc3m, cc3m]: names cc3m twice"),
        ("corpora: []", "corpora = []: tuple should have at least 1 item after validation, not 0"),
        # types
        ("seed: 1.5", "seed = 1.5: input should be a valid integer"),
        ("seed: yes", "seed = yes: input should be a valid integer"),
        ("seed: true", "seed = true: input should be a valid integer"),
        ("model: 3", "model = 3: input should be a valid string"),
        ("corpora: scenes", "corpora = scenes: input should be a valid tuple"),
        ("fetch: null", "fetch = null: input should be a valid dictionary or instance of FetchParams"),
        ("train: {learning_rate: '3'}", "train.learning_rate = 3: input should be a valid number"),
        ("recipes: {paper: {betas: [0.9]}}", "recipes.paper.betas.1: field required"),
        (
            "recipes: {paper: {betas: [0.9, 0.9, 0.9]}}",
            "recipes.paper.betas = [0.9, 0.9, 0.9]: tuple should have at most 2 items after validation, not 3",
        ),
        ("recipes: {mine: {batch: 3}}", "recipes.mine.epochs: field required"),
        ("train: {negatives: some}", "train.negatives = some: input should be 'sampled' or 'all'"),
        (
            "corpus: {mine: {kind: csv}}",
            "corpus.mine: input tag 'csv' found using 'kind' does not match any of the expected tags: 'recaption', 'custom', ",
        ),
        ("corpus: {mine: {csv: list.csv}}", "corpus.mine: unable to extract tag using discriminator 'kind'"),
        # ranges
        ("fetch: {timeout: 0}", "fetch.timeout = 0: input should be greater than 0"),
        (
            "corpus: {scenes: {fetch: {timeout: -2}}}",
            "corpus.scenes.fetch.timeout = -2: input should be greater than 0",
        ),
        (
            "fetch: {timeout_total: 1200}",
            "fetch.timeout_total = 1200: timeout_total (1200) must be at least timeout (10) and less than 600",
        ),
        (
            "fetch: {timeout_total: 600}",
            "fetch.timeout_total = 600: timeout_total (600) must be at least timeout (10) and less than 600",
        ),
        (
            "fetch: {timeout: 61}",
            "fetch.timeout_total = 60: timeout_total (60) must be at least timeout (61) and less than 600",
        ),
        (
            "corpus: {scenes: {fetch: {timeout: 61}}}",
            "corpus.scenes.fetch.timeout = 61: timeout_total (60) must be at least timeout (61) and less than 600",
        ),
        (
            "corpus: {cc3m: {fetch: {timeout_total: 9}}}",
            "corpus.cc3m.fetch.timeout_total = 9: timeout_total (9) must be at least timeout (10) and less than 600",
        ),
        ("fetch: {quality: 101}", "fetch.quality = 101: input should be less than or equal to 100"),
        ("corpus: {scenes: {port: 80}}", "corpus.scenes.port = 80: input should be greater than or equal to 1024"),
        ("evaluation: {blend: [0.3, 1.5]}", "evaluation.blend.1 = 1.5: input should be less than or equal to 1"),
        ("train: {learning_rate: 0}", "train.learning_rate = 0: input should be greater than 0"),
        ("train: {learning_rate: .inf}", "train.learning_rate = inf: input should be a finite number"),
        ("train: {warmup_steps: -1}", "train.warmup_steps = -1: input should be greater than or equal to 0"),
        ("launchers: {local: {time_minutes: 0}}", "launchers.local.time_minutes = 0: input should be greater than 0"),
        # rules of a model
        ("models: {tiny: {heads: 5}}", "models.tiny.heads = 5: must divide the width 64"),
        ("models: {tiny: {text: {heads: 3}}}", "models.tiny.text.heads = 3: must divide the width 64"),
        ("models: {tiny: {grounding: {heads: 3}}}", "models.tiny.grounding.heads = 3: must divide the width 64"),
        (
            "models: {tiny: {image_size: 68}}",
            "models.tiny.image_size = 68: must be a multiple of superpixels.cell (8); nearest are 64 and 72",
        ),
        (
            "models: {tiny: {tokens: [49, 32, 16, 8]}}",
            "models.tiny.tokens = [49, 32, 16, 8]: must start with the superp",
        ),
        (
            "models: {tiny: {tokens: [64, 32, 32, 8]}}",
            "models.tiny.tokens = [64, 32, 32, 8]: must fall from stage to stage",
        ),
        ("models: {tiny: {blocks: [1, 1, 1]}}", "models.tiny.blocks = [1, 1, 1]: needs one for each of the 4 stages"),
        ("models: {tiny: {part_stage: 5}}", "models.tiny.part_stage = 5: must be between 1 and the 4 stages"),
        (
            "models: {tiny: {stem: {strides: [4, 1]}}}",
            "models.tiny.stem.strides = [4, 1]: needs one for each of 3 channels",
        ),
        # rules of a recipe
        (
            "recipes: {smoke: {epochs: 3}}",
            "recipes.smoke.samples = 60000: give exactly one of epochs (found 3) and samples",
        ),
        ("recipes: {smoke: {samples: null}}", "recipes.smoke.samples = null: give exactly one of epochs (found None)"),
        ("recipes: {paper: {chunks: 9}}", "recipes.paper.chunks = 9: must be at most sub_captions (8)"),
        ("recipes: {smoke: {crop_scale: [1.0, 0.5]}}", "recipes.smoke.crop_scale = [1.0, 0.5]: must rise"),
        (
            "recipes: {smoke: {loss: {part: 0, part_cls: 0, whole: 0}}}",
            "recipes.smoke.loss = all weights 0: at least one term needs a weight",
        ),
        ("train: {sub_captions: 3}", "train.sub_captions = 3: must be at least the recipe's chunks (4)"),
        ("train: {samples: 40}", "train.samples = 40: holds no batch; must be at least train.batch (48)"),
        # what corpora change in a recipe
        (
            "recipes: {paper: {per_corpora: {cc3m: {learning_rte: 1.0}}}}",
            "recipes.paper.per_corpora.cc3m.learning_rte: unknown key; did you mean recipes.paper.per_corpora.cc3m.le",
        ),
        (
            "recipes: {paper: {per_corpora: {cc3m: {eps: 0}}}}",
            "recipes.paper.per_corpora.cc3m.eps = 0: input should be greater than 0",
        ),
        (
            "recipes: {paper: {per_corpora: {cc3m+cc21m: {eps: 1}}}}",
            "recipes.paper.per_corpora = cc3m+cc21m: cc21m is no key in corpus; did you mean cc12m?",
        ),
        (
            "recipes: {paper: {per_corpora: {cc3m+cc3m: {eps: 1}}}}",
            "recipes.paper.per_corpora = cc3m+cc3m: names a corpus twice",
        ),
        (
            "recipes: {paper: {per_corpora: {yfcc15m+cc3m+cc12m: {eps: 1}}}}",
            "recipes.paper.per_corpora = yfcc15m+cc3m+cc12m: names the same corpora as cc3m+cc12m+yfcc15m",
        ),
        # rules of a launcher, and with it
        ("launchers: {local: {nodes: 2}}", "launchers.local.nodes = 2: must be 1 where executor is local"),
        ("launchers: {a100x8: {gpus_per_node: 4}}", "launchers.a100x8.gpus_per_node = 4: must be 0 or one a task (8)"),
        ("launchers: {a100x8: {slurm: null}}", "launchers.a100x8.slurm = null: must be given where executor is slurm"),
        (
            "launchers: {local: {slurm: {notice_seconds: 9, time_limits: 1, deadline_hours: 1}}}",
            "launchers.local.slurm = given: only where executor is slurm",
        ),
        (
            "launchers: {a100x8: {time_minutes: 3}}",
            "launchers.a100x8.time_minutes = 3: must be at least 4, for a notice 120 seconds before the end "
            "(slurm.notice_seconds), 60 seconds of start, 30 by which Slurm may be early",
        ),
        (
            "launchers: {a100x8: {time_minutes: 2, slurm: {notice_seconds: 31}}}",
            "launchers.a100x8.time_minutes = 2: must be at least 3",
        ),
        (
            "launchers: {a100x8: {slurm: {sbatch: [exclusive]}}}",
            "launchers.a100x8.slurm.sbatch = exclusive: must be an option of sbatch, as --exclusive or ",
        ),
        (
            "launchers: {a100x8: {slurm: {qs: high}}}",
            "launchers.a100x8.slurm.qs: unknown key; did you mean launchers.a100x8.slurm.qos?",
        ),
        ("train: {batch: 1}", "train.batch = 1: must be a multiple of the world size (2); nearest is 2"),
        (
            "{launch: a100x8, recipes: {smoke: {batch: 50}}}",
            "recipes.smoke.batch = 50: must be a multiple of the world size (8); nearest are 48 and 56",
        ),
    ],
)
def test_a_problem_says_key_value_reason_and_cure(
    problems: typing.Callable[[str], list[str]], text: str, line: str
) -> None:
    found = problems(text)
    assert any(problem.startswith(line) for problem in found), found


NAME = "no name for a corpus; expected up to 64 of a-z, A-Z, 0-9, _ and -, the first no -"


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "small.rejects",
        "my corpus",
        "-x",
        "a/b",
        "a\\b",
        "",
        "a+b",
        "é",
        "x;ls",
        "$HOME",
        "a\nb",
        "x" * 65,
        "@a",
    ],
)
def test_a_corpus_name_that_is_none_for_a_file_is_refused(overlay: typing.Callable[[str], Path], name: str) -> None:
    entry = {"kind": "custom", "table": "t.csv", "expected_images": 1}
    path = overlay(yaml.safe_dump({"corpus": {name: entry}}))
    with pytest.raises(ParamsError) as raised:
        load_params(overlays=[path])
    (line,) = str(raised.value).splitlines()[1:]
    assert line.startswith("  corpus") and NAME in line and name[:57] in line.replace("\\\\", "\\").replace("\\n", "\n")


@pytest.mark.parametrize("name", ["mine", "cc3m-small", "_x", "3m", "A_b-C", "x" * 64])
def test_other_corpus_names_are_taken(overlay: typing.Callable[[str], Path], name: str) -> None:
    entry = {"kind": "custom", "table": "t.csv", "expected_images": 1}
    assert name in load_params(overlays=[overlay(yaml.safe_dump({"corpus": {name: entry}}))]).corpus


def test_a_corpus_may_not_take_the_place_of_an_evaluation_set(problems: typing.Callable[[str], list[str]]) -> None:
    found = problems("corpus: {docci: {kind: custom, table: t.csv, expected_images: 1}}")
    assert found == ["corpus = docci: no name for a corpus: the evaluation set docci is in data/benchmarks/docci"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"train: [1", r"bad\.yaml:1:10: expected ',' or '\]'"),
        (b"seed: 1\nmodel: a\nseed: 2\n", r'bad\.yaml:3:1: found duplicate key "seed"'),
        (b"train: {batch: 1, batch: 2}", r'bad\.yaml:1:19: found duplicate key "batch"'),
        (b"train: {1: 2}", r"train\.1 = 1: keys should be strings"),
        (b"", r"bad\.yaml: must be a table of keys and values; found nothing"),
        (b"- 1", r"bad\.yaml: must be a table of keys and values; found a list"),
        (b"seed: \xff", r"bad\.yaml: is no UTF-8 text: byte 6 is 0xff"),
        (b"\tseed: 1", r"bad\.yaml:1:1: found character '\\t' that cannot start any token"),
    ],
)
def test_a_file_that_is_no_settings_file_gives_one_clear_error(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(ParamsError, match=message):
        load_params(path)
    with pytest.raises(ParamsError, match=message):
        load_params(overlays=[path])


def test_a_missing_file_and_a_folder_say_so(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"none\.yaml: not found; run from the project's folder, or give --params"):
        load_params(tmp_path / "none.yaml")
    with pytest.raises(ParamsError, match="cannot be read: Is a directory"):
        load_params(tmp_path)


# ---- what is allowed and rarely meant


def test_a_batch_that_leaves_few_steps_is_accepted_with_a_warning(
    overlay: typing.Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    params = load_params(overlays=[overlay("train: {batch: 2048}")])
    assert params.selected_recipe.steps(images=4000) == 29
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        "train.warmup_steps = 50: more than a third of the 29 steps that batches of 2048 leave; "
        "lower it, or raise train.samples"
    ]


def test_the_embedded_default_warns_of_nothing(caplog: pytest.LogCaptureFixture) -> None:
    params: Params = load_params()
    params.selected_recipe.steps(images=4000)
    assert not caplog.records


def test_a_budget_in_epochs_without_a_batch_is_an_error_when_the_images_are_counted() -> None:
    recipe = load_params().recipes["paper"]
    with pytest.raises(ParamsError, match="the budget of 1280 samples holds no batch; largest batch is 1280"):
        recipe.steps(images=40)


def test_half_precision_without_a_gpu_is_a_warning(
    overlay: typing.Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    load_params(overlays=[overlay("recipe: release")])
    assert "recipes.release.precision = fp16: launchers.local has no GPU, so float32 is used" in caplog.messages


# ---- the commands


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *map(str, arguments)], capture_output=True, text=True, cwd=PROJECT)


def test_command_prints_values_with_their_origin(overlay: typing.Callable[[str], Path]) -> None:
    done = command("pipelines.params", "--overlay", overlay("train: {batch: 96}", "b.yaml"))
    assert done.returncode == 0
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}
    assert rows["key"] == ["value", "origin"]
    assert rows["train.batch"][:3] == ["96", "override", "train.batch"]
    assert rows["train.splitter"] == ["spacy", "recipes.smoke"]
    assert rows["train.crop_scale"] == ["null", "recipes.smoke"]


def test_command_prints_the_difference_of_two_recipes() -> None:
    done = command("pipelines.params", "--compare", "paper", "release")
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[0] == ["key", "paper", "release"]
    assert {"precision", "loss.part_cls", "whole_scale_max", "balanced_rule"} <= {row[0] for row in rows[1:]}
    assert ["clip_norm", "on", "cc12m", "null", "1.0"] in rows
    assert ["loss.part_cls", "0.0", "1.0"] in rows
    wrong = command("pipelines.params", "--compare", "paper", "peper")
    assert wrong.returncode == 2 and "no such recipe; known are paper, release, smoke, finetune" in wrong.stderr


def test_a_stage_prints_the_problems_without_a_traceback_and_exits_with_2(
    overlay: typing.Callable[[str], Path],
) -> None:
    path = overlay("train: {batch: 3}")
    done = command("pipelines.select", "--overlay", path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: params.yaml with {path}: 1 problem\n  train.batch = 3: must be")
    assert "Traceback" not in done.stderr and done.stdout == ""


def test_a_stage_of_an_unknown_corpus_names_the_known_ones() -> None:
    done = command("pipelines.captions", "cc4m")
    assert done.returncode == 2
    assert (
        "error: params.yaml: corpus 'cc4m' is not in the table; known are cc3m, cc12m, yfcc15m, scenes" in done.stderr
    )
