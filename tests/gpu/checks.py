"""What is checked on a GPU, as functions of the device; tests/test_devices.py runs the same on the CPU."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from caft import CAFT, Model, ModelCard
from caft.data.training.batch import Batch
from caft.eval.scores.regions import box_weights
from caft.loss.part import part_loss
from caft.loss.sigmoid import pairwise_sigmoid
from caft.model.maps import attention_maps
from caft.model.scores import part_scores, whole_scores
from caft.network.layers import sin_cos_positions
from caft.network.text_pool import TextConditionedPool
from caft.network.vision import superpixels
from caft.network.vision.graph_pool import GraphPool
from caft.network.vision.sampling import farthest_points
from caft.network.vision.segments import segment_mean
from caft.params import load_params
from caft.params.recipes import RecipeParams
from caft.train.distributed import World
from caft.train.task import TrainingTask
from caft.train.trainer import Trainer

TESTS = Path(__file__).parents[1]
PARAMS = load_params(TESTS.parent / "params.yaml")
Arrays = dict[str, Tensor]
GRAPH_POOL_NAMES = {
    "bias": "centroid_fc.bias", "norm": "centroid_fc.norm", "attn.qkv": "centroid_fc.attn.qkv",
    "attn.proj": "centroid_fc.attn.proj", "expand_norm": "fc1.0", "expand": "fc1.1",
    "reduce_norm": "fc2.0", "reduce": "fc2.1",
}  # fmt: skip


# ---- golden arrays: each case gives what it computes by the names of the arrays that it must equal


def golden(name: str, device: torch.device) -> Arrays:
    """Arrays of a file, on the device."""
    with np.load(TESTS / "golden" / f"{name}.npz") as file:
        kept = [key for key in file.files if file[key].dtype.kind in "fiub"]
        return {key: torch.from_numpy(np.asarray(file[key])).to(device) for key in kept}


def sampled(arrays: Arrays) -> Arrays:
    # After the six distinct points of `dup` the original repeats index 0; ours goes on with points not yet picked.
    return {
        f"{case}_idx": farthest_points(arrays[f"{case}_points"], picks, start=0)
        for case, picks in (("random", 17), ("ties", 12), ("dup", 6))
    }


def graph_pooled(arrays: Arrays) -> Arrays:
    pool = GraphPool(48, 12, 7).eval().to(arrays["in_src"].device)
    theirs = {}
    for name, _ in pool.named_parameters():
        stem, _, leaf = name.rpartition(".")
        theirs[name] = GRAPH_POOL_NAMES.get(name) or f"{GRAPH_POOL_NAMES[stem]}.{leaf}"
    pool.load_state_dict({ours: arrays[f"param.{name}"] for ours, name in theirs.items()})
    cls, tokens = arrays["in_cls"].requires_grad_(), arrays["in_src"].requires_grad_()
    pooled = pool(cls, tokens)
    ((pooled.groups * arrays["grad_w_centroids"]).sum() + (pooled.cls * arrays["grad_w_cls"]).sum()).backward()
    gradients = {f"grad.{theirs[name]}": parameter.grad for name, parameter in pool.named_parameters()}
    # Centring removes this bias: its gradient is rounding noise.
    kept = {n: g for n, g in gradients.items() if n in arrays and n != "grad.centroid_fc.attn.proj.bias"}
    return {
        "out_sampled_inds": pooled.picks, "out_logits": pooled.logits, "out_cls": pooled.cls,
        "out_centroids": pooled.groups, "grad_in_src": tokens.grad, "grad_in_cls": cls.grad, **kept,
    }  # type: ignore[dict-item]  # fmt: skip


def averaged(arrays: Arrays) -> Arrays:
    return {"mean": segment_mean(arrays["x"], arrays["index"].long(), 9)}


def positions(arrays: Arrays) -> Arrays:
    return {"pos": sin_cos_positions(28, 384).to(arrays["pos"].device)}


def softly_pooled(arrays: Arrays) -> Arrays:
    prob, features = arrays["prob"].requires_grad_(), arrays["feat"].requires_grad_()
    pooled = superpixels.pool(features, prob, 16)
    pool_prob, pool_features = torch.autograd.grad((pooled * arrays["w_pool"]).sum(), (prob, features))
    raised = superpixels.unpool(superpixels.pool(features, prob, 16), prob, 16)
    up_prob, up_features = torch.autograd.grad((raised * arrays["w_up"]).sum(), (prob, features))
    return {
        "pooled": pooled, "up": raised, "grad_pool_prob": pool_prob, "grad_pool_feat": pool_features,
        "grad_up_prob": up_prob, "grad_up_feat": up_features,
        "hard_map": superpixels.hard_labels(prob, 16)[:, None],
        "xy": superpixels.pixel_positions(48, 64, prob.device).expand(2, -1, -1, -1),
        "lab_of_rgb01": superpixels.rgb_to_lab(arrays["rgb01"]),
    }  # fmt: skip


def asked_pool(arrays: Arrays) -> TextConditionedPool:
    pool = TextConditionedPool(32, 8).to(arrays["w_attn_in_proj_weight"])
    state = {f"out.{leaf}": arrays[f"w_attn_out_proj_{leaf}"] for leaf in ("weight", "bias")}
    for leaf in ("weight", "bias"):
        for name, rows in zip(("query", "key", "value"), arrays[f"w_attn_in_proj_{leaf}"].chunk(3), strict=True):
            state[f"{name}.{leaf}"] = rows
            state[f"norm_{name}.{leaf}"] = arrays[f"w_ln_{name[0]}_{leaf}"]
    pool.load_state_dict(state)
    return pool


def attended(arrays: Arrays) -> Arrays:
    pool = asked_pool(arrays)
    tokens, text = arrays["image_tokens"].requires_grad_(), arrays["text"].requires_grad_()
    pooled, attention = pool(text, tokens)
    (pooled * arrays["cotangent"]).sum().backward()
    return {
        "out": pooled, "attn_weights_heads": attention, "attn_weights_avg": attention.mean(1),
        "grad_image_tokens": tokens.grad, "grad_text": text.grad,
        "out_bank": pool(arrays["text_bank"].expand(3, -1, -1), tokens)[0],
        "out_single_key": pool(text, tokens[:, :1])[0],
    }  # type: ignore[dict-item]  # fmt: skip


def compared(arrays: Arrays) -> Arrays:
    image, text = arrays["image"].requires_grad_(), arrays["text"].requires_grad_()
    scales, biases = arrays["log_logit_scale"].requires_grad_(), arrays["logit_bias"].requires_grad_()
    multi, one = arrays["mps_labels"], 2 * torch.eye(6, device=image.device) - 1
    logits = [scale.exp() * image @ text.T + bias for scale, bias in zip(scales, biases, strict=True)]
    found = {
        "siglip": torch.stack([pairwise_sigmoid(case[:, ::3], one) / 6 for case in logits]),
        "mps": torch.stack([pairwise_sigmoid(case, multi) / 18 for case in logits]),
        "mps_negonly": torch.stack([pairwise_sigmoid(case, -multi.abs()) / 18 for case in logits]),
    }
    found["mps"][0].backward()
    return {**found, "grad_image_case0": image.grad, "grad_text_case0": text.grad}  # type: ignore[dict-item]


def lost(arrays: Arrays, implementation: Any) -> Arrays:
    pool = asked_pool(arrays)
    tokens, text = arrays["image_tokens"].requires_grad_(), arrays["text"].requires_grad_()
    scale, bias = arrays["log_logit_scale"].requires_grad_(), arrays["logit_bias"].requires_grad_()
    owner = torch.arange(12, device=tokens.device) // 3
    loss = part_loss(
        tokens, text, owner, pool, scale.exp(), bias, index=arrays["sub_index"].long(), normaliser=6,
        negatives="sampled", implementation=implementation,
    )  # fmt: skip
    loss.backward()
    everything = part_loss(
        tokens, text, owner, pool, scale.exp(), bias, normaliser=1, negatives="all", implementation=implementation
    )
    packed = torch.cat([pool.get_parameter(f"{name}.weight").grad for name in ("query", "key", "value")])  # type: ignore[misc]
    return {
        "loss": loss, "full_loss_sum": everything, "grad_image_tokens": tokens.grad, "grad_text": text.grad,
        "grad_log_scale": scale.grad, "grad_bias": bias.grad, "g_attn_in_proj_weight": packed,
        "g_attn_out_proj_bias": pool.out.bias.grad, "g_ln_v_weight": pool.norm_value.weight.grad,
    }  # type: ignore[dict-item]  # fmt: skip


GOLDEN: dict[str, tuple[str, Callable[[Arrays], Arrays]]] = {
    "farthest point sampling": ("fps", sampled),
    "graph pooling": ("graph_pool_small", graph_pooled),
    "segment means": ("segment_mean", averaged),
    "position encodings": ("pos_embed_28x28_384", positions),
    "superpixel pooling": ("sfcn_pooling", softly_pooled),
    "text-conditioned pooling": ("flair_attn_pool_f64", attended),
    "sigmoid losses": ("flair_sigmoid_loss", compared),
    "part loss, naive": ("flair_tcs_loss_K3_tcs", lambda arrays: lost(arrays, "naive")),
    "part loss, fused": ("flair_tcs_loss_K3_tcs", lambda arrays: lost(arrays, "fused")),
}


def golden_differences(case: str, device: torch.device) -> Iterator[tuple[str, float, float]]:
    """Of each array of a case: its name, the largest error as a share of the largest entry, and what is allowed."""
    name, compute = GOLDEN[case]
    found, expected = compute(golden(name, device)), golden(name, torch.device("cpu"))
    for key, value in found.items():
        want = expected[key].double().reshape(-1)
        have = value.detach().cpu().double().reshape(-1) if key != "dup_idx" else value.cpu().double()
        if key == "dup_idx":
            want = expected[key][:, : have.shape[1]].double()
        share = float((have - want).abs().max() / want.abs().max().clamp(min=1e-30))
        exact = not expected[key].is_floating_point()
        yield key, share, 0.0 if exact else 1e-9 if expected[key].dtype == value.dtype == torch.float64 else 5e-5


# ---- training steps on random data


def random_batches(count: int, images: int = 8) -> list[Batch]:
    """Pictures of noise under texts of random words, in lengths from 3 to 77."""
    generator = torch.Generator().manual_seed(0)
    batches = []
    for number in range(count):
        tokens = torch.zeros(images, 8, 77, dtype=torch.long)
        for row in tokens.view(-1, 77):
            length = int(torch.randint(3, 78, (), generator=generator))
            row[:length] = torch.randint(1, 49406, (length,), generator=generator)
            row[0], row[length - 1] = 49406, 49407
        pixels = torch.randint(256, (images, 3, 64, 64), generator=generator, dtype=torch.uint8)
        batches.append(Batch(pixels, tokens, torch.arange(images) + number * images))
    return batches


def recipe(**changes: Any) -> RecipeParams:
    """The release's three terms, for a short run."""
    short = {"batch": 8, "learning_rate": 1e-3, "warmup_steps": 5, "validate_every": 10**6}
    return PARAMS.recipes["release"].model_copy(update={**short, "precision": "float32", **changes})


