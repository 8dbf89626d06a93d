"""Quantization-aware training: ranges that move and stop, grids that hold, what is preserved."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from torch import nn

from shrinkproof.compressors import COMPRESSORS
from shrinkproof.compressors.activation import ActivationQuantizer
from shrinkproof.compressors.constraint import FakeQuantWeight, constrain, weight_of, weight_scale
from shrinkproof.compressors.qat import QuantizationAwareTraining
from shrinkproof.compressors.recipe import Recipe
from shrinkproof.errors import CompressionError
from shrinkproof.protocols import Needs, Trains
from shrinkproof.records import Change
from shrinkproof.training.settings import Training

TUNE = {"epochs": 2, "learning_rate": 0.01, "batch": 20}


def step(name, **fields):
    return COMPRESSORS.create(name, fields)


def qat(**fields):
    return step("quantize.qat", **{"finetune": TUNE, **fields})


def apply(model, context, *steps):
    return Recipe(steps=steps).apply(model, context)


def images(count=6, size=8):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(2))


def on_grid(state, limit=127):
    """Return weight name -> integers, after checking that they are whole and small enough."""
    found = {}
    for name, scale in state.items():
        if name.endswith(".weight_scale"):
            weight = state[name.removesuffix("_scale")]
            steps = scale.view(-1, *[1] * (weight.ndim - 1))
            integers = (weight / steps).round()
            assert torch.equal(integers * steps, weight)
            assert int(integers.abs().max()) <= limit
            found[name.removesuffix("_scale")] = integers
    return found


def test_needs_and_dense_control():
    made = qat()
    assert made.needs == Needs.CALIBRATION | Needs.TRAINING
    assert isinstance(made, Trains)
    assert Recipe(steps=(made,)).schedule() == Recipe(steps=(step("finetune", **TUNE),)).schedule()
    taught = qat(finetune={**TUNE, "distill": {}, "patience": 1})
    assert Needs.TEACHER in taught.needs
    assert Needs.VALIDATION in taught.needs


def test_weights_learn_and_end_on_a_grid(small_net, toy_context):
    module, (change,) = apply(small_net, toy_context, qat(reduce_range=False))
    start, _ = apply(small_net, toy_context, step("quantize.static", reduce_range=False))
    integers = on_grid(module.state_dict())
    assert set(integers) == {"stem.weight", "depthwise.weight", "mix.weight", "head.weight"}
    for name, values in integers.items():
        weight = module.state_dict()[name]
        assert not torch.equal(weight, start.state_dict()[name])
        # The scales followed the weights: the largest of each channel uses the whole range.
        assert set(values.abs().flatten(1).amax(1).tolist()) == {127.0}
    assert change.achieved["epochs"] == 2
    assert change.achieved["images"] == 60
    assert change.achieved["loss"] > 0
    assert change.layers["mix.weight"]["per"] == "channel"


def test_training_lowers_the_loss_of_the_quantized_model(small_net, toy_context):
    few = qat(finetune={**TUNE, "epochs": 1, "learning_rate": 1e-6})
    many = qat(finetune={**TUNE, "epochs": 8, "learning_rate": 0.05})
    losses = [apply(small_net, toy_context, s)[1][0].achieved["loss"] for s in (few, many)]
    assert losses[1] < 0.9 * losses[0]


def test_biases_end_on_their_grid(small_net, toy_context):
    module, (change,) = apply(small_net, toy_context, qat())
    unit = module.get_submodule("mix").weight_scale.double()
    unit = unit * change.layers["activation_quantizers.depthwise"]["scale"]
    bias = module.get_submodule("mix").bias.detach().double()
    torch.testing.assert_close((bias / unit).round() * unit, bias, rtol=1e-6, atol=1e-12)


def test_same_places_as_quantize_static(small_net, toy_context):
    _, (static,) = apply(small_net, toy_context, step("quantize.static"))
    _, (trained,) = apply(small_net, toy_context, qat())
    assert list(trained.layers) == list(static.layers)
    assert trained.untouched == static.untouched


def test_ranges_move_until_they_are_frozen(small_net, toy_context):
    place = "activation_quantizers.relu_1"
    fast = {**TUNE, "learning_rate": 0.1}
    _, (static,) = apply(small_net, toy_context, step("quantize.static"))
    highs = {}
    for part in (0.0, 0.5, 1.0):
        recipe = qat(finetune=fast, momentum=0.5, freeze_after=part)
        _, (change,) = apply(small_net, toy_context, recipe)
        highs[part] = change.layers[place]["high"]
    assert highs[0.0] == pytest.approx(static.layers[place]["high"], rel=1e-6)
    assert len(set(highs.values())) == 3


def test_moving_average_by_hand():
    quantizer = ActivationQuantizer()
    quantizer.follow(-1.0, 1.0, rate=0.25)
    quantizer.train()(torch.tensor([-2.0, 5.0]))
    # 0.75 * -1 + 0.25 * -2 and 0.75 * 1 + 0.25 * 5
    assert [float(quantizer.low), float(quantizer.high)] == [-1.25, 2.0]
    assert float(quantizer.scale) == pytest.approx(3.25 / 255)
    assert int(quantizer.zero_point) == round(1.25 / (3.25 / 255))
    quantizer.eval()(torch.tensor([-9.0, 9.0]))
    quantizer.hold()
    quantizer.train()(torch.tensor([-9.0, 9.0]))
    assert [float(quantizer.low), float(quantizer.high)] == [-1.25, 2.0]
    assert quantizer.settle() == (-1.25, 2.0)
    assert set(quantizer.state_dict()) == {"scale", "zero_point"}


def test_moving_range_of_zeros_stays_usable():
    quantizer = ActivationQuantizer().train()
    quantizer.follow(0.0, 0.0, rate=1.0)
    assert torch.equal(quantizer(torch.zeros(3)), torch.zeros(3))
    assert float(quantizer.scale) == pytest.approx(1 / 255)
    assert int(quantizer.zero_point) == 0


def test_what_training_changes_is_in_the_state_dict():
    quantizer = ActivationQuantizer().train()
    quantizer.follow(0.0, 1.0, rate=0.5)
    quantizer(torch.tensor([0.0, 3.0]))
    quantizer.hold()
    other = ActivationQuantizer().train()
    other.follow(0.0, 1.0, rate=0.5)
    other.load_state_dict(quantizer.state_dict())
    values = torch.tensor([0.0, 9.0])
    assert torch.equal(other(values), quantizer(values))
    assert torch.equal(other.scale, quantizer.scale)


def test_scale_of_a_weight_follows_it_and_stops():
    layer = nn.Linear(2, 2, bias=False)
    rule = FakeQuantWeight(weight_scale(layer.weight.detach(), bits=8, per_tensor=False))
    constrain(layer, "weight", rule)
    rule.following = True
    with torch.no_grad():
        layer.parametrizations["weight"].original.copy_(torch.tensor([[127.0, 1], [2, -254]]))
    assert weight_of(layer).tolist() == [[127.0, 1.0], [2.0, -254.0]]
    assert rule.scale.tolist() == [1.0, 2.0]
    rule.following = False
    with torch.no_grad():
        layer.parametrizations["weight"].original.mul_(2)
    assert weight_of(layer).tolist() == [[127.0, 2.0], [4.0, -254.0]]


def test_zeros_of_a_mask_survive(small_net, toy_context):
    prune = step("prune.weights", ratio=0.5)
    masked, _ = apply(small_net, toy_context, prune)
    module, _ = apply(small_net, toy_context, prune, qat())
    for name in ("stem", "depthwise", "mix"):
        zeros = masked.get_submodule(name).weight == 0
        assert bool(zeros.any())
        assert bool((module.get_submodule(name).weight[zeros] == 0).all())
    on_grid(module.state_dict())


@pytest.mark.parametrize("pruned", [False, True], ids=["clustered", "pruned and clustered"])
def test_levels_learn_on_one_grid_per_tensor(small_net, toy_context, pruned):
    before = (step("prune.weights", ratio=0.5),) if pruned else ()
    before = (*before, step("fold"), step("cluster", levels=4))
    start, _ = apply(small_net, toy_context, *before)
    module, changes = apply(small_net, toy_context, *before, qat())
    state = module.state_dict()
    integers = on_grid(state)
    for name in changes[-2].layers:
        assert state[f"{name}_scale"].shape == (1,)
        assert changes[-1].layers[name]["per"] == "tensor"
        assert integers[name].unique().numel() <= 4
        assert not torch.equal(state[name], start.state_dict()[name])
        if pruned:
            zeros = start.state_dict()[name] == 0
            assert bool(zeros.any())
            assert bool((state[name][zeros] == 0).all())


@pytest.mark.parametrize(
    "steps",
    [
        ["qat"],
        ["prune", "qat"],
        ["fold", "cluster", "qat"],
        ["prune", "fold", "cluster", "qat"],
        ["qat", "finetune"],
    ],
    ids="+".join,
)
def test_restored_model_is_bit_equal(small_net, toy_context, steps):
    known = {
        "prune": step("prune.weights", ratio=0.5),
        "fold": step("fold"),
        "cluster": step("cluster", levels=8),
        "qat": qat(),
        "finetune": step("finetune", epochs=1, learning_rate=0.001),
    }
    module, changes = apply(small_net, toy_context, *(known[name] for name in steps))
    stored = tuple(Change.from_json(change.as_json()) for change in changes)
    fresh = Recipe().restore(type(small_net)(), stored)
    fresh.load_state_dict(module.state_dict(), strict=True)
    assert torch.equal(fresh(images()), module(images()))


def test_two_runs_are_bit_equal(small_net, toy_context):
    first, one = apply(small_net, toy_context, qat())
    second, two = apply(small_net, toy_context, qat())
    assert all(torch.equal(v, second.state_dict()[k]) for k, v in first.state_dict().items())
    assert one == two


def test_killed_run_goes_on_to_the_same_bits(small_net, toy_context, tmp_path, monkeypatch):
    monkeypatch.setattr("shrinkproof.training.checkpoint.INTERVAL", 0.0)
    made = qat(finetune={**TUNE, "epochs": 4}, momentum=0.5)
    whole, (expected,) = apply(small_net, toy_context, made)

    def kill(values):
        if values.get("epoch") == 3:
            raise KeyboardInterrupt

    resumable = dataclasses.replace(toy_context, scratch=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        apply(small_net, dataclasses.replace(resumable, note=kill), made)
    assert list(tmp_path.rglob("training.checkpoint"))
    again, (change,) = apply(small_net, resumable, made)
    assert change == expected
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in whole.state_dict().items())


def test_missing_images_are_named(small_net, toy_context):
    for part, message in (
        ("calibration", "needs calibration images"),
        ("training", "needs images of the split 'train'"),
    ):
        with pytest.raises(CompressionError, match=message):
            qat().apply(copy.deepcopy(small_net), dataclasses.replace(toy_context, **{part: None}))


def test_second_quantization_is_refused(small_net, toy_context):
    model, _ = step("quantize.static").apply(small_net, toy_context)
    with pytest.raises(CompressionError, match=r"quantize\.qat: a model can be quantized once"):
        qat().apply(model, toy_context)


def test_training_settings_are_checked():
    assert QuantizationAwareTraining(finetune=Training(epochs=1)).freeze_after == 0.5
    for wrong in ({"finetune": {"epochs": 0}}, {"momentum": 1.5}, {"freeze_after": -0.1}):
        with pytest.raises(ValueError, match="validation error"):
            qat(**wrong)
