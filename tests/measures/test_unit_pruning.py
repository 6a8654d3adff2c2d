"""Pruned units: against nets that lack them."""

from __future__ import annotations

import pytest
import torch

from grokscope.measures.unit_pruning import pruned_accuracies, pruning_order


def test_accuracies_are_those_of_nets_without_the_units(generator):
    hidden = torch.randn(40, 9, generator=generator)
    last = torch.randn(5, 9, generator=generator)
    targets = torch.randint(5, (40,), generator=generator)
    order = torch.randperm(9, generator=generator)
    counts = [0, 1, 1, 4, 8, 9]
    found = pruned_accuracies(hidden, last, targets, order, counts)
    for count, accuracy in zip(counts, found, strict=True):
        kept = order[count:]
        logits = hidden[:, kept].double() @ last[:, kept].double().T
        right = logits.argmax(1) == targets
        if count < 9:  # with no unit left, all logits are equal up to rounding
            assert accuracy == right.double().mean()
    assert pruned_accuracies(hidden, last, targets, order, []).shape == (0,)


def test_order_is_by_score_either_way_and_units_without_one_go_first():
    scores = torch.tensor([0.5, torch.nan, 0.1, 0.5, 0.9])
    assert pruning_order(scores).tolist() == [1, 2, 0, 3, 4]
    assert pruning_order(scores, lowest_first=False).tolist() == [1, 4, 0, 3, 2]


@pytest.mark.refusal
@pytest.mark.parametrize("counts", [[2, 1], [4], [-1, 2]])
def test_counts_ascend(counts):
    with pytest.raises(ValueError, match=r"^counts must ascend from 0 to 3"):
        pruned_accuracies(
            torch.ones(2, 3), torch.ones(2, 3), torch.zeros(2).long(), torch.arange(3), counts
        )
