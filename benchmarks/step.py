"""Measures the whole training step by component, and against the same step with its gains off."""

import argparse
import json
import multiprocessing
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.components import REST, Clock, watching
from benchmarks.costs import exchange
from benchmarks.gains import GAINS, lay_out, without
from benchmarks.measuring import FLAIR, forget_peak, held, load_settings, machine, now, peak, settings_parser
from benchmarks.work import Rate, Work, probe, seconds, step_work
from caft.errors import ParamsError, exits_with_message
from caft.network.caft import CAFT
from caft.network.text.encoder import encoded_lengths
from caft.params import Params
from caft.params.models import ModelParams
from caft.params.problems import nearest
from caft.params.recipes import RecipeParams
from caft.train.optim import parameter_groups
from caft.train.task import TrainingTask

# Of the paper's job, for the bytes that are exchanged; a step is measured on one.
_RANKS = 8
_HALF = {"float32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Case:
    """A step of one rank to measure: some repetitions, of which the fastest counts.

    Attributes:
        dtype: "float32", or the type that autocast takes: "bf16" or "fp16".
        off: Gains that are off.
        flair: Whether the part loss runs on selected texts, as FLAIR's.
    """

    model: ModelParams
    recipe: RecipeParams
    images: int
    device: str
    dtype: str
    threads: int
    repetitions: int
    off: tuple[str, ...] = ()
    flair: bool = False
    micro_batch: int | None = None


@dataclass
class Measured:
    """What the fastest repetition of a step took; forward, backward and kept bytes by component.

    Attributes:
        loss: Of the first repetition.
        peak_mib: Most memory held above what the process held before the model was built.
    """

    seconds: float
    loss: float
    forward: dict[str, float]
    backward: dict[str, float]
    kept: dict[str, int]
    peak_mib: float = 0.0

    def of(self, name: str) -> float:
        """Seconds of a component, forward and backward."""
        return self.forward.get(name, 0.0) + self.backward.get(name, 0.0)

    def over(self, other: "Measured") -> dict[str, float]:
        """Ratios of time and memory."""
        return {"time": self.seconds / other.seconds, "memory": self.peak_mib / other.peak_mib}


def texts_like_recaptions(images: int, sub_captions: int, context: int, seed: int) -> Tensor:
    """Token ids of texts of one to three sentences, cut at the context, (images, sub_captions, context).

    A sentence has 6 to 58 tokens, 22 on average, as those of the recaptioned corpora: texts of 45 on average.
    """
    rng = np.random.default_rng(seed)
    tokens = rng.integers(1, 49000, (images, sub_captions, context))
    places = np.arange(context)
    sentences = np.clip(np.rint(rng.lognormal(3.0, 0.45, (images, sub_captions, 3))), 6, 58)
    ends = (sentences * (np.arange(3) < rng.integers(1, 4, (images, sub_captions, 1)))).sum(2) + 1
    ends = np.minimum(ends, context - 1)[..., None]
    tokens = np.where(places < ends, tokens, np.where(places == ends, 49407, 0))
    tokens[..., 0] = 49406
    return torch.from_numpy(tokens)


def measure(case: Case) -> Measured:
    """Runs a case in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (case,))


def _measure(case: Case) -> Measured:
    torch.set_num_threads(case.threads)
    device = torch.device(case.device)
    _steps(replace(case, images=2, repetitions=1), device)  # loads the libraries
    before = held(device)
    found = _steps(case, device)
    found.peak_mib = peak(device) - before
    return found


def _steps(case: Case, device: torch.device) -> Measured:
    torch.manual_seed(0)
    recipe = case.recipe
    model = CAFT(case.model, recipe.chunks, recipe.scale_start, recipe.bias_start).to(device)
    lay_out(model.superpixels, case.off)
    task = TrainingTask(model, recipe, 0, case.micro_batch).train()
    plain = "adamw" in case.off
    groups = parameter_groups(task, recipe.weight_decay)
    optimizer = torch.optim.AdamW(groups, lr=1e-5, fused=not plain, foreach=False if plain else None)
    pixels = torch.randint(256, (case.images, 3, *(2 * [case.model.image_size])), dtype=torch.uint8)
    tokens = texts_like_recaptions(case.images, recipe.sub_captions, case.model.text.context, 0)
    weights = {parameter.untyped_storage().data_ptr() for parameter in task.parameters()}
    steps = []
    forget_peak(device)
    for _ in range(case.repetitions):
        clock = Clock(device, weights)
        start = now(device)
        with without(case.off, case.flair):
            loss = _one_step(case, task, optimizer, pixels, tokens, clock)
        steps.append(Measured(now(device) - start, loss, clock.forward, clock.backward, clock.kept))
        task.zero_grad()
    return replace(min(steps, key=lambda step: step.seconds), loss=steps[0].loss)


def _one_step(
    case: Case, task: TrainingTask, optimizer: torch.optim.Optimizer, pixels: Tensor, tokens: Tensor, clock: Clock
) -> float:
    device, half = clock.device, _HALF[case.dtype]
    scaler = torch.amp.GradScaler(device.type, enabled=half is torch.float16)
    with clock.inside("data"):
        pixels, tokens = pixels.to(device), tokens.to(device)
    with clock.inside("superpixels"):
        labels = task.model.superpixel_labels(pixels)
    with watching(clock, task), torch.autocast(device.type, dtype=half, enabled=half is not None):
        loss = task(pixels, labels, tokens, 0)["loss"]
    clock.switch(REST)
    clock.is_backward = True
    scaler.scale(loss).backward()
    clock.switch(REST)
    clock.is_backward = False
    with clock.inside("optimizer"):
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_([p for p in task.parameters() if p.requires_grad], float("inf"))
        scaler.step(optimizer)
        scaler.update()
    return float(loss.detach())


def components(case: Case, found: Measured, rates: dict[str, Rate], lengths: Tensor) -> dict[str, dict[str, float]]:
    """The rows of the table: measured and predicted, largest first."""
    size = 4 if case.dtype == "float32" else 2
    work = step_work(case.model, case.recipe, case.images, lengths, "part_loss" not in case.off, size)
    predicted = {name: seconds(part, rates) for name, part in work.items()}
    whole = sum(map(sum, predicted.values()))
    rows = {}
    for name in {*found.forward, *found.backward, *work}:
        part = work.get(name, Work("copy", 0, 0))
        rows[name] = {
            "forward_s": found.forward.get(name, 0.0),
            "backward_s": found.backward.get(name, 0.0),
            "share": found.of(name) / found.seconds,
            "predicted_share": sum(predicted.get(name, (0.0, 0.0))) / whole,
            "gflop_forward": part.forward / 1e9,
            "gflop_backward": part.backward / 1e9,
            "gb_moved": part.moved / 1e9,
            "mib_kept": found.kept.get(name, 0) / 2**20,
        }
    return dict(sorted(rows.items(), key=lambda item: -item[1]["share"]))


def run(case: Case, flair: Case | None, alone: bool) -> dict[str, Any]:
    """Measures the step with all gains, with none, and, if asked, with each alone and FLAIR's."""
    everything = tuple(GAINS)
    tokens = texts_like_recaptions(case.images, case.recipe.sub_captions, case.model.text.context, 0).flatten(0, 1)
    lengths = encoded_lengths(tokens)
    full = torch.full_like(lengths, case.model.text.context)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        rates = pool.apply(_probe, (case.device, case.threads))
    off_case = replace(case, off=everything)
    on, off = measure(case), measure(off_case)
    work = step_work(case.model, case.recipe, case.images, lengths, True, 4)
    flops = sum(part.forward + part.backward for part in work.values())
    result: dict[str, Any] = {
        "ratio": on.over(off),
        "text_ratio": on.of("text") / off.of("text"),
        "seconds": {"on": on.seconds, "off": off.seconds},
        "peak_mib": {"on": on.peak_mib, "off": off.peak_mib},
        "loss": {"on": on.loss, "off": off.loss},
        "images_per_s": case.images / on.seconds,
        "gflop": flops / 1e9,
        "share_of_block_rate": flops / on.seconds / rates["block"].forward,
        "tokens_a_text": float((tokens.argmax(1) + 1).float().mean()),
        "padded_token_share": {
            "on": 1 - float((tokens.argmax(1) + 1).sum() / lengths.sum()),
            "off": 1 - float((tokens.argmax(1) + 1).sum() / full.sum()),
        },
        "components": components(case, on, rates, lengths),
        "components_off": components(off_case, off, rates, full),
    }
    if alone:
        others = {name: tuple(other for other in everything if other != name) for name in everything}
        result["alone"] = {name: measure(replace(case, off=rest)).over(off) for name, rest in others.items()}
    if flair is not None:
        found = measure(flair)
        result["flair"] = {"seconds": found.seconds, "peak_mib": found.peak_mib, **on.over(found)}
    return result


def _probe(device: str, threads: int) -> dict[str, Rate]:
    torch.set_num_threads(threads)
    return probe(torch.device(device))


def page(result: dict[str, Any]) -> list[str]:
    """Lines to read."""
    settings, ratio = result["settings"], result["ratio"]
    columns = ("component", "forward s", "backward s", "share", "predicted", "GFLOP fwd", "GFLOP bwd", "GB", "MiB kept")
    rows = [columns]
    for name, row in result["components"].items():
        cells = [f"{row[key]:.2f}" for key in ("forward_s", "backward_s")]
        cells += [f"{100 * row[key]:.1f} %" for key in ("share", "predicted_share")]
        cells += [f"{row[key]:.1f}" for key in ("gflop_forward", "gflop_backward", "gb_moved", "mib_kept")]
        rows.append((name, *cells))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        result["machine"],
        ", ".join(f"{key} {value}" for key, value in settings.items()),
        f"texts of {result['tokens_a_text']:.1f} tokens; padding is {100 * result['padded_token_share']['on']:.0f} % of "
        f"the encoded positions, {100 * result['padded_token_share']['off']:.0f} % at full length",
        "",
        *("  ".join([r[0].ljust(widths[0]), *map(str.rjust, r[1:], widths[1:])]) for r in rows),
        "",
        f"whole step: {result['seconds']['on']:.2f} s, {result['peak_mib']['on']:.0f} MiB, "
        f"{result['images_per_s']:.2f} images/s, {result['gflop']:.0f} GFLOP; backward "
        f"{sum(row['backward_s'] for row in result['components'].values()):.2f} s",
        f"with every gain off: {result['seconds']['off']:.2f} s, {result['peak_mib']['off']:.0f} MiB; "
        f"loss {result['loss']['on']:.6f} and {result['loss']['off']:.6f}",
        f"ratio: time {ratio['time']:.2f}, memory {ratio['memory']:.2f}; text tower {result['text_ratio']:.2f}",
        f"exchange of {result['exchange']['ranks']} ranks, by formula: {result['exchange']['unique'] / 2**20:.1f} MiB "
        f"each way, {result['exchange']['ring'] / 2**20:.1f} as FLAIR",
    ]
    for name, found in result.get("alone", {}).items():
        lines.append(f"only {name}: time {found['time']:.2f}, memory {found['memory']:.2f} (else {GAINS[name].off})")
    if "flair" in result:
        flair = result["flair"]
        lines.append(
            f"FLAIR: {flair['seconds']:.2f} s, {flair['peak_mib']:.0f} MiB; ours is {flair['time']:.2f} of its time, "
            f"{flair['memory']:.2f} of its memory"
        )
    return lines


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = settings_parser("step", __doc__)
    parser.add_argument("--model", default="base", metavar="NAME", help="a key of models in params.yaml (base)")
    parser.add_argument("--recipe", default="paper", metavar="NAME", help="a key of recipes (paper)")
    parser.add_argument("--batch", type=int, default=32, metavar="N", help="images of one rank (32)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (cpu)")
    parser.add_argument("--dtype", default="float32", choices=list(_HALF), help="of the step (float32)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of the processor (1)")
    parser.add_argument("--repetitions", type=int, default=1, metavar="N", help="steps; the fastest counts (1)")
    parser.add_argument("--micro-batch", type=int, metavar="N", help="images at once, as the launcher's (all)")
    parser.add_argument("--alone", action="store_true", help="also each gain alone: seven more steps")
    parser.add_argument("--flair", action="store_true", help=f"also FLAIR's step, by {FLAIR}")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return parser.parse_args(given)


