"""Quantization: grids by hand, places, composition, observers, gradients, restoring."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from shrinkproof.compressors import COMPRESSORS
from shrinkproof.compressors.activation import ActivationQuantizer, fake_quantize
from shrinkproof.compressors.constraint import bake, weight_scale
from shrinkproof.compressors.observers import Extremes, Histogram
from shrinkproof.compressors.quantize import StaticQuantization, cpu_needs_reduced_range
from shrinkproof.compressors.recipe import Recipe
from shrinkproof.errors import CompressionError, ModelError
from shrinkproof.records import Change


def step(name, **fields):
    return COMPRESSORS.create(name, fields)


def images(count=6, size=8):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(2))


def quantized(model, context, **fields):
    module, change = StaticQuantization(**fields).apply(copy.deepcopy(model), context)
    return module, change


def places(change):
    return [name for name in change.layers if name.startswith("activation_quantizers.")]


def test_halves_round_to_the_even_neighbor_as_in_onnx():
    scale, zero = torch.tensor(2.0), torch.tensor(3, dtype=torch.uint8)
    values = torch.tensor([-100.0, -7.0, -5.0, -3.0, -1.0, 0.0, 1.0, 3.0, 5.0, 504.0, 900.0])
    expected = torch.tensor([-6.0, -6.0, -4.0, -4.0, 0.0, 0.0, 0.0, 4.0, 4.0, 504.0, 504.0])
    assert torch.equal(fake_quantize(values, scale, zero), expected)


def test_gradient_passes_inside_the_range_only():
    values = torch.tensor([-1.0, 0.0, 100.0, 255.0, 256.0], requires_grad=True)
    fake_quantize(values, torch.tensor(1.0), torch.tensor(0, dtype=torch.uint8)).sum().backward()
    assert values.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]


def test_operator_obeys_the_rules_of_torch():
    torch.library.opcheck(
        fake_quantize,
        (torch.randn(2, 3), torch.tensor(0.1), torch.tensor(9, dtype=torch.uint8)),
        test_utils=("test_schema", "test_faketensor"),
    )


@given(st.floats(-1e4, 1e4, width=32), st.floats(-1e4, 1e4, width=32), st.floats(0, 1, width=32))
@settings(max_examples=60, deadline=None)
def test_values_in_the_range_move_by_half_a_step_at_most(first, second, part):
    quantizer = ActivationQuantizer()
    quantizer.cover(min(first, second), max(first, second))
    low, high = min(first, second, 0.0), max(first, second, 0.0)
    value = torch.tensor(low + part * (high - low))
    scale = float(quantizer.scale)
    # The zero point is rounded, so the end of the range may be cut by half a step more.
    assert abs(float(quantizer(value)) - float(value)) <= scale * 1.01 + 1e-6
    assert float(quantizer(torch.tensor(0.0))) == 0.0


def test_range_by_hand():
    quantizer = ActivationQuantizer()
    quantizer.cover(-1.0, 4.1)
    assert float(quantizer.scale) == pytest.approx(0.02)
    assert int(quantizer.zero_point) == 50
    quantizer.cover(0.5, 2.55)
    assert float(quantizer.scale) == pytest.approx(0.01)
    assert int(quantizer.zero_point) == 0


def test_place_that_was_always_zero_has_a_range():
    quantizer = ActivationQuantizer()
    quantizer.cover(0.0, 0.0)
    assert float(quantizer.scale) == pytest.approx(1 / 255)


def test_weight_scale_by_hand():
    weight = torch.tensor([[127.0, -1.0], [0.0, -63.5], [0.0, 0.0]])
    assert weight_scale(weight, bits=8, per_tensor=False).tolist() == [1.0, 0.5, 1.0]
    assert weight_scale(weight, bits=8, per_tensor=True).tolist() == [1.0]
    assert weight_scale(weight, bits=7, per_tensor=True).item() == pytest.approx(127 / 63)
    assert float(weight_scale(torch.zeros(2, 2), bits=8, per_tensor=True)) > 0


def test_extremes_notice_values_that_are_no_numbers():
    seen = Extremes()
    for values in ([1.0, 2.0], [float("nan"), 0.0], [3.0]):
        seen.see(torch.tensor(values))
    assert not np.isfinite(seen.low + seen.high)


def test_percentiles_leave_out_the_stated_part_to_a_bin():
    values = torch.randn(199_999, generator=torch.Generator().manual_seed(0))
    counted = Histogram(float(values.min()), float(values.max()))
    for part in values.split(7000):
        counted.see(part)
    width = (counted.high - counted.low) / 4096
    low, high = counted.percentiles(0.9999)
    assert (values < low).double().mean() <= 1e-4 < (values < low + 1.01 * width).double().mean()
    assert (values > high).double().mean() <= 1e-4 < (values > high - 1.01 * width).double().mean()


def test_weights_are_on_a_grid_per_channel(small_net, toy_context):
    module, change = quantized(small_net, toy_context, reduce_range=False)
    bake(module)
    state = module.state_dict()
    for name in ("stem", "depthwise", "mix", "head"):
        weight, scale = state[f"{name}.weight"], state[f"{name}.weight_scale"]
        integers = weight / scale.view(-1, *[1] * (weight.dim() - 1))
        assert scale.shape == (weight.shape[0],)
        assert torch.equal(integers.round() * scale.view(-1, *[1] * (weight.dim() - 1)), weight)
        assert int(integers.abs().max().round()) == 127
        account = change.layers[f"{name}.weight"]
        assert (account["bits"], account["per"]) == (8, "channel")
    assert change.achieved["quantized_layers"] == 4


def test_reduced_range_uses_seven_bits(small_net, toy_context):
    module, change = quantized(small_net, toy_context, reduce_range=True)
    bake(module)
    state = module.state_dict()
    integers = state["mix.weight"] / state["mix.weight_scale"].view(-1, 1, 1, 1)
    assert int(integers.abs().max().round()) == 63
    assert change.achieved["weight_bits"] == 7
    assert change.achieved["reduce_range"] is True
    assert change.achieved["reduce_range_from"] == "settings"


def test_range_follows_the_cpu(tmp_path, monkeypatch):
    info = tmp_path / "cpuinfo"
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    info.write_text("processor : 0\nflags\t: fpu avx2 avx512_vnni\n")
    assert cpu_needs_reduced_range(info) is False
    info.write_text("processor : 0\nflags\t: fpu avx2\n")
    assert cpu_needs_reduced_range(info) is True
    assert cpu_needs_reduced_range(tmp_path / "absent") is True
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert cpu_needs_reduced_range(info) is False


def test_quantizers_stand_where_numbers_are_computed(small_net, toy_context):
    module, change = quantized(small_net, toy_context)
    assert [name.split(".")[1] for name in places(change)] == [
        *("x", "relu", "depthwise", "relu_1", "mean"),
    ]
    logits = module(images())
    assert logits.unique().numel() > 15  # the logits are on no grid
    low = change.layers["activation_quantizers.relu"]
    assert low["zero_point"] == 0
    assert low["high"] == pytest.approx(low["scale"] * 255, rel=1e-6)


class Shortcut(nn.Module):
    """Residual additions, slicing, padding, pooling, an activation that is not a rectifier."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.third = nn.Conv2d(8, 8, 1)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(32, 3)

    def forward(self, x):
        x = F.relu(self.first(x))
        y = self.second(x) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))
        y = self.third(torch.sigmoid(y)) + y
        return self.head(self.pool(F.relu(y)).flatten(1))


