import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from shrinkproof.compressors.constraint import (
    Codebook,
    FakeQuantWeight,
    Mask,
    average_level_gradients,
    bake,
    check_constraints,
    constrain,
    constraints_of,
    is_constrained,
    weight_scale,
)
from shrinkproof.errors import CompressionError


def linear(weight):
    layer = nn.Linear(len(weight[0]), len(weight))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
    return layer


def test_mask_zeroes_weight_and_gradient_without_negative_zero():
    layer = linear([[-1.0, 2.0, -3.0]])
    constrain(layer, "weight", Mask(torch.tensor([[False, True, True]])))
    assert layer.weight.tolist() == [[0.0, 2.0, -3.0]]
    assert not torch.signbit(layer.weight[0, 0])
    layer(torch.ones(1, 3)).sum().backward()
    assert layer.parametrizations.weight.original.grad.tolist() == [[0.0, 1.0, 1.0]]


def test_second_mask_is_merged_and_revives_nothing():
    layer = linear([[1.0, 2.0, 3.0]])
    constrain(layer, "weight", Mask(torch.tensor([[False, True, True]])))
    constrain(layer, "weight", Mask(torch.tensor([[True, True, False]])))
    assert layer.weight.tolist() == [[0.0, 2.0, 0.0]]
    assert len(constraints_of(layer)) == 1


def test_codebook_gradient_is_the_sum_and_pinned_zero_gets_none():
    layer = linear([[0.9, 1.1, 0.0, -2.0]])
    codebook = Codebook(torch.tensor([-2.0, 0.0, 1.0]), torch.tensor([[2, 2, 1, 0]]), True)
    constrain(layer, "weight", codebook)
    assert layer.weight.tolist() == [[1.0, 1.0, 0.0, -2.0]]
    layer(torch.tensor([[1.0, 10.0, 100.0, 1000.0]])).sum().backward()
    assert codebook.levels.grad.tolist() == [1000.0, 0.0, 11.0]
    assert layer.parametrizations.weight.original.grad is None
    average_level_gradients(layer)()
    assert codebook.levels.grad.tolist() == [1000.0, 0.0, 5.5]


def test_codebook_accepts_uint8_index():
    layer = linear([[1.0, 2.0]])
    index = torch.tensor([[1, 0]], dtype=torch.uint8)
    constrain(layer, "weight", Codebook(torch.tensor([0.5, 4.0]), index))
    assert layer.weight.tolist() == [[4.0, 0.5]]


def test_fake_quantization_rounds_half_to_even_and_clips():
    layer = linear([[0.5, 1.5, 2.5, -2.5, 1000.0, -1000.0, -0.2]])
    constrain(layer, "weight", FakeQuantWeight(torch.tensor([1.0])))
    assert layer.weight.tolist() == [[0.0, 2.0, 2.0, -2.0, 127.0, -127.0, 0.0]]
    assert not torch.signbit(layer.weight[0, -1])
    layer(torch.ones(1, 7)).sum().backward()
    assert layer.parametrizations.weight.original.grad.tolist() == [[1, 1, 1, 1, 0, 0, 1]]


def test_fake_quantization_has_one_scale_per_output_channel():
    layer = linear([[1.0, 2.0], [1.0, 2.0]])
    constrain(layer, "weight", FakeQuantWeight(torch.tensor([1.0, 4.0])))
    assert layer.weight.tolist() == [[1.0, 2.0], [0.0, 0.0]]


def constrained_conv():
    layer = nn.Conv2d(2, 4, 3)
    mask = torch.rand_like(layer.weight) > 0.5
    index = torch.where(mask, torch.where(layer.weight > 0, 2, 0), 1)
    constrain(layer, "weight", Mask(mask))
    constrain(layer, "weight", Codebook(torch.tensor([-0.1, 0.0, 0.1]), index, True))
    constrain(layer, "weight", FakeQuantWeight(torch.tensor([0.1 / 127])))
    return layer, mask


def test_all_three_compose_and_are_measured():
    layer, mask = constrained_conv()
    measured = check_constraints(layer)["weight"]
    assert measured.distinct == 3
    assert measured.zeros == pytest.approx(float((~mask).float().mean()), abs=1e-6)
    assert measured.size == layer.weight.numel()