def task(settings: RecipeParams, device: torch.device) -> TrainingTask:
    torch.manual_seed(0)
    model = CAFT(PARAMS.models["tiny"], settings.chunks, settings.scale_start, settings.bias_start)
    return TrainingTask(model, settings, seed=0).to(device)


def train(
    folder: Path, device: torch.device, steps: int, precision: str, every: int = 10, stop_after: int | None = None
) -> TrainingTask:
    """Runs the trainer over the same four batches again and again, from the folder's newest checkpoint.

    Args:
        folder: Of the run.
        device: Where.
        steps: Length of the run.
        precision: Of the recipe.
        every: Steps between checkpoints.
        stop_after: Step at which the data ends, as if the job were killed there.
    """
    settings = recipe(precision=precision, checkpoint_every=every)
    made = task(settings, device)
    trainer = Trainer(made, settings, World(0, 1, device), folder, "check", steps, seed=0)
    batches = random_batches(4)
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    order = [batches[step % 4] for step in range(trainer.step, stop_after or steps)]
    try:
        trainer.train(order, lambda b: made.model.superpixel_labels(b.images.to(device)), dict)  # type: ignore[arg-type]
    except StopIteration:
        assert stop_after is not None
    return made


@torch.no_grad()
def starting_loss(device: torch.device) -> float:
    """Of the first batch, before the first step."""
    made, (batch,) = task(recipe(), device), random_batches(1)
    images = batch.images.to(device)
    return float(made(images, made.model.superpixel_labels(images), batch.tokens.to(device), 0)["loss"])


