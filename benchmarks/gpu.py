"""Checks and measures the training step on a GPU inside six minutes, each part in a process with a time limit of its own.

Results are written after each part, as JSON and as the rows of README.md. Needs what the library needs and nothing else.
"""

import argparse
import datetime
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from benchmarks import gpu_checks, gpu_parts, gpu_pieces
from benchmarks.measuring import machine
from caft.errors import ParamsError, exits_with_message
from caft.params import load_params
from caft.params.problems import nearest

# Parts in order, with the most seconds that each may take; `pieces` only if it is asked for.
PARTS = {"card": 20, "checks": 75, "speed": 110, "curve": 90, "loading": 45, "profile": 45, "flair": 40, "pieces": 100}


def main(given: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to try the command (cuda)")
    parser.add_argument("--model", default="base", metavar="NAME", help="a key of models in params.yaml (base)")
    parser.add_argument("--recipe", default="paper", metavar="NAME", help="a key of recipes (paper)")
    parser.add_argument("--batch", type=int, default=256, metavar="N", help="images of one rank (256)")
    parser.add_argument("--workers", type=int, default=12, metavar="N", help="processes that load, in that part (12)")
    parser.add_argument(
        "--parts", default=",".join(list(PARTS)[:-1]), metavar="A,B", help="which parts, in order (all but pieces)"
    )
    parser.add_argument("--seconds", type=float, default=360.0, metavar="N", help="for all parts together (360)")
    parser.add_argument("--quick", action="store_true", help="a few steps of each, to try the command")
    parser.add_argument("--out", default="benchmarks/results/gpu.json", metavar="FILE", help="where results go")
    parser.add_argument("--params", default="params.yaml", metavar="FILE", help="settings file (params.yaml)")
    parser.add_argument("--part", help=argparse.SUPPRESS)  # of a process that this one starts
    arguments = parser.parse_args(given)
    with exits_with_message():
        _check(arguments)
        if arguments.part is not None:
            _one_part(arguments)
            return
    found = _all_parts(arguments)
    print("\n".join(rows(found)))
    sys.exit(0 if all("error" not in part for part in found["parts"].values()) else 1)


def _check(arguments: argparse.Namespace) -> None:
    params = load_params(arguments.params)
    for key, table in (("model", params.models), ("recipe", params.recipes)):
        if (name := getattr(arguments, key)) not in table:
            raise ParamsError(f"--{key} {name}: no such key in {key}s" + nearest(name, table))
    if arguments.batch < 1:
        raise ParamsError(f"--batch {arguments.batch}: must be at least 1")
    for name in arguments.parts.split(","):
        if name not in PARTS:
            raise ParamsError(f"--parts {name}: no such part" + nearest(name, PARTS))
    if arguments.device.split(":")[0] == "cuda" and not torch.cuda.is_available():
        raise ParamsError(f"--device {arguments.device}: torch sees no GPU here; give --device cpu")


def _all_parts(arguments: argparse.Namespace) -> dict[str, Any]:
    """Runs each part in a process of its own and writes what there is after each."""
    began = time.perf_counter()
    out = Path(arguments.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    device = torch.device(arguments.device)
    keys = ("model", "recipe", "batch", "device", "quick")
    found: dict[str, Any] = {
        "machine": machine(device),
        "date": str(datetime.datetime.now(datetime.UTC).date()),
        "settings": {key: getattr(arguments, key) for key in keys},
        "parts": {},
    }
    for name in arguments.parts.split(","):
        part = out.with_suffix(f".{name}.part")
        part.unlink(missing_ok=True)
        longest = PARTS[name] * (4 if arguments.quick else 1)  # a trial may be on a busy machine
        limit = min(longest, arguments.seconds - (time.perf_counter() - began))
        command = [sys.executable, "-m", "benchmarks.gpu", "--part", name, "--out", str(part)]
        for key in ("device", "model", "recipe", "batch", "workers", "params"):
            command += [f"--{key}", str(getattr(arguments, key))]
        start = time.perf_counter()
        problem = None
        try:
            if limit <= 1:
                problem = "no time was left"
            else:
                code = subprocess.run([*command, *(["--quick"] * arguments.quick)], timeout=limit).returncode
                problem = f"ended with {code}" if code else None
        except subprocess.TimeoutExpired:
            problem = f"took longer than {limit:.0f} s"
        result = json.loads(part.read_text()) if part.exists() else {}
        part.unlink(missing_ok=True)
        result["seconds"] = round(time.perf_counter() - start, 1)
        if problem is not None:
            result["error"] = problem
        found["parts"][name] = result
        out.write_text(json.dumps(found, indent=1) + "\n")
        print(f"{name}: {problem or 'done'}, {result['seconds']} s", file=sys.stderr, flush=True)
    return found


def _one_part(arguments: argparse.Namespace) -> None:
    """Runs one part and writes what it finds, as soon as it is found."""
    name, device, quick = arguments.part, torch.device(arguments.device), arguments.quick
    found: dict[str, Any] = {}

    def write(key: str, value: Any) -> None:
        found[key] = value
        Path(arguments.out).write_text(json.dumps(found))

    if device.type != "cuda":
        torch.compiler.set_stance("force_eager")  # minutes of C++ would tell nothing
    params = load_params(arguments.params)
    sizes = arguments.model, arguments.recipe, arguments.batch, device
    given = gpu_parts.setting(params, *sizes, compiled=True)
    if name == "card":
        write("card", card(device))
    elif name == "checks":
        for check, run in gpu_checks.all_checks(params, device):
            write(check, {key: {**one._asdict(), "passed": one.passed} for key, one in run().items()})
    elif name == "speed":
        for key, value in gpu_parts.speed(given, quick):
            write(key, value)
    elif name == "pieces":
        for piece, ready in gpu_pieces.all_pieces(given):
            try:
                write(piece, {"ms": gpu_pieces.milliseconds(ready(), device, quick)})
            except (RuntimeError, torch.OutOfMemoryError) as error:  # one that fails costs no other
                write(piece, {"failed": str(error)[-300:]})
    elif name == "flair":
        write("flair", gpu_parts.flair(gpu_parts.flair_params(arguments.params), *sizes, quick))
    elif name == "loading":
        write("loading", gpu_parts.loading(given, quick, arguments.workers))
    else:
        write(name, {"curve": gpu_parts.curve, "profile": gpu_parts.profile}[name](given, quick))


def card(device: torch.device) -> dict[str, Any]:
    """The card and what it reaches at most: bytes a second of a copy, operations of a large product."""
    if device.type != "cuda":
        return {"name": machine(device)}
    properties = torch.cuda.get_device_properties(device)
    source = torch.randn(2**28, device=device)
    target = torch.empty_like(source)
    found = {
        "name": properties.name,
        "memory_gib": properties.total_memory / 2**30,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "copy_tb_per_s": 2 * 4 * source.numel() / _seconds(lambda: target.copy_(source)) / 1e12,
    }
    for rows_, inner, columns in ((8192, 8192, 8192), (92160, 512, 2048), (50432, 768, 3072)):
        left = torch.randn(rows_, inner, device=device, dtype=torch.bfloat16)
        right = torch.randn(columns, inner, device=device, dtype=torch.bfloat16)
        taken = _seconds(lambda left=left, right=right: F.linear(left, right))
        found[f"bf16_tflops {rows_}x{inner}x{columns}"] = 2 * rows_ * inner * columns / taken / 1e12
    return found


def _seconds(run: Any) -> float:
    for _ in range(3):
        run()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(10):
        run()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / 1e4


def rows(found: dict[str, Any]) -> list[str]:
    """Markdown of what was found."""
    parts, settings = found["parts"], found["settings"]
    lines = [
        f"{found['machine']}; {found['date']}; {settings['model']}, {settings['recipe']}, {settings['batch']} images",
        "",
    ]
    checks = parts.get("checks", {})
    for name, each in checks.items():
        if isinstance(each, dict):
            for key, one in each.items():
                word = "pass" if one["passed"] else "FAIL"
                lines.append(f"| {name}: {key} | {one['found']:.1e} | {one['allowed']:.0e} | {word} |")
    steps = {**parts.get("speed", {}), **parts.get("flair", {}), **parts.get("loading", {})}
    lines += ["", "| step | images/s | ms | program ms | MFU | peak GiB |", "| --- | --- | --- | --- | --- | --- |"]
    for name, one in steps.items():
        if isinstance(one, dict) and "images_per_s" in one:
            mfu, peak = one["mfu"], one["peak_gib"]
            cells = [f"{one[key]:.1f}" for key in ("images_per_s", "ms", "program_ms")]
            cells += [f"{100 * mfu:.1f} %" if mfu is not None else "", f"{peak:.1f}" if peak is not None else ""]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    if "largest_difference" in parts.get("curve", {}).get("curve", {}):
        lines += [
            "",
            f"largest difference of the loss curve: {100 * parts['curve']['curve']['largest_difference']:.2f} %",
        ]
    pieces = {name: one["ms"] for name, one in parts.get("pieces", {}).items() if isinstance(one, dict) and "ms" in one}
    if pieces:
        lines += ["", "| piece, forward and backward | ms |", "| --- | --- |"]
        lines += [f"| {name} | {taken:.1f} |" for name, taken in pieces.items()]
    profile = parts.get("profile", {}).get("profile", {})
    if profile:
        lines += ["", "| component | ms | share | predicted | TFLOP |", "| --- | --- | --- | --- | --- |"]
        for name, one in profile["components"].items():
            shares = [f"{100 * one[key]:.1f} %" for key in ("share", "predicted_share")]
            lines.append(f"| {name} | {one['ms']:.1f} | {' | '.join(shares)} | {one['tflop']:.2f} |")
    return lines


if __name__ == "__main__":
    main()
