"""Weights and cards in files: safetensors with a `.json` beside it. Knows no model."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from caft.errors import CheckpointError
from caft.model.card import ModelCard
from caft.storage import replacing
from caft.weights.content import require_weights
from caft.weights.fit import fitted, say_converted
from caft.weights.misfits import Problem, identify, instead, refusal


def save_model(module: nn.Module, path: Path, card: ModelCard | Mapping[str, Any]) -> None:
    """Writes weights to `path` and the card to the same name with `.json`, each complete or not at all.

    The path ends in `.safetensors`. Weights of a module that is no model have a mapping of facts in place of a card. The
    header has no metadata, so equal weights are equal files (docs/peers.md says why).
    """
    state = {name: tensor.contiguous() for name, tensor in module.state_dict().items()}
    with replacing(path) as temporary:
        # Not `save_file`: a kill would leave a file of another name, and what it writes others may not read.
        temporary.write_bytes(save(state))
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
        record = json.loads(card_path.read_text(encoding="utf-8-sig"))
        if isinstance(record, dict) and "superpixels" in record and not {"model", "splitter"} & set(record):
            raise CheckpointError(f"{path}: {instead('sfcn')}")
        # As Python's values: a strict reading would refuse lists for tuples.
        return ModelCard.model_validate(record, strict=False)
    except FileNotFoundError:
        also = "" if path.exists() else f", and {path.name} is not there either"
        raise CheckpointError(
            f"{card_path}: not found; a model is two files, weights and card{also}. `dvc repro train` makes both; "
            "`dvc pull` fetches them. Beside other weights of a model, its card is copied to this name"
        ) from None
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
    except UnicodeDecodeError:
        problem = "is not a text in UTF-8"
    except (json.JSONDecodeError, RecursionError) as error:
        problem = f"is not JSON ({error})" if card_path.stat().st_size else "is empty (0 bytes)"
    except ValidationError as error:
        problem = f"is not a model's card ({_reasons(error)})"
    raise CheckpointError(f"{card_path}: {problem}; restore the file that came with the weights")


def _reasons(error: ValidationError) -> str:
    """Pydantic's words for each problem, and the values where they are short."""
    places = {".".join(map(str, one["loc"])) or "content": one for one in error.errors()}
    values = {place: repr(one["input"]) for place, one in places.items() if one["type"] != "missing"}
    shown = [f"{place} = {value}" for place, value in values.items() if len(value) <= 40]
    reasons = _first([f"{place}: {one['msg']}" for place, one in places.items()])
    return f"{reasons}; found {', '.join(shown[:5])}" if shown else reasons


def _first(problems: list[str], count: int = 5) -> str:
    return "; ".join(problems[:count]) + (f"; and {len(problems) - count} more" if len(problems) > count else "")


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file.

    Raises:
        CheckpointError: The file is missing or damaged.
    """
    require_weights(path, safetensors=True)
    try:
        return load_file(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: not found; `dvc repro` makes it") from None
    except Exception as error:  # safetensors raises many kinds; all mean that this is no such file
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise CheckpointError(f"{path}: is not a whole safetensors file ({reason}); make it anew or fetch it") from None


def fill(module: nn.Module, state: Mapping[str, Tensor], source: str | Path) -> None:
    """Puts weights into a module; every name and shape must fit, and every number be finite.

    So must the scores' scales be; and variances are not negative.

    Floats of another precision are converted, which is logged.

    Raises:
        CheckpointError: Names what is missing, unexpected, of another shape or type, not finite, or of impossible value.
    """
    own = module.state_dict()
    problems = [Problem("missing", name) for name in own if name not in state]
    problems += [Problem("unexpected", name) for name in state if name not in own]
    values: dict[str, Tensor] = {}
    for name in own:
        if name not in state:
            continue
        value = fitted(name, state[name], tuple(own[name].shape), own[name].dtype)
        if isinstance(value, Problem):
            problems.append(value)
        elif value.is_meta:
            problems.append(Problem("type", name, "has no values: it was saved from the device meta"))
        else:
            values[name] = value
    if problems:
        raise refusal(source, problems, state, identify(own))
    say_converted(source, state.values())
    # Assigned, since the module may have been built without values.
    module.load_state_dict(_apart(values), assign=True)


def _apart(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of which none shares memory with another, as tied ones in a checkpoint do: training changes them in place."""
    result, seen = {}, set()
    for name, value in values.items():
        memory = value.untyped_storage()
        alone = memory.nbytes() == value.numel() * value.element_size() and memory.data_ptr() not in seen
        result[name] = value if alone else value.clone(memory_format=torch.contiguous_format)
        seen.add(memory.data_ptr())
    return result