def test_movers_need_no_quantizer_and_other_functions_get_one(toy_context):
    torch.manual_seed(0)
    _, change = quantized(Shortcut().eval(), toy_context)
    assert [name.split(".")[1] for name in places(change)] == [
        *("x", "relu", "second", "add", "sigmoid", "third", "relu_1"),
    ]


def test_quantized_model_is_near_the_model(toy_context):
    torch.manual_seed(0)
    model = Shortcut().eval()
    module, _ = quantized(model, toy_context)
    inputs = next(toy_context.calibration.batches(60))[0]
    difference = (module(inputs) - model(inputs)).abs().max()
    assert 0 < difference < 0.05 * model(inputs).abs().max()


def test_gradients_reach_the_input_and_the_weights(small_net, toy_context):
    module, _ = quantized(small_net, toy_context)
    inputs = next(toy_context.calibration.batches(4))[0].requires_grad_()
    module(inputs).square().sum().backward()
    assert float(inputs.grad.abs().sum()) > 0
    trained = [p for p in module.parameters() if p.requires_grad]
    assert trained
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in trained)


def test_percentile_observer_narrows_ranges(small_net, toy_context):
    _, whole = quantized(small_net, toy_context)
    _, cut = quantized(small_net, toy_context, observer="percentile")
    place = "activation_quantizers.relu"
    assert cut.layers[place]["high"] < whole.layers[place]["high"]


def test_calibration_batch_does_not_matter(small_net, toy_context):
    one = quantized(small_net, toy_context, batch=60)[0]
    other = quantized(small_net, toy_context, batch=7)[0]
    for name, value in one.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value, rtol=1e-6, atol=1e-8)


def test_pruned_zeros_survive(small_net, toy_context):
    recipe = Recipe(steps=(step("prune.weights", ratio=0.5), step("quantize.static")))
    masked, _ = Recipe(steps=(step("prune.weights", ratio=0.5),)).apply(small_net, toy_context)
    module, changes = recipe.apply(small_net, toy_context)
    for name in ("stem", "depthwise", "mix"):
        zeros = masked.get_submodule(name).weight == 0
        assert bool(zeros.any())
        assert bool((module.get_submodule(name).weight[zeros] == 0).all())
    assert [change.step for change in changes] == ["prune.weights", "quantize.static"]


def test_levels_stay_as_few_as_they_were(small_net, toy_context):
    recipe = Recipe(steps=(step("fold"), step("cluster", levels=4), step("quantize.static")))
    module, changes = recipe.apply(small_net, toy_context)
    for name in changes[1].layers:
        assert module.state_dict()[name].unique().numel() <= 4
        assert module.state_dict()[f"{name}_scale"].shape == (1,)
        assert changes[2].layers[name]["per"] == "tensor"


