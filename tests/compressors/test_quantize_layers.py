"""int8 of chosen layers: places by hand and by paths, what stays float, files, mixed recipes."""

from __future__ import annotations

import collections
import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from shrinkproof.artifacts.export import export_onnx
from shrinkproof.artifacts.session import Session
from shrinkproof.compressors import COMPRESSORS
from shrinkproof.compressors.constraint import is_constrained
from shrinkproof.compressors.fold import fold_batch_norm
from shrinkproof.compressors.graph import is_mover, is_operator, is_relu, is_weighted
from shrinkproof.compressors.layers import NOT_SELECTED
from shrinkproof.compressors.order import order_problem
from shrinkproof.compressors.placement import attach, input_places, left_out
from shrinkproof.compressors.quantize import BESIDE
from shrinkproof.compressors.recipe import Recipe
from shrinkproof.errors import CompressionError
from shrinkproof.models.cifar import resnet
from shrinkproof.records import Change

TUNE = {"epochs": 1, "learning_rate": 0.01, "batch": 20}
LAYERS = ("first", "second", "third", "head")


def step(name, **fields):
    return COMPRESSORS.create(name, fields)


def apply(model, context, *steps):
    return Recipe(steps=steps).apply(model, context)


def images(count=6, size=8):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(2))


def places(change):
    names = [name for name in change.layers if name.startswith("activation_quantizers.")]
    return [name.split(".")[1] for name in names]


def restored(model, changes, module):
    stored = tuple(Change.from_json(change.as_json()) for change in changes)
    fresh = Recipe().restore(model, stored)
    fresh.load_state_dict(module.state_dict(), strict=True)
    return fresh


class Shortcut(nn.Module):
    """Residual additions, slicing, padding, pooling, an activation that is not a rectifier."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first = nn.Conv2d(3, 4, 3, padding=1)
            self.second = nn.Conv2d(4, 8, 3, stride=2, padding=1)
            self.third = nn.Conv2d(8, 8, 1)
            self.pool = nn.AvgPool2d(2)
            self.head = nn.Linear(32, 3)

    def forward(self, x):
        x = F.relu(self.first(x))
        y = self.second(x) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))
        y = self.third(torch.sigmoid(y)) + y
        # Sizes tie no numbers together.
        return self.head(self.pool(F.relu(y)).view(x.size(0), -1))


@pytest.fixture
def shortcut():
    return Shortcut().eval()


def residual():
    """A network like those for CIFAR, whose batch norms do something."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = resnet(8, 8, "project")
        model.train()(images(16))
    return model.eval()


# places


@pytest.mark.parametrize(
    ("chosen", "expected", "beside"),
    [
        (LAYERS, "x relu second add sigmoid third relu_1 pool", ""),
        (["first"], "x relu", "add add_1 pool"),
        (["second"], "relu second", "add add_1 pool"),
        (["third"], "sigmoid third", "add add_1 pool"),
        (["head"], "pool", "add add_1 pool"),
        (["first", "second"], "x relu second", "add add_1 pool"),
        (["second", "third"], "relu second add sigmoid third", "add_1 pool"),
        (["third", "head"], "sigmoid third pool", "add add_1 pool"),
        (["second", "third", "head"], "relu second add sigmoid third relu_1 pool", ""),
        (["first", "second", "third"], "x relu second add sigmoid third", "add_1 pool"),
    ],
    ids=lambda value: value if isinstance(value, str) else "+".join(value),
)
def test_places_by_hand(shortcut, toy_context, chosen, expected, beside):
    _, (change,) = apply(shortcut, toy_context, step("quantize.static", include=chosen))
    assert places(change) == expected.split()
    assert change.untouched == {
        **dict.fromkeys((name for name in LAYERS if name not in chosen), NOT_SELECTED),
        **dict.fromkeys(beside.split(), BESIDE),
    }
    assert change.achieved["quantized_layers"] == len(chosen)


def test_exclude_is_the_complement_of_include(shortcut, toy_context):
    kept, (one,) = apply(shortcut, toy_context, step("quantize.static", exclude=["first", "h*"]))
    named = step("quantize.static", include=["second", "third"])
    chosen, (other,) = apply(shortcut, toy_context, named)
    assert (one.layers, one.untouched) == (other.layers, other.untouched)
    assert torch.equal(kept(images()), chosen(images()))


GRAPHS = {
    "shortcut": fold_batch_norm(Shortcut().eval()),
    "residual": fold_batch_norm(residual()),
}


def weighted(graph):
    return [n for n, layer in graph.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)]


