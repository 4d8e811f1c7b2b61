"""Forms for export against the functions of the network that they stand for, and graphs against the whole network."""

import numpy as np
import pytest
import torch

from caft.export import forms, parity, running
from caft.export.graphs import graphs
from caft.network.vision.sampling import farthest_points
from caft.network.vision.segments import superpixel_tokens
from tests.export.conftest import random_network, sizes


@pytest.mark.parametrize("batch", [1, 3])
def test_means_over_superpixels_and_what_fills_empty_ones_are_the_same(batch: int) -> None:
    torch.manual_seed(batch)
    # Whole numbers: sums are exact in any order, so means are equal to the bit.
    features = torch.randint(-8, 9, (batch, 6, 6, 4)).float()
    labels = torch.randint(0, 16, (batch, 6, 6)) // 3 * 3  # ten of sixteen are empty, some as near to two others
    labels[0] = 5
    for found, wanted in zip(
        forms.superpixel_tokens(features, labels, 16), superpixel_tokens(features, labels, 16), strict=True
    ):
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("kind", ["random", "grid", "equal", "few", "far"])
def test_picks_are_the_same(kind: str) -> None:
    torch.manual_seed(0)
    points = {
        "random": torch.randn(4, 30, 8),
        "grid": torch.cartesian_prod(*[torch.arange(6.0)] * 2)[None].expand(2, -1, -1)[:, :30].contiguous(),
        "equal": torch.ones(2, 30, 3),
        "few": torch.randn(2, 3, 5).repeat(1, 10, 1),  # each point ten times
        "far": 1e4 + torch.randn(3, 30, 4),
    }[kind]
    empty = torch.rand(points.shape[:2]) < 0.4
    empty[0] = True
    for mask in (None, empty):
        assert torch.equal(forms.farthest_points(points, 30, mask), farthest_points(points, 30, mask))


@pytest.mark.parametrize("rows", [(), ("flair",), ("no_part",), ("visual_hierarchy",), ("textual_hierarchy",)], ids=str)
def test_graphs_of_every_row_of_table_3_give_what_the_network_gives(rows: tuple[str, ...]) -> None:
    network = random_network(sizes(*rows))
    parts = {graph.name: graph for graph in graphs(network)}
    assert set(parts) == {"image", "text", "caption", *(["score"] if network.has_part else [])}

    class Graphs:
        @torch.no_grad()
        def run(self, graph: str, inputs: running.Arrays) -> running.Arrays:
            found = parts[graph].module(**{name: torch.from_numpy(array) for name, array in inputs.items()})
            return {name: one.numpy() for name, one in zip(parts[graph].outputs, found, strict=True)}

    cases = parity.cases(running.Network(network))
    assert {case.graph for case in cases} == set(parts)
    difference = parity.compare(Graphs(), cases)
    assert difference.same == difference.pictures > 0
    assert max(difference.largest.values()) < 2e-5
    for graph in parts.values():  # no weights but its own go into its file
        names = {name.split(".")[1] for name in graph.module.state_dict()}
        assert names <= set(graph.module.uses)


def test_a_form_with_other_weights_picks_or_labels_is_found_out() -> None:
    network, other = random_network(sizes()), random_network(sizes())
    cases = parity.cases(running.Network(network))
    with torch.no_grad():
        other.whole_projection.weight[0, 0] += 1e-2
    difference = parity.compare(running.Network(other), cases)
    assert difference.same == difference.pictures and difference.largest["image.whole"] > 1e-4
    assert difference.largest["image.segments"] == difference.largest["text.features"] == 0

    class Swapped(running.Network):
        def run(self, graph: str, inputs: running.Arrays) -> running.Arrays:
            found = super().run(graph, inputs)
            return found | ({"picks_2": np.roll(found["picks_2"], 1, 1)} if graph == "image" else {})

    class Broken(running.Network):
        def run(self, graph: str, inputs: running.Arrays) -> running.Arrays:
            found = super().run(graph, inputs)
            return (
                found | ({"whole": found["whole"] * np.nan} if len(found["whole"]) == 2 else {})
                if "whole" in found
                else found
            )

    assert parity.compare(Broken(network), cases).worst == np.inf
    difference = parity.compare(Swapped(network), cases)
    assert difference.same == 0 and "image.whole" not in difference.largest  # nothing was compared there
    table = parity.table({"swapped": difference}, {"network": {"a": {"R@1": 1.0}}, "swapped": {"a": {"R@1": 0.5}}})
    assert "| swapped | 0.0e+00 | 0 of 8 | 0.50 |" in table and "| `image.whole` | - |" in table