def test_bake_restores_keys_in_order_class_and_value():
    layer, _ = constrained_conv()
    keys = list(nn.Conv2d(2, 4, 3).state_dict())
    value = layer.weight.detach().clone()
    bake(layer)
    assert list(layer.state_dict()) == [*keys, "weight_scale"]
    assert type(layer) is nn.Conv2d
    assert torch.equal(layer.weight, value)
    assert layer.weight.requires_grad
    assert layer.weight_scale.tolist() == pytest.approx([0.1 / 127])


def test_baking_a_deep_copy_leaves_the_original_usable():
    # torch 2.13 deletes the property from the class that both share.
    layer, _ = constrained_conv()
    twin = copy.deepcopy(layer)
    bake(twin)
    assert is_constrained(layer)
    assert torch.equal(layer.weight, twin.weight)


def test_bake_keeps_frozen_weights_frozen():
    layer = linear([[1.0, 2.0]])
    layer.weight.requires_grad_(False)
    codebook = Codebook(torch.tensor([1.0, 2.0]), torch.tensor([[0, 1]]))
    constrain(layer, "weight", codebook)
    assert not codebook.levels.requires_grad
    bake(layer)
    assert not layer.weight.requires_grad


def test_wrong_order_names_layer_and_order():
    layer, _ = constrained_conv()
    with pytest.raises(CompressionError, match=r"stem\.weight.*mask after fake quantization"):
        constrain(layer, "weight", Mask(torch.ones_like(layer.weight).bool()), layer="stem")
    book = Codebook(torch.ones(1), torch.zeros_like(layer.weight).long())
    with pytest.raises(CompressionError, match="codebook after fake quantization"):
        constrain(layer, "weight", book)


def test_foreign_parametrization_is_refused_and_survives_bake():
    layer = weight_norm(nn.Linear(2, 2))
    with pytest.raises(CompressionError, match="_WeightNorm"):
        constrain(layer, "weight", Mask(torch.ones(2, 2).bool()))
    bake(layer)
    assert "parametrizations.weight.original0" in layer.state_dict()


def test_foreign_parametrization_of_another_tensor_survives_bake():
    class Double(nn.Module):
        def forward(self, b):
            return 2 * b

    layer = linear([[1.0, 2.0]])
    nn.utils.parametrize.register_parametrization(layer, "bias", Double())
    constrain(layer, "weight", Mask(torch.tensor([[True, False]])))
    twin = copy.deepcopy(layer)
    bake(layer)
    assert layer.weight.tolist() == [[1.0, 0.0]]
    assert torch.equal(layer(torch.ones(1, 2)), twin(torch.ones(1, 2)))
    assert is_constrained(twin)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Codebook(torch.ones(2), torch.tensor([2])), "0 to 1"),
        (lambda: Codebook(torch.ones(2), torch.tensor([0]), True), "exactly 0"),
        (lambda: FakeQuantWeight(torch.tensor([0.0])), "> 0"),
        (lambda: FakeQuantWeight(torch.tensor([1.0]), bits=1), "2 to 16"),
    ],
    ids=["index", "zero", "scale", "bits"],
)
def test_wrong_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("is_trainable", [True, False])
def test_codebook_of_a_shared_weight_learns_unless_the_weight_was_frozen(is_trainable):
    first, second = linear([[1.0, 2.0]]), linear([[0.0, 0.0]])
    second.weight = first.weight.requires_grad_(is_trainable)
    codebook = Codebook(torch.tensor([1.0, 2.0]), torch.tensor([[0, 1]]))
    for layer in (first, second):
        constrain(layer, "weight", codebook)
    assert codebook.levels.requires_grad == is_trainable
    bake(nn.Sequential(first, second))
    assert first.weight is second.weight
    assert first.weight.requires_grad == is_trainable


def test_scale_by_hand():
    weight = torch.tensor([[127.0, -254.0], [0.0, 0.0], [1e-30, 0.0]])
    assert weight_scale(weight, bits=8, per_tensor=False).tolist() == [2.0, 2.0, 2.0]
    assert weight_scale(weight, bits=8, per_tensor=True).tolist() == [2.0]


@pytest.mark.parametrize("largest", [0.0, 1e-44, 2.66e-43, 1e-38])
@pytest.mark.parametrize("per_tensor", [False, True])
def test_numbers_too_small_for_a_scale_become_zero(largest, per_tensor):
    weight = torch.tensor([[largest, 0.0], [-largest, 0.0]])
    scale = weight_scale(weight, bits=8, per_tensor=per_tensor)
    assert scale.tolist() == pytest.approx([1 / 127] * (1 if per_tensor else 2))
    assert not FakeQuantWeight(scale)(weight).any()