def test_clustering_before_folding_is_refused(small_net, toy_context):
    recipe = Recipe(steps=(step("cluster", levels=4), step("quantize.static")))
    with pytest.raises(CompressionError, match="put `fold` before `cluster`"):
        recipe.apply(small_net, toy_context)


@pytest.mark.parametrize(
    "steps",
    [
        ["quantize"],
        ["prune", "quantize"],
        ["fold", "cluster", "quantize"],
        ["prune", "fold", "cluster", "quantize"],
        ["quantize", "finetune"],
    ],
    ids="+".join,
)
def test_restored_model_is_bit_equal(small_net, toy_context, steps):
    known = {
        "prune": step("prune.weights", ratio=0.5),
        "fold": step("fold"),
        "cluster": step("cluster", levels=8),
        "quantize": step("quantize.static"),
        "finetune": step("finetune", epochs=1, learning_rate=0.001),
    }
    before = copy.deepcopy(small_net.state_dict())
    module, changes = Recipe(steps=tuple(known[n] for n in steps)).apply(small_net, toy_context)
    assert all(torch.equal(v, before[k]) for k, v in small_net.state_dict().items())
    stored = tuple(Change.from_json(change.as_json()) for change in changes)
    fresh = Recipe().restore(type(small_net)(), stored)
    fresh.load_state_dict(module.state_dict(), strict=True)
    assert torch.equal(fresh(images()), module(images()))


def test_other_network_cannot_be_restored(small_net, toy_context):
    _, change = quantized(small_net, toy_context)
    with pytest.raises(ModelError, match="the model must be the one that was quantized"):
        StaticQuantization().restore(Shortcut(), change)


def test_second_quantization_is_refused(small_net, toy_context):
    module, _ = quantized(small_net, toy_context)
    with pytest.raises(CompressionError, match="can be quantized once"):
        StaticQuantization().apply(module, toy_context)


def test_missing_images_are_named(small_net, toy_context):
    with pytest.raises(CompressionError, match="needs calibration images"):
        StaticQuantization().apply(small_net, dataclasses.replace(toy_context, calibration=None))


def test_broken_activations_are_named(small_net, toy_context):
    with torch.no_grad():
        small_net.mix.bias[0] = float("inf")
    with pytest.raises(CompressionError, match=r"activation_quantizers\.relu_1.* must be finite"):
        StaticQuantization().apply(small_net, toy_context)


def test_broken_weights_are_named(small_net, toy_context):
    with torch.no_grad():
        small_net.mix.weight[0] = float("nan")
    with pytest.raises(CompressionError, match="weight of 'mix' must be finite"):
        StaticQuantization().apply(small_net, toy_context)


def test_model_without_weights_is_refused(toy_context):
    with pytest.raises(CompressionError, match="must have a convolution or a linear layer"):
        StaticQuantization().apply(nn.Sequential(nn.ReLU()), toy_context)


def test_bias_that_would_overflow_widens_its_scale(small_net, toy_context):
    with torch.no_grad():
        small_net.mix.weight[3] *= 1e-9
        small_net.mix.bias[3] = 5.0
    module, change = quantized(small_net, toy_context)
    assert change.layers["mix.weight"]["widened_for_bias"] is True
    unit = change.layers["activation_quantizers.depthwise"]["scale"]
    bake(module)
    layer = module.get_submodule("mix")
    assert float(layer.bias[3].detach() / (unit * layer.weight_scale[3])) < 2**31
    assert float(layer.bias[3].detach()) == pytest.approx(5.0, rel=1e-5)


def test_functional_layers_are_reported(toy_context):
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.up = nn.ConvTranspose2d(4, 4, 2)
            self.weight = nn.Parameter(torch.randn(5, 4))

        def forward(self, x):
            return F.linear(self.up(self.conv(x)).mean((2, 3)), self.weight)

    _, change = quantized(Functional().eval(), toy_context)
    assert "stays in floating point" in change.untouched["linear"]
    assert "ConvTranspose2d" in change.untouched["up"]


def test_layers_that_share_a_weight_share_its_grid(toy_context):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, padding=1)
            self.one = nn.Conv2d(4, 4, 3, padding=1)
            self.two = nn.Conv2d(4, 4, 3, padding=1)
            self.two.weight = self.one.weight

        def forward(self, x):
            return self.two(torch.relu(self.one(torch.relu(self.conv(x))))).mean((2, 3))

    torch.manual_seed(0)
    module, changes = Recipe(steps=(step("quantize.static"),)).apply(Tied().eval(), toy_context)
    state = module.state_dict()
    assert torch.equal(state["one.weight"], state["two.weight"])
    assert torch.equal(state["one.weight_scale"], state["two.weight_scale"])
    fresh = Recipe().restore(Tied(), changes)
    fresh.load_state_dict(state, strict=True)
    assert torch.equal(fresh(images()), module(images()))
