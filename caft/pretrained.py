"""Saving and loading models as safetensors with a card beside them; importing SFCN's published weights."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from caft.errors import CheckpointError
from caft.model import CAFT
from caft.params import ModelParams
from caft.vision.superpixels import SFCN

# Heads of the published SFCN file that its forward pass does not use.
_UNUSED_HEADS = ("pred_mask1.", "pred_mask2.", "pred_mask3.")


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
    """Loads a model that `save_model` wrote, on the CPU and in evaluation mode.

    Args:
        path: A `.safetensors` file with its card, the same name with `.json`, beside it.

    Returns:
        The model; its `card` says how it was trained.

    Raises:
        CheckpointError: A file is missing or damaged, or the weights do not fit the card.
    """
    path = Path(path)
    card = read_card(path)
    model = CAFT(ModelParams.model_validate(card["model"], strict=False), card["chunks"])
    fill(model, read_weights(path), path)
    model.card = card
    return model.eval()


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


def fill(module: nn.Module, state: dict[str, Tensor], source: Path) -> None:
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
        raise CheckpointError(f"{source}: {len(problems)} weights do not fit the model\n  " + "\n  ".join(problems))
    module.load_state_dict(state)


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
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds here; all mean that this is no such file
        raise CheckpointError(f"{path}: cannot be read as a torch checkpoint ({error})") from error
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: expected a dict with a state_dict, found {type(content).__name__}")
    state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    network = SFCN()
    fill(network, {name: t for name, t in state.items() if not name.startswith(_UNUSED_HEADS)}, path)
    return network.eval()
