"""Saving and loading models as safetensors with a card beside them; importing the published weights."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from caft.digests import file_digest
from caft.errors import CheckpointError
from caft.network.caft import CAFT
from caft.network.vision.superpixels import SFCN
from caft.params import ModelParams
from caft.weights import flair as release_flair
from caft.weights.authors import RELEASED, RELEASED_CAPTIONS, UNUSED_HEADS, convert
from caft.weights.flair import FLAIR, is_flair


def save_model(module: nn.Module, path: Path, card: dict[str, Any]) -> None:
    """Writes weights to `path` and the card to the same name with `.json`, each complete or not at all.

    Args:
        module: Its whole state is saved.
        path: A `.safetensors` file.
        card: How to build the model, and what it was trained on.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.contiguous() for name, tensor in module.state_dict().items()}
    temporary = path.with_suffix(".tmp")
    save_file(state, temporary)
    os.replace(temporary, path)
    temporary.write_text(json.dumps(card, indent=1, sort_keys=True) + "\n")
    os.replace(temporary, path.with_suffix(".json"))


def load(path: str | Path) -> CAFT:
    """Loads a model on the CPU and in evaluation mode: one that `save_model` wrote, or a published file.

    Args:
        path: A `.safetensors` file with its card, the same name with `.json`, beside it; with any other ending, the
            authors' checkpoint (see `from_release`) or FLAIR's (see `from_flair`).

    Returns:
        The model; its `card` says how it was trained.

    Raises:
        CheckpointError: A file is missing or damaged, or the weights do not fit.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        state = read_checkpoint(path)
        model = (from_flair if is_flair(state) else from_release)(state, str(path))
        model.card["fingerprint"] = file_digest(path)[:16]
        return model
    card = read_card(path)
    model = _without_values(ModelParams.model_validate(card["model"], strict=False), card["chunks"])
    fill(model, read_weights(path), path)
    model.card = card
    return model.eval()


def from_release(
    state_dict: Mapping[str, Tensor], source: str = "the release's state dict", config: ModelParams = RELEASED
) -> CAFT:
    """CAFT with the weights that the paper's authors released.

    Position encodings and the class token's zero position are fixed: they must have their value, and are dropped. So
    are SFCN's three unused heads. The card says how the release reads captions. One thing is not taken over: the
    release un-normalises SFCN's input with other statistics than it was normalised with, here SFCN sees the picture.

    Args:
        state_dict: Tensors by the release's names; a prefix `module.` is dropped.
        source: What error messages call it.
        config: Sizes; the released model's.

    Returns:
        The model in evaluation mode; it shares no memory with `state_dict`.

    Raises:
        CheckpointError: Lists each name that is missing, unexpected, of another shape, or fixed and of another value.
    """
    model = _without_values(config, RELEASED_CAPTIONS["chunks"])
    state = {name.removeprefix("module."): tensor for name, tensor in state_dict.items()}
    weights, problems = convert(state, model.state_dict(), config)
    if problems:
        raise _misfit(source, problems)
    fill(model, weights, source)
    model.card = {"model": config.model_dump(mode="json"), **RELEASED_CAPTIONS, "source": source}
    return model.eval()


def from_flair(
    state_dict: Mapping[str, Tensor], source: str = "FLAIR's state dict", config: ModelParams = FLAIR
) -> CAFT:
    """FLAIR, the baseline, with its published weights; a long caption is one text, cut at 77 tokens, as its own scripts.

    Args:
        state_dict: Tensors by FLAIR's names.
        source: What error messages call it.
        config: Sizes; the published model's.

    Returns:
        The flat model in evaluation mode; it shares no memory with `state_dict`.

    Raises:
        CheckpointError: Lists each name that is missing, unexpected or of another shape.
    """
    model = _without_values(config, 1)
    weights, problems = release_flair.convert(state_dict, model.state_dict(), config)
    if problems:
        raise _misfit(source, problems)
    fill(model, weights, source)
    reading = {"chunks": 1, "splitter": "dreamlip", "balanced_rule": "paper"}
    model.card = {"model": config.model_dump(mode="json"), **reading, "source": source}
    return model.eval()


def _without_values(config: ModelParams, chunks: int) -> CAFT:
    """A model whose weights are all still to be given, which saves drawing a hundred million start values."""
    with torch.device("meta"):
        return CAFT(config, chunks)


def read_card(path: Path) -> dict[str, Any]:
    """The card beside a weights file.

    Raises:
        CheckpointError: It is missing or no JSON object.
    """
    card_path = path.with_suffix(".json")
    try:
        card = json.loads(card_path.read_text())
    except FileNotFoundError:
        raise CheckpointError(
            f"{card_path}: not found; a model is two files, weights and card. "
            "`dvc repro train` makes both; `dvc pull` fetches them"
        ) from None
    except json.JSONDecodeError as error:
        raise CheckpointError(
            f"{card_path}: is no JSON ({error}); restore the file that came with the weights"
        ) from None
    if not isinstance(card, dict):
        raise CheckpointError(f"{card_path}: expected a JSON object, found {type(card).__name__}")
    return card


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file.

    Raises:
        CheckpointError: The file is missing or damaged.
    """
    try:
        return load_file(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: not found; `dvc repro` makes it") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: is no whole safetensors file ({error}); make or fetch it again") from None


def fill(module: nn.Module, state: Mapping[str, Tensor], source: str | Path) -> None:
    """Puts weights into a module; every name and shape must fit.

    Raises:
        CheckpointError: Lists each name that is missing, unexpected or of another shape.
    """
    own = module.state_dict()
    problems = [f"missing {name}" for name in own if name not in state]
    problems += [f"unexpected {name}" for name in state if name not in own]
    problems += [
        f"{name}: found {tuple(state[name].shape)}, expected {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    if problems:
        raise _misfit(source, problems)
    # Assigned, since the module may have been built without values.
    module.load_state_dict({name: state[name].to(own[name].dtype) for name in own}, assign=True)


def _misfit(source: str | Path, problems: list[str]) -> CheckpointError:
    return CheckpointError(f"{source}: {len(problems)} weights do not fit the model\n  " + "\n  ".join(problems))


def sfcn_from_checkpoint(path: str | Path) -> SFCN:
    """SFCN with the weights of the published BSDS checkpoint (`SpixelNet_bsd_ckpt.tar`, a torch file).

    Args:
        path: The file, a dict with a `state_dict`; a `module.` prefix is dropped.

    Returns:
        The network in evaluation mode.

    Raises:
        CheckpointError: The file cannot be read, or a weight does not fit.
    """
    path = Path(path)
    state = read_checkpoint(path)
    network = SFCN()
    fill(network, {name: t for name, t in state.items() if not name.startswith(UNUSED_HEADS)}, path)
    return network.eval()


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint in torch's format, which lie in it as they are or under `state_dict`.

    A prefix `module.`, which training over several processes leaves, is dropped.

    Raises:
        CheckpointError: The file is missing, damaged, or holds something else.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: not found; give the path of the downloaded file") from None
    except Exception as error:  # torch raises many kinds here; all mean that this is no such file
        reason = str(error).strip().split("\n")[0]
        raise CheckpointError(f"{path}: cannot be read as a torch checkpoint ({reason}); fetch it again") from error
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise CheckpointError(f"{path}: expected a dict of tensors, or one under state_dict; found {_kinds(content)}")
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def _kinds(content: object) -> str:
    if not isinstance(content, dict):
        return type(content).__name__
    return "a dict of " + ", ".join(f"{key} ({type(value).__name__})" for key, value in list(content.items())[:8])
