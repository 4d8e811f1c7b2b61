#!/usr/bin/env bash
# open_clip_torch 3.3.0 (its file of losses alone, which needs nothing but torch), torch 2.13.0 (build for CPUs) on Python 3.11.
# Guess: `ClipLoss` on several ranks, behind the mean of gradients that DistributedDataParallel takes, has the gradient of one process
#        on the whole batch; `local_loss` and `gather_with_grad` only trade memory.
# Seen:  only with `gather_with_grad`. Without both (the default) the gradient is that of one process divided by the number of ranks:
#        Adam hides it, but clipping and its epsilon do not. With `local_loss` alone it has another direction. `SigLipLoss` has the
#        gradient of one process in all of its four forms.
# Here:  the losses of several ranks have the gradient of one, and a test compares them (caft/loss, tests/loss/test_ranks.py).
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --extra-index-url https://download.pytorch.org/whl/cpu torch==2.13.0+cpu numpy==2.4.6
"$work/env/bin/pip" install --quiet --no-deps open_clip_torch==3.3.0
cat > "$work/ranks.py" <<'P'
import importlib.util
import os
import sys
from importlib.metadata import distribution

import torch
import torch.distributed as dist
from torch.nn.functional import cosine_similarity, normalize

spec = importlib.util.spec_from_file_location("loss", distribution("open_clip_torch").locate_file("open_clip/loss.py"))
losses = importlib.util.module_from_spec(spec)
spec.loader.exec_module(losses)
RANKS, OWN, SIZE, SCALE, BIAS = 4, 4, 8, torch.tensor(10.0), torch.tensor(-5.0)
torch.manual_seed(0)
PICTURES, TEXTS = torch.randn(2, RANKS * OWN, SIZE)
START = 0.3 * torch.randn(SIZE, SIZE)


def gradient(loss, rows):
    weight = START.clone().requires_grad_()
    loss(normalize(PICTURES[rows] @ weight, dim=1), normalize(TEXTS[rows] @ weight, dim=1)).backward()
    return weight.grad.flatten()


def compare(rank, meeting):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=RANKS)
    place, seen = {"rank": rank, "world_size": RANKS}, {}
    ones = {"clip": lambda p, t: losses.ClipLoss()(p, t, SCALE), "siglip": lambda p, t: losses.SigLipLoss()(p, t, SCALE, BIAS)}
    several = {("clip", local, gathered): losses.ClipLoss(local_loss=local, gather_with_grad=gathered, **place)
               for local in (False, True) for gathered in (False, True)}
    several |= {("siglip", form): losses.SigLipLoss(dist_impl=form, **place) for form in ("bidir", "shift", "reduce", "gather")}
    for name, loss in several.items():
        more = (SCALE,) if name[0] == "clip" else (SCALE, BIAS)
        mean = gradient(lambda p, t: loss(p, t, *more), slice(rank * OWN, (rank + 1) * OWN)) / RANKS
        dist.all_reduce(mean)
        one = gradient(ones[name[0]], slice(None))
        seen[name] = round(float(mean.norm() / one.norm()), 3), round(float(cosine_similarity(mean, one, dim=0)), 3)
    if rank == 0:
        print(f"{torch.__version__}, {RANKS} ranks: length of the gradient over that of one process, and cosine between them")
        for name, found in seen.items():
            print(" ", *name, found)
        assert all(seen["siglip", form] == (1, 1) for form in ("bidir", "shift", "reduce", "gather"))
        assert seen["clip", False, True] == seen["clip", True, True] == (1, 1)
        assert seen["clip", False, False] == (1 / RANKS, 1) and seen["clip", True, False][1] < 0.99
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.multiprocessing.spawn(compare, args=(os.path.abspath(sys.argv[1]),), nprocs=RANKS)
P
"$work/env/bin/python" "$work/ranks.py" "$work/meeting"
