"""Given weights: which file a setting names, what it is, and the model in it. Nothing here was trained by this project's run.

A setting is a path, a name on a model hub (`caft.weights.hub`), or `open_clip:<architecture>/<path or tag>`. In front may
stand the size of the training data as the paper's Figure 5 has it, `30M:/path/x.pt`, where neither the file's name nor its
card says it.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from caft.adapters.open_clip_baseline import PREFIX, OpenClipBaseline, load_open_clip
from caft.digests import file_digest, tensors_digest
from caft.errors import CheckpointError, ParamsError
from caft.model.card import ModelCard
from caft.model.model import Model
from caft.model.protocols import RetrievalModel
from caft.params import Params
from caft.weights import hub
from caft.weights.authors import AUTHORS_READING
from caft.weights.checkpoints import read_checkpoint
from caft.weights.files import read_card
from caft.weights.flair import FLAIR, FLAIR_READING
from caft.weights.load import from_flair, from_release, load
from caft.weights.networks import require_kind

# Of Figure 5, by the corpora of a card.
SIZES = {("cc3m",): "3M", ("cc12m",): "12M", ("yfcc15m",): "15M", ("cc12m", "cc3m", "yfcc15m"): "30M"}
_SIZE = re.compile(rf"({'|'.join(SIZES.values())}):(.+)")
_IN_NAME = re.compile(r"(?<!\d)(3|12|15|30)m(?![a-z0-9])")


@dataclass(frozen=True)
class Given:
    """What the stage `weights` writes of a file."""

    name: str  # of the file, without its folder; of a hub's NAME alone, that; or what followed `open_clip:`
    sha256: str  # of the file; for weights that a library fetches, of its tensors
    kind: str  # caft_release, flair_release, caft (this project's) or open_clip
    size: str | None  # of the training data: 3M, 12M, 15M or 30M; None where nothing says it
    card: str | None = None  # SHA-256 of the card beside this project's weights, which says how captions are read


def settings_of(params: Params) -> list[str]:
    """The weights that are to be scored, at least one.

    Raises:
        ParamsError: No weights are given, or the same are named twice.
    """
    given = params.weights
    found = [given] if isinstance(given, str) else list(given or ())
    if not found:
        raise ParamsError(
            "weights = null: no weights are given; set weights in params.yaml to the path of a file, or run "
            "`dvc exp run -S weights=/path/x.pt -S model=base -S recipe=release pipelines/score/dvc.yaml`"
        )
    if twice := [setting for setting in found if found.count(setting) > 1]:
        raise ParamsError(f"weights: {twice[0]} is named twice")
    return found


def describe_weights(setting: str) -> Given:
    """Name, digest and kind of given weights.

    Raises:
        CheckpointError: The file is missing, damaged, or none of the known kinds.
    """
    size, place = _split(setting)
    if place.startswith(PREFIX):
        model = load_open_clip(place)
        return Given(place.removeprefix(PREFIX).rsplit("/", 1)[-1], _digest(place, model), "open_clip", size)
    path = _present(place)
    name = _name(place, path)
    kind = "caft" if path.suffix == ".safetensors" else require_kind(read_checkpoint(path), path)
    if kind == "caft":
        corpora = tuple(sorted(corpus.name for corpus in read_card(path).data))
        size = size or SIZES.get(corpora) or _size_in(name)
        return Given(name, file_digest(path), "caft", size, file_digest(path.with_suffix(".json")))
    return Given(name, file_digest(path), kind, size or _size_in(name))


def load_given(setting: str, params: Params, expected: dict[str, Any]) -> RetrievalModel:
    """The model of given weights, on the CPU.

    A published file has the sizes of the selected model, and how captions are read is the selected recipe's; a model of
    this project brings both. The card has name, digest, kind and size of the data, as `expected`, what the stage
    `weights` wrote of the file, and as fingerprint the digest's beginning.

    Raises:
        CheckpointError: The file is missing, damaged, has changed since, or is of other sizes.
    """
    _, place = _split(setting)
    recipe = params.selected_recipe
    model: Model | OpenClipBaseline
    if place.startswith(PREFIX):
        model = theirs = load_open_clip(place)
        digest = _digest(place, theirs)
    else:
        path = _present(place)
        digest = file_digest(path)
        model = load(path) if expected["kind"] == "caft" else _published(read_checkpoint(path), path, params)
    if digest != expected["sha256"]:
        raise CheckpointError(
            f"{place}: has changed since the stage weights read it; run `dvc repro pipelines/score/dvc.yaml` again"
        )
    facts = _facts(expected)
    if expected["kind"] != "caft":
        facts["splitter"] = recipe.splitter
        if expected["kind"] == "caft_release":
            facts["balanced_rule"] = recipe.balanced_rule
    return replace(model, card=model.card.model_copy(update=facts))


def card_of(setting: str, described: dict[str, Any], params: Params) -> ModelCard:
    """The card that `load_given` gives the model, as far as it can be told without loading the weights."""
    if described["kind"] == "caft":
        card = read_card(_present(_split(setting)[1]))
    elif described["kind"] == "flair_release":
        card = ModelCard(model=FLAIR, **FLAIR_READING)
    else:
        card = ModelCard(model=params.selected_model, **AUTHORS_READING)
    return card.model_copy(update=_facts(described))


def _facts(described: dict[str, Any]) -> dict[str, Any]:
    facts = {key: described[key] for key in ("name", "kind", "size")}
    digest = described["sha256"]
    return {**facts, "external": digest, "fingerprint": digest[:16], "source": described["name"]}


def _published(state: dict[str, Tensor], path: Path, params: Params) -> Model:
    if require_kind(state, path) == "flair_release":
        return from_flair(state, str(path), FLAIR, copy=False)
    sizes, found = params.selected_model, state.get("visual.cls_token")
    if found is not None and (found.shape[-1] != sizes.width or sizes.stem is None):
        raise CheckpointError(
            f"{path}: is a release of CAFT of width {found.shape[-1]}, the selected model {params.model} is another "
            f"(width {sizes.width}); add `-S model=base` for the authors' files"
        )
    return from_release(state, str(path), sizes, copy=False)


def _split(setting: str) -> tuple[str | None, str]:
    match = _SIZE.fullmatch(setting)
    return (match[1], match[2]) if match else (None, setting)


def _size_in(name: str) -> str | None:
    sizes = {f"{found}M" for found in _IN_NAME.findall(name.lower())}
    return sizes.pop() if len(sizes) == 1 else None


def _name(place: str, path: Path) -> str:
    is_default = hub.is_hub_name(place) and (found := hub.parse(place)).file == hub.WEIGHTS
    return found.repository.rpartition("/")[2] if is_default else path.name


def _present(place: str) -> Path:
    if hub.is_hub_name(place):
        return hub.fetch(place)
    path = Path(place).expanduser()
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "not found"
        raise CheckpointError(f"weights = {place}: {what}; give the path of a file of weights")
    return path


def _digest(place: str, model: OpenClipBaseline) -> str:
    """Of the file, or of the tensors where a library knows the file."""
    path = Path(place.removeprefix(PREFIX).partition("/")[2]).expanduser()
    if path.is_file():
        return file_digest(path)
    return tensors_digest(sorted(model.network.inner.state_dict().items()))
