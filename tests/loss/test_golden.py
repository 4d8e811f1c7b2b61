"""Pooling and losses against arrays computed with FLAIR's and open_clip's modules (tests/golden/README.md)."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from caft.grounding import TextConditionedPool
from caft.loss.part import part_loss
from caft.loss.sigmoid import pairwise_sigmoid

GOLDEN = Path(__file__).parent.parent / "golden"


def load(name: str) -> dict[str, Tensor]:
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        return {
            key: torch.from_numpy(np.asarray(arrays[key])) for key in arrays.files if arrays[key].dtype.kind in "fiub"
        }


def pooling(arrays: dict[str, Tensor], heads: int = 8) -> TextConditionedPool:
    pool = TextConditionedPool(32, heads).to(arrays["w_attn_in_proj_weight"].dtype)
    state = {}
    for part, name in enumerate(("query", "key", "value")):
        rows = slice(32 * part, 32 * (part + 1))
        state[f"{name}.weight"] = arrays["w_attn_in_proj_weight"][rows]
        state[f"{name}.bias"] = arrays["w_attn_in_proj_bias"][rows]
        for leaf in ("weight", "bias"):
            state[f"norm_{name}.{leaf}"] = arrays[f"w_ln_{name[0]}_{leaf}"]
    for leaf in ("weight", "bias"):
        state[f"out.{leaf}"] = arrays[f"w_attn_out_proj_{leaf}"]
    pool.load_state_dict(state)
    return pool


def test_pooling_equals_the_original() -> None:
    arrays = load("flair_attn_pool_f64")
    pool = pooling(arrays)
    tokens, text = arrays["image_tokens"].requires_grad_(), arrays["text"].requires_grad_()
    pooled, attention = pool(text, tokens)
    close = {"atol": 1e-10, "rtol": 1e-10}
    torch.testing.assert_close(pooled, arrays["out"], **close)
    torch.testing.assert_close(attention, arrays["attn_weights_heads"], **close)
    (pooled * arrays["cotangent"]).sum().backward()
    torch.testing.assert_close(tokens.grad, arrays["grad_image_tokens"], **close)
    torch.testing.assert_close(text.grad, arrays["grad_text"], **close)
    bank = arrays["text_bank"].expand(3, -1, -1)
    torch.testing.assert_close(pool(bank, arrays["image_tokens"])[0], arrays["out_bank"], **close)
    single = pool(arrays["text"], arrays["image_tokens"][:, :1])[0]
    torch.testing.assert_close(single, arrays["out_single_key"], **close)


def test_sigmoid_losses_equal_the_originals() -> None:
    arrays = load("flair_sigmoid_loss")
    image, text = arrays["image"], arrays["text"]
    multi = torch.where(torch.arange(18)[None] // 3 == torch.arange(6)[:, None], 1.0, -1.0)
    for case in range(3):
        scale, bias = arrays["log_logit_scale"][case].exp(), arrays["logit_bias"][case]
        logits = scale * image @ text.T + bias
        one = pairwise_sigmoid(logits[:, ::3], 2 * torch.eye(6) - 1) / 6
        torch.testing.assert_close(one, arrays["siglip"][case].to(one.dtype), atol=1e-10, rtol=1e-6)
        found = pairwise_sigmoid(logits, multi) / 18
        torch.testing.assert_close(found, arrays["mps"][case].to(found.dtype), atol=1e-10, rtol=1e-6)


@pytest.mark.parametrize("implementation", ["naive", "fused"])
def test_sampled_part_loss_equals_the_original_in_value_and_gradient(
    implementation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caft.loss.part._PAIRS_AT_ONCE", 20)  # uneven portions of three and one images
    arrays = load("flair_tcs_loss_K3_tcs")
    pool = pooling(arrays)
    tokens, text = arrays["image_tokens"].requires_grad_(), arrays["text"].requires_grad_()
    log_scale = torch.tensor(1 / 0.07, dtype=text.dtype).log().requires_grad_()
    bias = torch.tensor(-10.0, dtype=text.dtype).requires_grad_()
    loss = part_loss(
        tokens,
        text,
        torch.arange(12) // 3,
        pool,
        log_scale.exp(),
        bias,
        index=arrays["sub_index"].long(),
        normaliser=6,
        negatives="sampled",
        implementation=implementation,
    )
    close = {"atol": 1e-8, "rtol": 1e-5}
    torch.testing.assert_close(loss, arrays["loss"].to(loss.dtype).squeeze(), **close)
    loss.backward()
    for found, name in (
        (tokens.grad, "grad_image_tokens"),
        (text.grad, "grad_text"),
        (log_scale.grad, "grad_log_scale"),
        (bias.grad, "grad_bias"),
        (pool.out.weight.grad, "g_attn_out_proj_weight"),
        (pool.query.weight.grad, "g_attn_in_proj_weight"),
        (pool.norm_value.bias.grad, "g_ln_v_bias"),
    ):
        expected = arrays[name][:32] if name.endswith("in_proj_weight") else arrays[name]
        torch.testing.assert_close(found, expected.reshape(found.shape).to(found.dtype), atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize("implementation", ["naive", "fused"])
def test_all_pairs_equal_the_original_sum(implementation: str) -> None:
    arrays = load("flair_tcs_loss_K3_tcs")
    text = arrays["text"]
    loss = part_loss(
        arrays["image_tokens"],
        text,
        torch.arange(12) // 3,
        pooling(arrays),
        torch.tensor(1 / 0.07, dtype=text.dtype),
        torch.tensor(-10.0, dtype=text.dtype),
        normaliser=1,
        negatives="all",
        implementation=implementation,
    )
    torch.testing.assert_close(loss, arrays["full_loss_sum"].to(loss.dtype).squeeze(), atol=1e-6, rtol=1e-6)