def is_rounded(graph, value):
    """Return whether a value comes from a quantizer through nothing but moving."""
    while "quantizers" not in str(value.target) and is_mover(graph, value):
        value = value.all_input_nodes[0]
    return "quantizers" in str(value.target)


def is_written_rounded(graph, node):
    users = list(node.users)
    while len(users) == 1 and is_relu(graph, users[0]):
        users = list(users[0].users)
    return all(n.op == "output" or "quantizers" in str(n.target) for n in users)


@given(st.sampled_from(sorted(GRAPHS)), st.data())
@settings(max_examples=60, deadline=None)
def test_operations_among_the_chosen_layers_are_those_with_rounded_numbers_alone(kind, data):
    graph = copy.deepcopy(GRAPHS[kind])
    layers = data.draw(st.sets(st.sampled_from(weighted(graph))))
    left = {node.name for node in left_out(graph, layers)}
    found = attach(graph, "quantizers", layers)
    for node in graph.graph.nodes:
        rounded = all(is_rounded(graph, value) for value in node.all_input_nodes[:2])
        rounded = rounded and is_written_rounded(graph, node)
        if node.target in layers:
            assert rounded
            assert input_places(graph, node.target, found)
        elif is_operator(graph, node) and not is_weighted(graph, node):
            assert rounded == (node.name not in left)
    if not layers:
        assert not found
    if layers == set(weighted(graph)):
        assert not left


# what stays as it is


def test_layers_that_are_not_selected_keep_their_weights_exactly(small_net, toy_context):
    chosen = step("quantize.static", include=["stem", "mix"])
    module, (change,) = apply(small_net, toy_context, chosen)
    folded, _ = apply(small_net, toy_context, step("fold"))
    state, before = module.state_dict(), folded.state_dict()
    for name in ("depthwise", "head"):
        assert torch.equal(state[f"{name}.weight"], before[f"{name}.weight"])
        assert torch.equal(state[f"{name}.bias"], before[f"{name}.bias"])
        assert f"{name}.weight_scale" not in state
        assert change.untouched[name] == NOT_SELECTED
    for name in ("stem", "mix"):
        assert state[f"{name}.weight_scale"].numel() == len(state[f"{name}.weight"])
        assert not torch.equal(state[f"{name}.weight"], before[f"{name}.weight"])


def test_chosen_layers_get_the_grids_they_have_among_all(small_net, toy_context):
    _, (alone,) = apply(small_net, toy_context, step("quantize.static", include=["stem"]))
    _, (together,) = apply(small_net, toy_context, step("quantize.static"))
    assert set(alone.layers) == {
        *("stem.weight", "activation_quantizers.x", "activation_quantizers.relu"),
    }
    assert alone.layers == {name: together.layers[name] for name in alone.layers}


def test_trained_and_static_choose_the_same_places(small_net, toy_context):
    patterns = {"include": ["*e*"], "exclude": ["head"]}
    _, (static,) = apply(small_net, toy_context, step("quantize.static", **patterns))
    qat = step("quantize.qat", finetune=TUNE, **patterns)
    module, (trained,) = apply(small_net, toy_context, qat)
    assert list(trained.layers) == list(static.layers)
    assert trained.untouched == static.untouched
    assert set(trained.untouched) == {"mix", "head", "mean"}
    folded, _ = apply(small_net, toy_context, step("fold"))
    assert "mix.weight_scale" not in module.state_dict()
    assert not torch.equal(module.get_submodule("mix").weight, folded.get_submodule("mix").weight)
    assert not any(is_constrained(layer) for layer in module.modules())


