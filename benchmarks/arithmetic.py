"""Measures what portable arithmetic costs a training step of `tiny`: processor time, against the native step.

The third form sets the variables alone and leaves torch's operations as they are.
"""

import json
import os
import subprocess
import sys
import time

FORMS = ("native", "variables", "portable")
IMAGES, STEPS, ROUNDS = 24, 12, 4  # images of one of two ranks of the default run
MOST = 1.25


def main() -> None:
    """Runs the forms in turn, each in a process of its own, and prints the least and the median time of a step."""
    if len(sys.argv) > 1:
        print(json.dumps(steps()))
        return
    from benchmarks.measuring import machine
    from caft.params import arithmetic

    environment = {key: value for key, value in os.environ.items() if key not in arithmetic.SETTINGS}
    environments = {
        "native": environment | {arithmetic.VARIABLE: "native"},
        "variables": environment | {arithmetic.VARIABLE: "native"} | arithmetic.SETTINGS,
        "portable": environment | {arithmetic.VARIABLE: "portable"},
    }
    taken: dict[str, list[float]] = {form: [] for form in FORMS}
    for _ in range(ROUNDS):
        for form in FORMS:
            command = [sys.executable, "-m", "benchmarks.arithmetic", "step"]
            done = subprocess.run(command, env=environments[form], check=True, capture_output=True, text=True)
            taken[form] += json.loads(done.stdout)
    print(f"{machine()}; {IMAGES} images, {ROUNDS} rounds of {STEPS} steps, one thread")
    least, median = ({form: pick(values) for form, values in taken.items()} for pick in (min, _median))
    for form in FORMS:
        print(
            f"{form:<10} {1e3 * least[form]:6.1f} ms least, {1e3 * median[form]:6.1f} ms median: "
            f"{least[form] / least['native']:.2f} and {median[form] / median['native']:.2f} of native"
            + (f"; at most {MOST} wanted" if form == "portable" else "")
        )


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def steps() -> list[float]:
    """Processor seconds of steps of the default model, after two that are not counted."""
    import caft.network  # noqa: F401, I001  # before torch
    import numpy as np
    import torch

    from caft.captions.tokenizer import tokenize
    from caft.data.scenes.captions import captions
    from caft.data.scenes.grammar import training_scene
    from caft.network.caft import CAFT
    from caft.params import load_params
    from caft.train.optim import parameter_groups
    from caft.train.task import TrainingTask

    torch.set_num_threads(1)
    torch.manual_seed(0)
    params = load_params()
    recipe = params.selected_recipe
    model = CAFT(params.selected_model, recipe.chunks, recipe.scale_start, recipe.bias_start)
    task = TrainingTask(model, recipe, 0)
    optimizer = torch.optim.AdamW(parameter_groups(task, recipe.weight_decay), fused=True)
    images = torch.randint(256, (IMAGES, 3, model.config.image_size, model.config.image_size), dtype=torch.uint8)
    labels = model.superpixel_labels(images)
    count = recipe.sub_captions
    described = [captions(training_scene(0, number), np.random.default_rng(number)) for number in range(IMAGES)]
    tokens = tokenize([text for texts in described for text in (texts + texts)[:count]]).unflatten(0, (-1, count))
    taken = []
    for step in range(STEPS + 2):
        begun = time.process_time()
        optimizer.zero_grad(set_to_none=True)
        task(images, labels, tokens, step)["loss"].backward()
        torch.nn.utils.clip_grad_norm_([p for p in task.parameters() if p.requires_grad], 1.0)
        optimizer.step()
        taken.append(time.process_time() - begun)
    return taken[2:]


if __name__ == "__main__":
    main()
