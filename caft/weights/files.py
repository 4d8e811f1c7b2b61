"""Weights and cards in files: safetensors with a `.json` beside it, and torch's checkpoints. Knows no model."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from caft.errors import CheckpointError
from caft.model.card import ModelCard
from caft.storage import replacing


def save_model(module: nn.Module, path: Path, card: ModelCard | Mapping[str, Any]) -> None:
    """Writes weights to `path` and the card to the same name with `.json`, each complete or not at all.

    The path ends in `.safetensors`. Weights of a module that is no model have a mapping of facts in place of a card.
    """
    state = {name: tensor.contiguous() for name, tensor in module.state_dict().items()}
    with replacing(path) as temporary:
        save_file(state, temporary)
    record = card.record() if isinstance(card, ModelCard) else card
    with replacing(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")


def read_card(path: Path) -> ModelCard:
    """The card beside a weights file.

    Raises:
        CheckpointError: It is missing, or not a model's card.
    """
    card_path = path.with_suffix(".json")
    try:
        # As Python's values: a strict reading would refuse lists for tuples.
        return ModelCard.model_validate(json.loads(card_path.read_text()), strict=False)
    except FileNotFoundError:
        raise CheckpointError(
            f"{card_path}: not found; a model is two files, weights and card. "
            "`dvc repro train` makes both; `dvc pull` fetches them"
        ) from None
    except json.JSONDecodeError as error:
        problem = f"is not JSON ({error})"
    except ValidationError as error:
        found = [f"{'.'.join(map(str, one['loc'])) or 'content'}: {one['msg']}" for one in error.errors()]
        problem = f"is not a model's card ({'; '.join(found)})"
    raise CheckpointError(f"{card_path}: {problem}; restore the file that came with the weights")


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
        raise CheckpointError(f"{path}: is not a whole safetensors file ({error}); make it anew or fetch it") from None


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
        raise misfit(source, problems)
    # Assigned, since the module may have been built without values.
    module.load_state_dict({name: state[name].to(own[name].dtype) for name in own}, assign=True)


def misfit(source: str | Path, problems: list[str]) -> CheckpointError:
    """The error that lists every weight that does not fit."""
    return CheckpointError(f"{source}: {len(problems)} weights do not fit the model\n  " + "\n  ".join(problems))


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
