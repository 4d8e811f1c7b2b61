"""What a run is expected to take, by a probe or by the launcher's speed; kept to be compared with what it took."""

import hashlib
import json
import math
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from caft import storage
from caft.errors import ParamsError
from caft.params import Params, arithmetic
from caft.train.plan import INDEX, budget, has_index
from caft.train.probe import RESULT, Probe
from caft.train.speed import STOPS
from caft.train.spent import PREDICTED

# What does not change the speed of a step.
_NO_SPEED = {"samples", "epochs", "warmup_steps", "learning_rate", "validate_every", "checkpoint_every"}
_KWH = 3.6e6


def probe(params: Params, seconds: float, run: Callable[[Probe], None]) -> list[str]:
    """Measures the launcher's machine for some seconds, keeps the prediction and returns it as lines of a plan.

    Args:
        params: The settings.
        seconds: At least one.
        run: Runs a job by the launcher to its end.

    Raises:
        ParamsError: There is no time to measure in.
        CaftError: The job is at fault.
    """
    if not 1 <= seconds < math.inf:
        raise ParamsError(f"--probe {seconds:g}: must be at least 1, in seconds; 60 gives a steady figure")
    arithmetic.expect(params.selected_launcher.arithmetic)
    home = _file(params).parent
    home.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="probe-", dir=home))
    try:
        run(Probe(params, seconds, folder, INDEX.resolve() if has_index(params) else None))
        found = json.loads((folder / RESULT).read_text())
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    table = {**_table(params, found), "source": f"a probe of {seconds:g} s"}
    storage.write_json(_file(params), table)
    return _lines(table, found)


def predicted(params: Params) -> dict[str, Any] | None:
    """What was found by the last probe of these settings, else what the launcher's speed comes to; None without both."""
    if _file(params).is_file():
        found: dict[str, Any] = json.loads(_file(params).read_text())
        return _scaled(params, found)
    rate = params.selected_launcher.images_per_s
    if rate is None:
        return None
    hours = budget(params).samples / rate / 3600
    return {"source": f"launchers.{params.launch}.images_per_s", "images_per_s": rate, "hours": round(hours, 4)}


def keep(params: Params, folder: Path) -> None:
    """Writes the prediction into the folder of a run that has not begun: what is found later predicts nothing of it."""
    table = predicted(params)
    if table is not None and not (folder / STOPS).exists():
        storage.write_json(folder / PREDICTED, table)


def _table(params: Params, found: Mapping[str, Any]) -> dict[str, Any]:
    cost = found["cost"]
    table = {"images_per_s": found["images_per_s"], "peak_memory_mib": cost["peak_memory_mib"]}
    table |= {key: found[key] for key in ("slowest", "fastest") if key in found}
    table |= {key: cost[key] for key in ("joules_per_image", "mfu", "checkpoint_seconds") if key in cost}
    return _scaled(params, table)


def _scaled(params: Params, table: Mapping[str, Any]) -> dict[str, Any]:
    """Hours and kWh of the run's samples at the table's speeds."""
    samples = budget(params).samples
    hours = {"hours": "images_per_s", "hours_low": "fastest", "hours_high": "slowest"}
    scaled = {key: round(samples / table[rate] / 3600, 6) for key, rate in hours.items() if rate in table}
    if "joules_per_image" in table:
        scaled["kwh"] = round(samples * table["joules_per_image"] / _KWH, 6)
    return {**table, **scaled}


def _lines(table: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    between = ""
    if "slowest" in table:
        between = f" ({table['slowest']:,.1f} to {table['fastest']:,.1f} in nine of ten of {found['windows']} windows)"
    hours = f" ({table['hours_low']:.3g} to {table['hours_high']:.3g})" if "hours_low" in table else ""
    energy = "not counted: neither NVML nor RAPL can be read here"
    if "kwh" in table:
        low, high = (table["kwh"] * table["images_per_s"] / table[key] for key in ("fastest", "slowest"))
        energy = f"{table['kwh']:.3g} kWh ({low:.3g} to {high:.3g}), {table['joules_per_image']:.3g} J an image"
        energy += f", by {found['cost']['energy']}"
    lines = {
        "probe": f"{table['images_per_s']:,.1f} images/s{between} on {found['cost']['device']}, by {table['source']}",
        "hours": f"{table['hours']:.3g}{hours} of steps; waiting for data, validations and checkpoints "
        f"({table['checkpoint_seconds']:.2g} s each) come on top",
        "memory": f"{table['peak_memory_mib']:,} MiB a rank at most",
        "energy": energy,
    }
    if "mfu" in table:
        lines["mfu"] = f"{100 * table['mfu']:.1f} % of {found['cost']['peak_tflops']:,.0f} TFLOP/s"
    width = max(map(len, lines))
    return ["", *(f"{key:<{width}}  {value}" for key, value in lines.items())]


def _file(params: Params) -> Path:
    model, recipe, launcher = params.selected_model, params.selected_recipe, params.selected_launcher
    settings = [model.model_dump_json(), recipe.model_dump_json(exclude=_NO_SPEED), launcher.model_dump_json()]
    name = hashlib.sha256("\n".join(settings).encode()).hexdigest()[:16]
    return storage.root(params) / "probes" / f"{name}.json"
