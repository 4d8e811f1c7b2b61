"""Pooling and losses against arrays computed with FLAIR's and open_clip's modules (tests/golden/README.md)."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from caft.loss.part import part_loss
from caft.loss.sigmoid import pairwise_sigmoid
from caft.network.text_pool import TextConditionedPool
from tests.reference.golden import FOLDER, Arrays, assert_equal, compared


def pooling(arrays: Arrays) -> TextConditionedPool:
    pool = TextConditionedPool(32, int(arrays["n_head"])).to(arrays["w_attn_in_proj_weight"].dtype)
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


def assert_gradients_equal(pool: TextConditionedPool, arrays: Arrays) -> None:
    for leaf in ("weight", "bias"):
        packed = torch.cat([pool.get_parameter(f"{name}.{leaf}").grad for name in ("query", "key", "value")])
        assert_equal(packed, arrays[f"g_attn_in_proj_{leaf}"])
        assert_equal(pool.get_parameter(f"out.{leaf}").grad, arrays[f"g_attn_out_proj_{leaf}"])
        for name in ("query", "key", "value"):
            assert_equal(pool.get_parameter(f"norm_{name}.{leaf}").grad, arrays[f"g_ln_{name[0]}_{leaf}"])


def test_every_golden_file_is_compared() -> None:
    """`compared` sees to it that each array is; the arrays in JSON are small tables that a test walks whole."""
    sources = "".join(path.read_text() for path in Path(__file__).parents[1].rglob("test_*.py"))
    for path in sorted(FOLDER.iterdir()):
        if path.suffix == ".npz":
            assert f'compared("{path.stem}")' in sources, path.name
        elif path.name != "README.md":
            assert f'/ "{path.name}"' in sources, path.name


def test_pooling_equals_the_original() -> None:
    with compared("flair_attn_pool_f64") as arrays:
        pool = pooling(arrays)
        assert {norm.eps for norm in (pool.norm_query, pool.norm_key, pool.norm_value)} == {float(arrays["ln_eps"])}
        tokens, text = arrays["image_tokens"].requires_grad_(), arrays["text"].requires_grad_()
        pooled, attention = pool(text, tokens)
        assert_equal(pooled, arrays["out"])
        assert_equal(attention, arrays["attn_weights_heads"])
        assert_equal(attention.mean(1), arrays["attn_weights_avg"])
        (pooled * arrays["cotangent"]).sum().backward()
        assert_equal(tokens.grad, arrays["grad_image_tokens"])
        assert_equal(text.grad, arrays["grad_text"])
        bank = arrays["text_bank"].expand(3, -1, -1)
        assert_equal(pool(bank, tokens)[0], arrays["out_bank"])
        assert_equal(pool(text, tokens[:, :1])[0], arrays["out_single_key"])


def test_sigmoid_losses_equal_the_originals() -> None:
    with compared("flair_sigmoid_loss") as arrays:
        image, text = arrays["image"].requires_grad_(), arrays["text"].requires_grad_()
        texts = int(arrays["K"])
        multi = torch.where(torch.arange(18)[None] // texts == torch.arange(6)[:, None], 1.0, -1.0).double()
        assert_equal(multi, arrays["mps_labels"])
        one, none = 2 * torch.eye(6, dtype=torch.float64) - 1, -torch.ones(6, 18, dtype=torch.float64)
        log_scales = arrays["log_logit_scale"].requires_grad_()
        biases = arrays["logit_bias"].requires_grad_()
        results = []
        for case in range(3):
            logits = log_scales[case].exp() * image @ text.T + biases[case]
            if case == 0:
                assert_equal(logits, arrays["mps_logits_case0"])
            results.append(
                [
                    pairwise_sigmoid(logits[:, ::texts], one) / 6,
                    pairwise_sigmoid(logits[:, ::texts], none[:, :6]) / 6,
                    pairwise_sigmoid(logits, multi) / 18,
                    pairwise_sigmoid(logits, none) / 18,
                    pairwise_sigmoid(logits, multi) / 6,
                ]
            )
        columns = [torch.stack(column) for column in zip(*results, strict=True)]
        for column, name in zip(
            columns, ("siglip", "siglip_negonly", "mps", "mps_negonly", "mps_over_img"), strict=True
        ):
            assert_equal(column, arrays[name])
        # open_clip's chunks take softplus for linear above 20, which is off by up to 1.9e-10.
        torch.testing.assert_close(columns[0], arrays["siglip_chunked"], atol=2e-10, rtol=0)
        columns[2][0].backward()
        assert log_scales.grad is not None and biases.grad is not None
        assert_equal(log_scales.grad[0], arrays["grad_log_scale_case0"])
        assert_equal(biases.grad[0], arrays["grad_bias_case0"])
        assert_equal(image.grad, arrays["grad_image_case0"])
        assert_equal(text.grad, arrays["grad_text_case0"])


@pytest.mark.parametrize("implementation", ["naive", "fused"])
def test_part_loss_equals_the_original_in_value_and_gradient(
    implementation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caft.loss.part_tiles._PAIRS_ON_CPU", 20)  # tiles of three images and one
    with compared("flair_tcs_loss_K3_tcs") as arrays:
        pool = pooling(arrays)
        texts, images = int(arrays["K"]), 4
        tokens, text = arrays["image_tokens"].requires_grad_(), arrays["text"].requires_grad_()
        log_scale, bias = arrays["log_logit_scale"].requires_grad_(), arrays["logit_bias"].requires_grad_()
        index = arrays["sub_index"]
        owner = torch.arange(images * texts) // texts
        # The input of FLAIR's second loss, which these results leave out.
        assert arrays["image_global"].shape == (images, 32)

        def loss(owner: torch.Tensor, index: torch.Tensor | None, normaliser: float) -> torch.Tensor:
            return part_loss(
                tokens,
                text,
                owner,
                pool,
                log_scale.exp(),
                bias,
                index=index,
                normaliser=normaliser,
                negatives="all" if index is None else "sampled",
                implementation=implementation,
            )

        found = loss(owner, index, images + texts - 1)
        assert_equal(found, arrays["loss_tcs"])
        assert_equal(found, arrays["loss"])
        found.backward()
        assert_equal(tokens.grad, arrays["grad_image_tokens"])
        assert_equal(text.grad, arrays["grad_text"])
        assert_equal(log_scale.grad, arrays["grad_log_scale"])
        assert_equal(bias.grad, arrays["grad_bias"])
        assert_gradients_equal(pool, arrays)
        assert_equal(loss(owner + images, index, images + texts - 1), arrays["loss_negative_only"])
        assert_equal(loss(owner, None, 1), arrays["full_loss_sum"])

        own = torch.arange(images)[:, None]
        assert_equal(torch.where(owner[index] == own, 1.0, -1.0).double(), arrays["labels"])
        assert_equal(torch.where(owner[None] == own, 1.0, -1.0).double(), arrays["full_labels"])
        pooled, _ = pool(text[index], tokens)
        assert_equal(pooled, arrays["pooled"])
        for compare, asked, name in (
            (pooled, text[index], "logits"),
            (pool(text.expand(images, -1, -1), tokens)[0], text, "full_logits"),
        ):
            assert_equal(log_scale.exp() * F.cosine_similarity(compare, asked, dim=-1) + bias, arrays[name])
