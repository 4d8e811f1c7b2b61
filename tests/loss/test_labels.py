import torch

from caft.loss.labels import rank_blocks, sampled_index


def test_each_image_meets_its_own_texts_and_one_of_each_other_image() -> None:
    images, texts = 5, 3
    index = sampled_index(images, texts, torch.Generator().manual_seed(0))
    assert index.shape == (5, 7)
    for image, row in enumerate(index.tolist()):
        assert row == sorted(row)
        owners = [text // texts for text in row]
        assert owners.count(image) == texts
        assert all(owners.count(other) == 1 for other in range(images) if other != image)
        assert row[image : image + texts] == [image * texts + k for k in range(texts)]


def test_draws_are_fresh_for_each_pair_of_images() -> None:
    counts = torch.zeros(8)
    for seed in range(400):
        index = sampled_index(2, 8, torch.Generator().manual_seed(seed))
        counts[index[1, 0]] += 1
    assert counts.min() > 25  # 50 expected each


def test_blocks_of_all_ranks_are_the_same_on_each_rank_and_change_with_the_step() -> None:
    table = rank_blocks(4, 2, 3, seed=1, step=7)
    assert table.shape == (4, 15)
    assert torch.equal(table, rank_blocks(4, 2, 3, seed=1, step=7))
    assert not torch.equal(table, rank_blocks(4, 2, 3, seed=1, step=8))
    assert [int(block.min() // 8) for block in table.split(5, dim=1)] == [0, 1, 2]