class Tied(nn.Module):
    """Two layers with one weight between two others."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv = nn.Conv2d(3, 4, 3, padding=1)
            self.one = nn.Conv2d(4, 4, 3, padding=1)
            self.two = nn.Conv2d(4, 4, 3, padding=1)
            self.head = nn.Linear(4, 3)
        self.two.weight = self.one.weight

    def forward(self, x):
        x = self.two(torch.relu(self.one(torch.relu(self.conv(x)))))
        return self.head(x.mean((2, 3)))


def test_layers_that_share_a_weight_are_selected_together(toy_context):
    model = Tied().eval()
    module, changes = apply(model, toy_context, step("quantize.static", include=["one"]))
    assert [n for n in changes[0].layers if n.endswith("weight")] == ["one.weight", "two.weight"]
    assert changes[0].untouched["two"] == "shares its weight with one, where it is treated"
    assert torch.equal(module.two.weight_scale, module.one.weight_scale)
    assert torch.equal(restored(Tied(), changes, module)(images()), module(images()))
    module, (change,) = apply(model, toy_context, step("quantize.static", exclude=["one"]))
    assert [n for n in change.layers if n.endswith("weight")] == ["conv.weight", "head.weight"]
    assert change.untouched["two"] == "shares its weight with one, which is not selected"
    assert torch.equal(module.two.weight, model.two.weight)


# restoring and mixed recipes

KNOWN = {
    "fold": step("fold"),
    "static": step("quantize.static", include=["stem", "mix"]),
    "qat": step("quantize.qat", finetune=TUNE, exclude=["depthwise", "head"]),
    "int4 of the others": step("quantize.weights", format="int4", exclude=["stem", "mix"]),
    "bfloat16 of the head": step("quantize.weights", format="bfloat16", include=["head"]),
    "cluster the others": step("cluster", levels=4, include=["depthwise", "head"], minimum_size=1),
    "prune the others": step("prune.weights", ratio=0.5, include=["depthwise"]),
    "finetune": step("finetune", **TUNE),
}
MIXED = (
    ["static"],
    ["qat"],
    ["static", "int4 of the others"],
    ["fold", "int4 of the others", "static"],
    ["bfloat16 of the head", "static"],
    ["qat", "bfloat16 of the head"],
    ["static", "cluster the others"],
    ["static", "prune the others", "finetune"],
    ["fold", "cluster the others", "qat"],
)


@pytest.mark.parametrize("names", MIXED, ids=" + ".join)
def test_mixed_recipe_keeps_every_grid_and_restores_to_equal_bits(small_net, toy_context, names):
    steps = tuple(KNOWN[name] for name in names)
    assert order_problem(steps) is None
    module, changes = apply(small_net, toy_context, *steps)
    again = restored(type(small_net)(), changes, module)
    assert torch.equal(again(images()), module(images()))
    state = module.state_dict()
    for name in ("stem", "mix"):
        weight, scale = state[f"{name}.weight"], state[f"{name}.weight_scale"].view(-1, 1, 1, 1)
        assert torch.equal((weight / scale).round() * scale, weight)
    if "int4 of the others" in names:
        integers = state["head.weight"] / state["head.weight_scale"].view(-1, 1)
        assert int(integers.round().abs().max()) == 7
    if "cluster the others" in names:
        assert state["head.weight"].unique().numel() <= 4


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (
            [("quantize.static", {"include": ["stem"]}), ("quantize.static", {"include": ["mix"]})],
            r"can be quantized once.* or let one step include all layers",
        ),
        (
            [("quantize.static", {"include": ["stem"]}), ("quantize.weights", {})],
            r"step 2: quantize\.weights: weights must be quantized once, got quantize\.static",
        ),
        (
            [
                ("fold", {}),
                ("quantize.weights", {"exclude": ["mix"]}),
                ("quantize.static", {"exclude": ["mix"]}),
            ],
            r"step 3: quantize\.static: weights must be quantized once, got quantize\.weights",
        ),
        (
            [
                ("fold", {}),
                ("quantize.weights", {"include": ["head", "mix"]}),
                ("quantize.static", {"include": ["mix", "stem"]}),
            ],
            r"quantize\.static: weight of 'mix' must be quantized once",
        ),
        (
            [
                ("quantize.weights", {"include": ["stem"]}),
                ("quantize.static", {"include": ["mix"]}),
            ],
            r"fold: weight of 'stem' .* put `fold` first",
        ),
        (
            [
                ("quantize.static", {"include": ["mix"]}),
                ("prune.channels", {"ratio": 0.5, "include": ["depthwise", "stem"]}),
            ],
            r"prune\.channels: .*got 'depthwise': .*'activation_quantizers\.depthwise'",
        ),
    ],
    ids=lambda value: " + ".join(name for name, _ in value) if isinstance(value, list) else "",
)
def test_mixed_recipe_that_cannot_work_says_why(small_net, toy_context, steps, message):
    made = [step(name, **fields) for name, fields in steps]
    with pytest.raises(CompressionError, match=message):
        apply(small_net, toy_context, *made)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"include": ["steam"]}, "got 'steam', which matches none; the layers are stem, depth"),
        ({"exclude": ["nor*"]}, "'nor.', which matches none"),
        ({"include": ["stem"], "exclude": ["s*"]}, "at least one layer must be left to treat"),
        ({"include": []}, "at least one layer must be left to treat"),
    ],
)
def test_patterns_that_select_nothing_are_refused(small_net, toy_context, fields, message):
    for made in (step("quantize.static", **fields), step("quantize.qat", finetune=TUNE, **fields)):
        with pytest.raises(CompressionError, match=message):
            apply(small_net, toy_context, made)


# files


def exported(model, context, path, *steps):
    module, changes = apply(model, context, *steps)
    return module, export_onnx(module, context.example, path, changes=changes)


def kernels(report):
    return collections.Counter(Session(report.path).nodes())


def test_selected_layers_alone_run_on_integers(toy_context, tmp_path):
    model = residual()
    chosen = step("quantize.static", exclude=["conv1", "fc", "layer2.0.conv2"])
    module, report = exported(model, toy_context, tmp_path / "some.onnx", chosen)
    counts = kernels(report)
    selected = set(weighted(model)) - {"conv1", "fc", "layer2.0.conv2"}
    assert set(report.integers) == {f"{name}.weight" for name in selected}
    assert report.notes == ()
    assert counts["QLinearConv"] == len(selected)
    assert counts["Conv"] + counts["FusedConv"] == 2
    assert counts["Gemm"] + counts["FusedGemm"] + counts["MatMul"] == 1
    agree(module, report.path)


class Chain(nn.Module):
    """Plain layers between layers, a depthwise one and fully connected ones among them."""

    def __init__(self, width=8):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.stem = nn.Conv2d(3, width, 3)
            self.deep = nn.Conv2d(width, width, 3, groups=width)
            self.mix = nn.Conv2d(width, 8, 1)
            self.wide = nn.Linear(8, 8)
            self.hidden = nn.Linear(8, 8)
            self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = F.max_pool2d(torch.relu(self.stem(x)), 2)
        x = torch.relu(self.mix(F.relu6(self.deep(x))))
        x = torch.relu(self.wide(x.mean((2, 3))))
        return self.head(torch.relu(self.hidden(x)))


@pytest.mark.parametrize(("left", "kind"), [("deep", "bfloat16"), ("hidden", "")])
def test_layer_between_integers_keeps_its_float_weight(toy_context, tmp_path, left, kind):
    steps = [step("quantize.static", exclude=[left])]
    if kind:
        steps.append(step("quantize.weights", include=[left], format=kind))
    module, report = exported(Chain().eval(), toy_context, tmp_path / "between.onnx", *steps)
    counts = kernels(report)
    assert counts["QLinearConv"] + counts["QGemm"] == 5
    assert report.notes == ()
    assert report.weight_only == ((f"{left}.weight",) if kind else ())
    agree(module, report.path)


def test_layer_with_one_channel_that_the_runtime_may_round_is_noted(toy_context, tmp_path):
    static = step("quantize.static", exclude=["deep"])
    _, report = exported(Chain(1).eval(), toy_context, tmp_path / "one.onnx", static)
    assert report.notes == ("deep.weight: the runtime may use it as an 8-bit integer",)


@pytest.mark.parametrize("name", ["conv1", "layer2.0.downsample.0", "fc"])
def test_one_layer_alone_runs_on_integers(toy_context, tmp_path, name):
    chosen = step("quantize.static", include=[name])
    module, report = exported(residual(), toy_context, tmp_path / "one.onnx", chosen)
    counts = kernels(report)
    assert report.integers == (f"{name}.weight",)
    assert counts["QLinearConv"] + counts["QGemm"] == 1
    assert counts["QLinearAdd"] == counts["QLinearGlobalAveragePool"] == 0
    agree(module, report.path)


def test_others_are_stored_in_their_own_format(toy_context, tmp_path):
    static = step("quantize.static", include=["layer*"], exclude=["*downsample*"])
    weights = step("quantize.weights", exclude=["layer*.conv?"])
    module, report = exported(residual(), toy_context, tmp_path / "mixed.onnx", static, weights)
    assert "layer1.0.conv1.weight" in report.integers
    assert set(report.weight_only) >= {"conv1.weight", "fc.weight"}
    assert not set(report.weight_only) & set(report.integers)
    assert kernels(report)["QLinearConv"] == len(report.integers)
    agree(module, report.path)


def agree(module, path):
    """Check that file and module give the same logits to a few steps of an activation."""
    inputs = images(40)
    with torch.no_grad():
        expected = module(inputs)
    got = torch.from_numpy(Session(path)(inputs.numpy()))
    assert float((got - expected).abs().max()) < 0.02 * float(expected.abs().max())
    assert float((got.argmax(1) == expected.argmax(1)).float().mean()) >= 0.95
