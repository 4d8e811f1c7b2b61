"""Words for weights that are refused: what does not fit, in at most ten lines, and what the file seems to be instead."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from caft.errors import CheckpointError

Kind = Literal["missing", "unexpected", "shape", "type", "fixed", "not finite", "impossible"]
_COUNTED = {
    "missing": "missing",
    "unexpected": "unexpected",
    "shape": "of another shape",
    "type": "of another type",
    "fixed": "fixed, with another value",
    "not finite": "not finite",
    "impossible": "of impossible value",
}
_LINES = 9  # below the first
_SHORTENED = 6  # leaves room for a hint
_NAME = 120  # letters of a name that are shown


class Problem(NamedTuple):
    """One weight that cannot be taken, by its name in the file or, if missing, in what is expected."""

    kind: Kind
    name: str
    detail: str = ""

    def __str__(self) -> str:
        name = shown(self.name)
        return f"{name}: {self.detail}" if self.detail else f"{self.kind} {name}"


def shown(name: object) -> str:
    """A name from a file, on one line and not too long."""
    text = str(name) if str(name).isprintable() else repr(name)
    return text if len(text) <= _NAME else text[:_NAME] + "..."


def refusal(
    source: str | Path, problems: Sequence[Problem], names: Collection[str], expected: str | None
) -> CheckpointError:
    """The error for weights that do not fit.

    Args:
        source: What they are called.
        problems: At least one.
        names: All names in the file.
        expected: What was wanted, as `identify` says it; None for something else.
    """
    found = identify(names)
    if found is not None and found != expected and any(problem.kind == "missing" for problem in problems):
        wanted = f" (expected {_WANTED[expected]})" if expected in _WANTED else ""
        return CheckpointError(f"{source}: {instead(found)}{wanted}")
    if all(problem.kind in ("not finite", "impossible") for problem in problems):
        finite = any(problem.kind == "impossible" for problem in problems)
        what = "numbers that no training gives" if finite else "NaN or infinity"
        first = f"{source}: {len(problems)} of {len(names)} weights hold {what}"
        hint = "the file is damaged, or its training diverged; fetch it again, or take an earlier checkpoint"
    else:
        first, hint = f"{source}: {len(problems)} weights do not fit the model", _hint(problems)
    lines = [f"  {problem}" for problem in problems]
    if len(lines) + bool(hint) > _LINES:
        kinds = [kind for kind in _COUNTED if any(problem.kind == kind for problem in problems)]
        groups = [[problem for problem in problems if problem.kind == kind] for kind in kinds]
        counts = [f"{len(group)} {_COUNTED[group[0].kind]}" for group in groups]
        first += f" ({', '.join(counts)})" if len(groups) > 1 else ""
        lines = [line for group in groups for line in _first_of(group, min(3, _SHORTENED // len(groups)))]
    return CheckpointError("\n".join([first, *lines, *([f"  {hint}"] if hint else [])]))


def _first_of(group: Sequence[Problem], count: int) -> list[str]:
    lines = [f"  {problem}" for problem in group[:count]]
    if len(group) > count:
        lines[-1] += f" (and {len(group) - count} more {_COUNTED[group[0].kind]})"
    return lines


def _hint(problems: Sequence[Problem]) -> str:
    missing = [problem.name for problem in problems if problem.kind == "missing"]
    unexpected = {problem.name for problem in problems if problem.kind == "unexpected"}
    if missing:
        shortest = min(missing, key=len)
        for name in sorted(unexpected):
            prefix = name.removesuffix(shortest)
            if prefix != name and all(prefix + other in unexpected for other in missing):
                return without(prefix)
    if any(
        problem.kind == "type" and ("int" in problem.detail or "quantised" in problem.detail) for problem in problems
    ):
        return "weights are floats; of a quantised model, give the file from before it was quantised"
    if [problem.name for problem in problems] == ["whole_caption.positions"]:
        return "the number of chunks in the card is of another model; take the card that came with the weights"
    if sum(problem.kind == "shape" for problem in problems) > 5:
        return (
            "the sizes differ throughout: these are the weights of another model (as tiny and base); "
            "take the card, or select the model, that belongs to them"
        )
    return ""


def without(prefix: str) -> str:
    """What to do where all names fit after a prefix."""
    return (
        f"all names are there after {prefix!r}; with state, the dict that holds them (as checkpoint['state_dict']), "
        f"save them without it: {{name.removeprefix({prefix!r}): tensor for name, tensor in state.items() "
        f"if name.startswith({prefix!r})}}"
    )


# ---- what a file of weights is, by its names


def _has(*names: str) -> Callable[[Collection[str]], bool]:
    return lambda found: all(name in found for name in names)


def _begins(*prefixes: str) -> Callable[[Collection[str]], bool]:
    return lambda found: all(any(name.startswith(prefix) for name in found) for prefix in prefixes)


_OPEN_CLIP = "not CAFT; the pipeline scores it as a baseline, weights=open_clip:<architecture>/<path or tag>"
_TRANSFORMERS = "not CAFT; give weights of CAFT, and use that library for these"
_PATCHES = "vision_model.embeddings.patch_embedding.weight"
_WANTED = {
    "caft": "a model of this project",
    "caft_release": "a release of CAFT",
    "flair_release": "a release of FLAIR",
    "sfcn": "the superpixel network SFCN, such as SpixelNet_bsd_ckpt.tar or models/sfcn.safetensors",
}
OURS = tuple(_WANTED)  # kinds that this project can use
# The first that applies. Names are without prefixes that wrappers leave.
_KNOWN: dict[str, tuple[Callable[[Collection[str]], bool], str]] = {
    "caft": (
        _has("vision.cls", "sub_caption.embedding.weight"),
        "is a model of this project; give it as the model, such as models/caft.safetensors with its card",
    ),
    "caft_release": (_begins("paragraph_encoder."), "is a release of CAFT by its authors; caft.load takes it as .pt"),
    "flair_release": (
        _has("visual.conv1.weight", "visual_proj.attn.in_proj_weight"),
        "is a release of FLAIR; caft.load takes it as .pt",
    ),
    "sfcn": (
        _has("conv0a.0.weight"),
        "is the superpixel network SFCN alone, not a whole model; give a model, such as models/caft.safetensors, "
        "and this file as the setting superpixels.checkpoint",
    ),
    "siglip": (_has(_PATCHES, "logit_bias"), f"looks like SigLIP of transformers: {_TRANSFORMERS}"),
    "clip": (_has(_PATCHES), f"looks like CLIP of transformers: {_TRANSFORMERS}"),
    "open_clip_trunk": (_begins("visual.trunk."), f"looks like open_clip's model with timm's trunk: {_OPEN_CLIP}"),
    "open_clip_text": (_begins("visual.", "text.transformer."), f"looks like open_clip's CLIP: {_OPEN_CLIP}"),
    "open_clip": (_begins("visual.", "transformer.resblocks."), f"looks like open_clip's or OpenAI's CLIP: {_OPEN_CLIP}"),
    "vit": (
        _has("patch_embed.proj.weight", "blocks.0.attn.qkv.weight"),
        "looks like an image tower alone (a ViT of timm or DINO): not CAFT, which also reads captions; "
        "give a CAFT model's file",
    ),
    "resnet": (
        _has("conv1.weight", "layer1.0.conv1.weight"),
        "looks like a ResNet: not CAFT; give a CAFT model's file",
    ),
}  # fmt: skip


def identify(names: Collection[str]) -> str | None:
    """What weights are, by their names: caft, caft_release, flair_release, sfcn, another library's; None if unknown."""
    return next((kind for kind, (applies, _) in _KNOWN.items() if applies(names)), None)


def instead(kind: str) -> str:
    """What a file of this kind is, and what to do with it, where another was expected."""
    return _KNOWN[kind][1]
