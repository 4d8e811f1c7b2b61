import pytest
import torch
from torch.nn import functional as F

from caft import similarity
from caft.similarity import blend, part_scores


@pytest.fixture
def features():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(5, 32, 64, generator=generator), torch.randn(7, 4, 64, generator=generator)


def naive_part(model, image, chunks):
    """One image, one caption: each chunk asks the segments; the mean of the logits."""
    logits = []
    with torch.no_grad():
        for chunk in chunks:
            pooled, _ = model.pool(chunk[None, None], image[None])
            cosine = F.cosine_similarity(pooled[0, 0], chunk, dim=0)
            logits.append(model.part_scale * cosine + model.part_bias)
    return torch.stack(logits).mean()


@pytest.mark.parametrize("images_at_once, texts_at_once", [(64, 256), (2, 5), (1, 1)])
def test_part_scores_equal_the_mean_over_chunks_pair_by_pair(
    model, features, images_at_once, texts_at_once, monkeypatch
):
    monkeypatch.setattr(similarity, "_IMAGES_AT_ONCE", images_at_once)
    monkeypatch.setattr(similarity, "_TEXTS_AT_ONCE", texts_at_once)  # tiles end inside a caption
    part, texts = features
    scores = part_scores(model, part, texts)
    assert scores.shape == (5, 7)
    for i in range(5):
        for t in range(7):
            assert scores[i, t].item() == pytest.approx(naive_part(model, part[i], texts[t]).item(), abs=1e-4)


def test_blend_mixes_logits_without_bias(model):
    whole_cosine, part_cosine = torch.tensor([[0.25]]), torch.tensor([[0.5]])
    whole = model.whole_scale * whole_cosine + model.whole_bias.detach()
    part = model.part_scale * part_cosine + model.part_bias.detach()
    mixed = blend(model, whole, part, 0.3)
    assert mixed.item() == pytest.approx(0.7 * model.whole_scale * 0.25 + 0.3 * model.part_scale * 0.5, abs=1e-4)
    assert blend(model, whole, part, 0.3, "cosine").item() == pytest.approx(0.7 * 0.25 + 0.3 * 0.5, abs=1e-5)


def test_ends_of_the_blend_are_the_scores_themselves(model):
    generator = torch.Generator().manual_seed(1)
    whole, part = torch.randn(4, 4, generator=generator), torch.randn(4, 4, generator=generator)
    for space in ("logit", "cosine"):
        assert torch.equal(blend(model, whole, part, 0.0, space).argsort(1), whole.argsort(1))
        assert torch.equal(blend(model, whole, part, 1.0, space).argsort(1), part.argsort(1))


@pytest.mark.parametrize("weight, space", [(-0.1, "logit"), (1.1, "logit"), (0.5, "log")])
def test_no_weight_or_space_is_refused(model, weight, space):
    with pytest.raises(ValueError, match="expected a weight in"):
        blend(model, torch.zeros(1, 1), torch.zeros(1, 1), weight, space)