def _case(params: Params, arguments: argparse.Namespace) -> Case:
    for key, table in (("model", params.models), ("recipe", params.recipes)):
        name = getattr(arguments, key)
        if name not in table:
            raise ParamsError(f"--{key} {name}: no such key in {key}s" + nearest(name, table))
    for key in ("batch", "threads", "repetitions", "micro_batch"):
        value = getattr(arguments, key)
        if value is not None and value < 1:
            raise ParamsError(f"--{key.replace('_', '-')} {value}: must be at least 1")
    if arguments.device.split(":")[0] == "cuda" and not torch.cuda.is_available():
        raise ParamsError(f"--device {arguments.device}: torch sees no GPU here; give --device cpu")
    return Case(
        params.models[arguments.model],
        params.recipes[arguments.recipe],
        arguments.batch,
        arguments.device,
        arguments.dtype,
        arguments.threads,
        arguments.repetitions,
        micro_batch=arguments.micro_batch,
    )


def measured(given: Sequence[str] | None = None) -> dict[str, Any]:
    """What `--json` prints, by the arguments of the command.

    Raises:
        ParamsError: One of them names nothing that is there.
    """
    arguments = _arguments(given)
    case, flair = _case(load_settings(arguments), arguments), None
    if arguments.flair:
        flair = _case(load_settings(arguments, flair=True), arguments)
        flair = replace(flair, flair=True, off=("text", "mask", "adamw"))
    torch.set_num_threads(arguments.threads)
    shown = ("model", "recipe", "batch", "device", "dtype", "threads")
    sent = exchange(case.images, case.recipe.sub_captions, case.model.embed_dim, _RANKS, 2)
    return {
        "machine": machine(torch.device(arguments.device)),
        "settings": {
            **{key: getattr(arguments, key) for key in shown},
            "sub_captions": case.recipe.sub_captions,
            "micro_batch": arguments.micro_batch,
        },
        **run(case, flair, arguments.alone),
        "exchange": {"ranks": _RANKS, **asdict(sent)},
    }


def main(given: Sequence[str] | None = None) -> None:
    """Runs the command."""
    with exits_with_message():
        result = measured(given)
    print(json.dumps(result) if _arguments(given).json else "\n".join(page(result)))


if __name__ == "__main__":
    main()
