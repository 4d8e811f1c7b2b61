"""Torch's checkpoints: finds the weights in what trainings of many kinds leave, and reads nothing that could run code.

Of a dict, the weights are the part under `state_dict`, `model_state_dict`, `model` and the like, at most three deep. An
average over training (`ema` and the like) is taken where there is nothing else. Prefixes of wrappers are dropped.

Files are mapped into memory, so that of the optimizer's state, twice the size of the weights, nothing is read.
"""

import logging
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from caft.errors import CheckpointError
from caft.weights.content import require_weights
from caft.weights.misfits import OURS, identify, shown

logger = logging.getLogger(__name__)

# In this order; the averages come last, since the file's own weights are what its training calls the model.
_PLAIN = ("state_dict", "model_state_dict", "model_state", "model", "network", "net", "module", "weights", "params")
_AVERAGES = ("state_dict_ema", "ema_state_dict", "model_ema", "ema_model", "ema", "params_ema")
_DEPTH = 3
# Left by training over several processes, by torch.compile, and by sharding.
_WRAPPERS = ("module.", "_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
_INSIDE = re.compile(r"(?<=\.)(module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_HOLDERS = ("model.", "network.", "net.", "ema_model.")  # dropped where every name begins so, as in Lightning's files
_COUNTERS = ("n_averaged", "initted", "step")  # beside the weights in averages
_PART = 64 * 1024**2  # bytes of a file that are mapped at a time
_CLASS = re.compile(r"(?:GLOBAL|class|type) ([\w.]+)")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The weights in a checkpoint in torch's format, by their names without prefixes of wrappers.

    Raises:
        CheckpointError: The file is missing, damaged, or holds something else.
    """
    require_weights(path, safetensors=False)
    content = _content(path)
    place = _taken(content, path)
    sizes = {name: tensor.numel() * tensor.element_size() for name, tensor in _states(content)[place][0].items()}
    del content
    # Copied, for whoever writes a mapped file anew ends the process that reads it; and in parts, each mapped for itself, since
    # a mapping keeps what was read of it. Files of torch before 1.6 are no archives, and read as a whole.
    state: dict[str, Tensor] = {}
    for names in _parts(sizes) if zipfile.is_zipfile(path) else [list(sizes)]:
        held = _states(_content(path))[place][0]
        state |= {name: held[name].detach().clone() for name in names}  # a copy with a gradient would keep the mapping
        del held
    return plain_names(state, path)


def _content(path: Path) -> object:
    try:
        # Mapped, since what lies beside the weights, as an optimizer's state, may be twice as large and is never read.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: not found; give the path of the downloaded file") from None
    except Exception as error:  # torch raises many kinds here; all mean that this is no such file
        raise CheckpointError(f"{path}: {_unreadable(path, error)}") from None


def _parts(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Names of tensors that together have at most `_PART` bytes, or one of them more."""
    names: list[str] = []
    for name, size in sizes.items():
        if names and sum(map(sizes.__getitem__, names)) + size > _PART:
            yield names
            names = []
        names.append(name)
    yield names


def weights_in(content: object, source: str | Path) -> dict[str, Tensor]:
    """The weights in what a checkpoint held, by their names without prefixes of wrappers; see the module's words.

    Raises:
        CheckpointError: There are none, or it is not plain which are meant.
    """
    return plain_names(_states(content)[_taken(content, source)][0], source)


def _taken(content: object, source: str | Path) -> str:
    """Which of `_states` are the weights; says what else is there."""
    found = _states(content)
    if not found:
        raise CheckpointError(f"{source}: expected a dict of tensors, or one under state_dict; found {_kinds(content)}")
    taken, *others = found
    roots = dict.fromkeys(place.split(".")[0] for place in found)
    if taken.split(".")[0] not in (*_PLAIN, *_AVERAGES, "") and len(roots) > 1:
        raise CheckpointError(
            f"{source}: holds weights under {_list(list(found))}; save the ones that are meant alone: "
            f"torch.save(checkpoint[{next(iter(roots))!r}], 'weights.pt')"
        )
    average = " (an average over its training)" if set(taken.split(".")) & set(_AVERAGES) else ""
    if others:
        logger.warning(
            "%s: the weights under %r are taken%s, not those under %s", source, taken, average, _list(others)
        )
    elif average:
        logger.warning("%s: the weights under %r are taken%s; it holds no others", source, taken, average)
    if left := found[taken][1]:
        logger.warning("%s is left out; it lies beside the weights, but is no tensor", _list(list(map(shown, left))))
    return taken


def plain_names(state: Mapping[str, Tensor], source: str | Path) -> dict[str, Tensor]:
    """Weights by their names without the prefixes that wrappers leave, in any order and repeated.

    Raises:
        CheckpointError: Two names become one.
    """
    names = {name: _without_wrappers(name) for name in state}
    if len(names) > 1:
        names = {name: plain for name, plain in names.items() if plain not in _COUNTERS}
    while names and (holder := next((h for h in _HOLDERS if all(n.startswith(h) for n in names.values())), None)):
        names = {name: _without_wrappers(plain.removeprefix(holder)) for name, plain in names.items()}
    names = _without_others(names, source)
    result: dict[str, Tensor] = {}
    for name, plain in names.items():
        if plain in result:
            raise CheckpointError(
                f"{source}: holds {shown(plain)} twice, with and without a wrapper's prefix ({shown(name)}); "
                "save one of them alone"
            )
        result[plain] = state[name]
    return result


def _without_others(names: dict[str, str], source: str | Path) -> dict[str, str]:
    """Drops what lies beside the one model that a holder has, as metrics and losses do in Lightning's files."""
    if identify(names.values()) is not None:
        return names
    held = {
        holder: {n: _without_wrappers(p.removeprefix(holder)) for n, p in names.items() if p.startswith(holder)}
        for holder in _HOLDERS
    }
    known = {holder: inner for holder, inner in held.items() if identify(inner.values()) in OURS}
    if len(known) != 1:
        return names
    ((holder, inner),) = known.items()
    others = [shown(name) for name in names if name not in inner]
    logger.warning("%s: the weights after %r are taken, not %s beside them", source, holder, _list(others))
    return inner


def _without_wrappers(name: str) -> str:
    while name.startswith(_WRAPPERS):
        name = name.partition(".")[2]
    return _INSIDE.sub("", name)


def _states(content: object) -> dict[str, tuple[dict[str, Tensor], list[object]]]:
    """Dicts of tensors by their places, in the order of preference, each with the keys that are left out of it."""
    return dict(_found(content))


def _found(
    content: object, place: str = "", depth: int = 0
) -> Iterator[tuple[str, tuple[dict[str, Tensor], list[object]]]]:
    """Those under known names first; where nothing has a known name, those under any."""
    if not isinstance(content, Mapping) or not content or depth > _DEPTH:
        return
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    left = [name for name, value in content.items() if not isinstance(value, Tensor)]
    if not left or (
        len(tensors) > len(left) and not any(isinstance(content[name], Mapping | list | tuple) for name in left)
    ):
        yield place, (tensors, left)
        return
    known = [key for key in (*_PLAIN, *_AVERAGES) if key in content]
    found = False
    for keys in (known, [key for key in content if key not in known and not _is_state_of_training(key)]):
        if found:
            return
        for key in keys:
            for state in _found(content[key], f"{place}.{key}" if place else str(key), depth + 1):
                found = True
                yield state


def _is_state_of_training(key: object) -> bool:
    return any(word in str(key).lower() for word in ("optim", "sched", "scaler", "rng", "callback", "loop", "loss"))


def _kinds(content: object) -> str:
    if not isinstance(content, Mapping):
        return type(content).__name__
    kinds = ", ".join(f"{shown(key)} ({type(value).__name__})" for key, value in list(content.items())[:8])
    more = f" and {len(content) - 8} more" if len(content) > 8 else ""
    return f"a dict of {kinds or 'nothing'}{more}"


def _list(places: list[str]) -> str:
    return ", ".join(map(repr, places[:4])) + (f" and {len(places) - 4} more" if len(places) > 4 else "")


def _unreadable(path: Path, error: Exception) -> str:
    """Why torch does not read a file, without its advice, which is to run the code in it."""
    text = _COLOURS.sub("", str(error))
    refused = text.partition("WeightsUnpickler error:")[2] or text
    unsafe = isinstance(error, pickle.UnpicklingError) and _CLASS.search(refused)
    if not unsafe:
        reason = next(iter(refused.strip().splitlines()), "") or type(error).__name__
        reason = "its content is nothing that torch writes" if reason.isdigit() else reason
        reason = reason if len(reason) <= 200 else reason[:200] + "..."
        return f"cannot be read as a torch checkpoint ({reason}); fetch it again"
    classes, new = _unsafe_classes(path) or [unsafe[1]], f"{path.stem}-weights.pt"
    name = ", ".join(classes[:3]) + (f" and {len(classes) - 3} more" if len(classes) > 3 else "")
    what = "an object of the class" if len(classes) == 1 else "objects of the classes"
    lines = [f"holds {what} {name} beside its weights; it is not read, since that could run code."]
    if name == "argparse.Namespace":  # plain values alone, so that it may be let through by its name
        lines += [
            "Save the weights without it, and give that file:",
            f"  with torch.serialization.safe_globals([argparse.Namespace]): held = torch.load({str(path)!r}, 'cpu')",
            "  torch.save({key: value for key, value in held.items() if not isinstance(value, argparse.Namespace)}, "
            f"{new!r})",
        ]
    else:
        lines += [
            "Where the file was made, in the program that has the model, save its weights alone, and give that file:",
            "  weights = {name: tensor.cpu() for name, tensor in model.state_dict().items()}",
            f"  torch.save(weights, {new!r})",
        ]
    return "\n  ".join(lines)


def _unsafe_classes(path: Path) -> list[str]:
    """All classes that torch refuses, in a checkpoint of today's format; found without running anything."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # an older format, or a file that is damaged behind its start; the first class is known anyway
        return []