def losses(folder: Path) -> list[float]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


# ---- ranks


def run_rank(rank: int, ranks: int, kind: str, folder: str) -> None:
    """Writes the mean loss over ranks and the gradients of one step on this rank's share of a batch."""
    torch.set_num_threads(1)
    device = torch.device(kind, rank) if kind == "cuda" else torch.device(kind)
    if kind == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if kind == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=f"file://{folder}/store", rank=rank, world_size=ranks)
    terms, made = one_step(device, rank, ranks)
    mean = terms["loss"].detach().clone()
    dist.all_reduce(mean)
    gradients = {name: p.grad.cpu() for name, p in made.named_parameters() if p.grad is not None}
    torch.save({"loss": mean.cpu() / ranks, "gradients": gradients}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def one_step(device: torch.device, rank: int = 0, ranks: int = 1) -> tuple[dict[str, Tensor], TrainingTask]:
    """Loss terms and gradients of all pairs; statistics of batch norm are the stored ones, so that ranks can agree."""
    made = task(recipe(negatives="all"), device).eval()
    (batch,) = random_batches(1)
    images, tokens = (part.chunk(ranks)[rank].to(device) for part in (batch.images, batch.tokens))
    labels = made.model.superpixel_labels(images)
    wrapped = DistributedDataParallel(made) if ranks > 1 else made
    terms = wrapped(images, labels, tokens, 0)
    terms["loss"].backward()
    return terms, made


def rank_differences(kind: str, ranks: int, folder: Path) -> dict[str, float]:
    """Largest difference of the loss and of every gradient between several ranks and one process, as a share."""
    torch.multiprocessing.spawn(run_rank, (ranks, kind, str(folder)), nprocs=ranks)
    terms, made = one_step(torch.device(kind))
    found = torch.load(folder / "0.pt")
    expected = {name: p.grad.cpu() for name, p in made.named_parameters() if p.grad is not None}
    assert expected.keys() == found["gradients"].keys()
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    differences = {n: float((found["gradients"][n] - g).abs().max()) / largest for n, g in expected.items()}
    loss = float(terms["loss"].detach())
    return {"loss": abs(float(found["loss"]) - loss) / loss, **differences}


# ---- the model in use


@torch.no_grad()
def everything_asked(device: torch.device) -> Arrays:
    """What evaluation and a user read of a model: features, scores, boxes, maps and segments."""
    model = task(recipe(), device).model.eval()
    user = Model(model, ModelCard(splitter="dreamlip", chunks=4, balanced_rule="paper"))
    (batch,) = random_batches(1, images=2)
    images = model.image_features(batch.images.to(device))
    whole, parts = model.text_features(batch.tokens[:, :4].to(device))
    texts = model.sub_caption_features(batch.tokens[0, :3].to(device))
    one = images.split()[0]
    weights = box_weights(model, one, (8.0, 8.0, 40.0, 24.0), (64, 64))
    attention = model.attention(images.part, parts)
    return {
        "labels": images.labels, "whole": images.whole, "part": images.part,
        "whole logits": whole_scores(model, images.whole, whole),
        "part scores": part_scores(model, images.part, parts),
        "box logits": model.box_logits(one, weights, texts[None]),
        "pixel maps": model.segment_to_pixels(attention, images),
        "attention maps": torch.from_numpy(attention_maps(model, one, texts, (48, 80))),
        **{f"segments {level}": labels for level, labels in enumerate(model.stage_labels(images))},
        # From pictures on the device too, as a user may have them.
        "similarity": user.similarity(batch.images.to(device), ["A cat. It sleeps.", "A dog"]),
        "ground": torch.from_numpy(user.ground(batch.images[0].to(device), "A cat. It sleeps.")),
        "segment": torch.from_numpy(np.stack(user.segment(batch.images[0].to(device)))),
    }  # fmt: skip


def half_precision_differences(device: torch.device, half: torch.dtype) -> dict[str, float]:
    """Of each loss term under autocast: its difference from float32 as a share; gradients must be finite."""
    made = task(recipe(), device).eval()
    (batch,) = random_batches(1)
    images, tokens = batch.images.to(device), batch.tokens.to(device)
    labels = made.model.superpixel_labels(images)
    with torch.no_grad():
        expected = made(images, labels, tokens, 0)
    with torch.autocast(device.type, dtype=half):
        assert torch.equal(made.model.superpixel_labels(images), labels), "superpixels are not taken in float32"
        found = made(images, labels, tokens, 0)
    found["loss"].backward()
    trained = [p for p in made.parameters() if p.requires_grad]
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in trained)
    terms = {name: float(term) for name, term in expected.items() if name != "clamped_pairs"}  # a count
    return {name: abs(float(found[name].detach()) / term - 1) for name, term in terms.items()}
