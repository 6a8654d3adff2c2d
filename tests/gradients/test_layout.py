from __future__ import annotations

import pytest
import torch
from torch import nn

from grokscope.gradients.layout import flatten, gradient_layout, gradients_of


class Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.recurrent = nn.LSTM(2, 3)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)


def test_slots_tile_the_flat_vector_in_the_order_of_the_parameters() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    layout = gradient_layout(net.named_parameters())
    assert [slot.offset for slot in layout.slots] == [0, 12, 16, 24]
    assert layout.size == 26
    assert layout.layers == ("0", "2")
    assert layout.layer_sizes() == [16, 10]


def test_a_layer_is_a_module_that_owns_parameters_and_frozen_ones_are_left_out() -> None:
    layout = gradient_layout(Odd().named_parameters())
    assert layout.layers == ("scale", "recurrent")


def test_a_matrix_is_named_by_its_layer_where_it_is_the_only_one() -> None:
    layout = gradient_layout(Odd().named_parameters())
    assert list(layout.matrices) == ["recurrent.weight_ih_l0", "recurrent.weight_hh_l0"]
    linear = gradient_layout(nn.Sequential(nn.Linear(3, 4)).named_parameters())
    assert list(linear.matrices) == ["0"]
    assert linear.matrices["0"].matrix_shape == (4, 3)


def test_further_dimensions_are_flattened_into_the_second() -> None:
    layout = gradient_layout(nn.Conv2d(2, 5, 3).named_parameters())
    (slot,) = layout.matrices.values()
    assert slot.matrix_shape == (5, 18)


def test_a_first_name_that_all_share_is_left_out() -> None:
    wrapper = nn.ModuleDict({"net": nn.ModuleDict({"a": nn.Linear(1, 1), "b": nn.Linear(1, 1)})})
    assert gradient_layout(wrapper.named_parameters()).layers == ("a", "b")


def test_a_number_alone_does_not_become_a_name() -> None:
    wrapper = nn.ModuleDict({"net": nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))})
    assert gradient_layout(wrapper.named_parameters()).layers == ("net.0", "net.1")


def test_gradients_are_read_without_a_change_and_missing_ones_are_zero() -> None:
    net = nn.Sequential(nn.Linear(2, 1, bias=False), nn.Linear(2, 1, bias=False))
    net[0](torch.tensor([3.0, 4.0])).backward()
    flat = flatten(gradients_of(net.parameters()))
    assert flat.tolist() == [3.0, 4.0, 0.0, 0.0]
    assert net[1].weight.grad is None


@pytest.mark.refusal
def test_a_module_without_anything_to_train_is_refused() -> None:
    with pytest.raises(ValueError, match="parameter that requires a gradient"):
        gradient_layout(nn.ReLU().named_parameters())
