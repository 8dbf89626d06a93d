"""Quantized files: small weights rebuilt while loading, whole networks on integer kernels."""

from __future__ import annotations

import collections

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import nn

from shrinkproof.artifacts.export import export_onnx
from shrinkproof.artifacts.lowering import to_integers, to_short_float
from shrinkproof.artifacts.session import Session
from shrinkproof.compressors import COMPRESSORS
from shrinkproof.compressors.recipe import Recipe
from shrinkproof.errors import ExportError

FORMATS = {"int8": 8, "int4": 4, "float16": 16, "bfloat16": 16}
TYPES = {
    "int8": onnx.TensorProto.INT8,
    "int4": onnx.TensorProto.INT4,
    "float16": onnx.TensorProto.FLOAT16,
    "bfloat16": onnx.TensorProto.BFLOAT16,
}
INTEGER_KERNELS = {"QLinearConv", "QGemm", "QLinearAdd", "QLinearConcat"}
FLOAT_KERNELS = {
    "Conv",
    "FusedConv",
    "Gemm",
    "FusedGemm",
    "MatMul",
    "Add",
    "Concat",
    "Clip",
    "Relu",
}
TUNE = {"epochs": 2, "learning_rate": 0.01, "batch": 64}


def step(name, **fields):
    return COMPRESSORS.create(name, fields)


def made(model, context, path, *steps):
    module, changes = Recipe(steps=steps).apply(model, context)
    return module, export_onnx(module, context.example, path, changes=changes)


def logits_of(module, images):
    with torch.no_grad():
        return module(images).numpy()


def initializers(path):
    return {tensor.name: tensor for tensor in onnx.load(str(path)).graph.initializer}


class Wide(nn.Module):
    """Enough weights that names and operators hardly count."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 48, 3, bias=False)
        self.norm = nn.BatchNorm2d(48)
        self.mix = nn.Conv2d(48, 128, 3)
        self.head = nn.Linear(128, 5)

    def forward(self, x):
        x = torch.relu(self.norm(self.conv(x)))
        return self.head(torch.relu(self.mix(x)).mean((2, 3)))


@pytest.fixture(scope="module")
def wide():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Wide()
        with torch.no_grad():
            model.train()(torch.randn(16, 3, 12, 12))
        return model.eval()


@pytest.fixture(scope="module")
def small(wide, context, tmp_path_factory):
    """Return the module and the file with weights of a format; each is made once."""
    folder = tmp_path_factory.mktemp("weights")
    found = {}

    def by_format(kind):
        if kind not in found:
            quantize = step("quantize.weights", format=kind)
            found[kind] = made(wide, context, folder / f"{kind}.onnx", quantize)
        return found[kind]

    return by_format


def inputs():
    return torch.randn(8, 3, 12, 12, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("kind", FORMATS)
def test_weights_are_stored_in_their_format_and_rebuilt_exactly(small, kind):
    module, report = small(kind)
    weights = ("conv.weight", "head.weight", "mix.weight")
    assert report.weight_only == weights
    assert (report.integers, report.notes) == ((), ())
    stored = initializers(report.path)
    suffix = "integer" if kind.startswith("int") else kind
    for name in weights:
        assert name not in stored
        tensor = stored[f"{name}.{suffix}"]
        assert tensor.data_type == TYPES[kind]
        values = numpy_helper.to_array(tensor).astype(np.float32)
        if suffix == "integer":
            values = values * numpy_helper.to_array(stored[f"{name}_scale"])
        np.testing.assert_array_equal(values, module.state_dict()[name].numpy())
    got = Session(report.path)(inputs().numpy())
    np.testing.assert_allclose(got, logits_of(module, inputs()), atol=2e-6)
    assert onnx.TensorProto.INT32 not in {tensor.data_type for tensor in stored.values()}


@pytest.mark.parametrize("kind", FORMATS)
def test_size_is_what_the_format_promises(small, kind):
    module, report = small(kind)
    weights = sum(p.numel() for n, p in module.named_parameters() if n in report.weight_only)
    values = sum(t.numel() for t in module.state_dict().values()) - weights
    expected = weights * FORMATS[kind] / 8 + values * 4
    # Names, shapes and operators of a small network.
    assert expected < report.bytes < 1.03 * expected + 3000


@pytest.mark.parametrize("kind", FORMATS)
def test_runtime_rebuilds_weights_while_loading(small, kind):
    counts = collections.Counter(Session(small(kind)[1].path).nodes())
    assert not {"Cast", "Mul", "Gather", "DequantizeLinear", "BatchNormalization"} & set(counts)
    assert counts["Conv"] + counts["FusedConv"] == 2


def test_rebuilt_weights_give_the_bits_of_stored_ones(small, context, tmp_path):
    module, report = small("float16")
    plain = export_onnx(module, context.example, tmp_path / "plain.onnx")
    assert plain.bytes > 1.8 * report.bytes
    expected = Session(plain.path)(inputs().numpy())
    np.testing.assert_array_equal(Session(report.path)(inputs().numpy()), expected)


@pytest.mark.parametrize(
    "kind", ["int8", *(pytest.param(k, marks=pytest.mark.slow) for k in ("float16", "bfloat16"))]
)
def test_clustered_table_is_stored_in_the_format(wide, context, tmp_path, kind):
    steps = (step("cluster", levels=16), step("quantize.weights", format=kind))
    module, report = made(wide, context, tmp_path / "x.onnx", *steps)
    stored = initializers(report.path)
    assert "mix.weight" in report.packed
    assert stored["mix.weight.levels"].data_type == TYPES[kind]
    assert stored["mix.weight.index"].data_type == onnx.TensorProto.UINT4
    session = Session(report.path)
    expected = logits_of(module, inputs())
    np.testing.assert_allclose(session(inputs().numpy()), expected, atol=2e-6)
    assert not {"Cast", "Mul", "Gather"} & set(session.nodes())
    weights = sum(t.numel() for n, t in module.state_dict().items() if n in report.packed)
    assert report.bytes < 1.1 * weights / 2 + 6000


def test_clustered_integers_of_four_bits_need_no_table(wide, context, tmp_path):
    steps = (step("cluster", levels=16), step("quantize.weights", format="int4"))
    module, report = made(wide, context, tmp_path / "x.onnx", *steps)
    assert "mix.weight" not in report.packed
    assert initializers(report.path)["mix.weight.integer"].data_type == TYPES["int4"]
    expected = logits_of(module, inputs())
    np.testing.assert_allclose(Session(report.path)(inputs().numpy()), expected, atol=2e-6)


def test_int4_with_an_odd_number_of_weights(context, tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(500, 3))
    quantize = step("quantize.weights", format="int4")
    _, report = made(model.eval(), context, tmp_path / "x.onnx", quantize)
    tensor = initializers(report.path)["0.weight.integer"]
    assert len(tensor.raw_data) == (5 * 27 + 1) // 2
    assert report.difference < 1e-5


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_number_that_is_not_exact_in_the_format_is_refused(kind):
    weight = np.array([[0.5, 1 / 3]], np.float32)
    with pytest.raises(ExportError, match=rf"x\.weight: all weights must be exact in {kind}"):
        to_short_float(weight, kind, "x.weight")
    assert to_short_float(weight[:, :1], kind, "x.weight").astype(float).tolist() == [[0.5]]


def test_integer_beyond_the_limit_is_refused():
    weight = np.array([[4.0]], np.float32)
    with pytest.raises(ExportError, match="up to 7 of them"):
        to_integers(weight, np.array([0.5], np.float32), "x.weight", limit=7)


def test_trained_integers_agree_with_their_file(residual, context, test_images, tmp_path):
    quantize = step("quantize.qat", finetune=TUNE)
    module, report = made(residual, context, tmp_path / "x.onnx", quantize)
    session = Session(report.path)
    counts = collections.Counter(session.nodes())
    assert (counts["QLinearConv"], counts["QLinearAdd"], counts["QGemm"]) == (5, 2, 1)
    assert not FLOAT_KERNELS & set(counts)
    got, expected = session(test_images.numpy()), logits_of(module, test_images)
    assert (got.argmax(1) == expected.argmax(1)).mean() >= 0.99
    assert np.abs(got - expected).mean() < 0.02 * np.abs(expected).mean()


@pytest.mark.slow
def test_trained_levels_are_packed_integers(residual, context, test_images, tmp_path):
    steps = (
        step("prune.weights", ratio=0.5),
        step("fold"),
        step("cluster", levels=16),
        step("quantize.qat", finetune=TUNE),
    )
    module, report = made(residual, context, tmp_path / "x.onnx", *steps)
    stored = initializers(report.path)
    assert report.packed
    for name in report.packed:
        table = numpy_helper.to_array(stored[f"{name}.levels"])
        assert table.dtype == np.int8
        assert len(table) <= 16
        assert 0 in table
    got = Session(report.path)(test_images.numpy())
    expected = logits_of(module, test_images)
    assert (got.argmax(1) == expected.argmax(1)).mean() >= 0.99


class Inverted(nn.Module):
    """Inverted residual blocks of MobileNetV2: depthwise, ReLU6, linear bottlenecks."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU6())
        self.blocks = nn.ModuleList(self._block(8) for _ in range(2))
        self.head = nn.Linear(8, 5)

    def _block(self, width):
        wide = 3 * width
        return nn.Sequential(
            *(nn.Conv2d(width, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6(inplace=True)),
            nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False),
            *(nn.BatchNorm2d(wide), nn.ReLU6(inplace=True)),
            *(nn.Conv2d(wide, width, 1, bias=False), nn.BatchNorm2d(width)),
        )

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(F.relu6(x).mean((2, 3)))


class Joined(nn.Module):
    """Branches that are put side by side, as in Inception and SqueezeNet."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.narrow = nn.Conv2d(8, 8, 1)
        self.wide = nn.Conv2d(8, 8, 3, padding=1)
        self.mix = nn.Conv2d(24, 16, 1)
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        x = F.relu(self.stem(x))
        pooled = F.max_pool2d(x, 3, 1, 1)
        x = torch.cat([F.relu(self.narrow(x)), F.relu(self.wide(x)), pooled], 1)
        return self.head(F.relu(self.mix(x)).mean((2, 3)))


def started(model, scale=1.0):
    """Return a network with random weights and fitting batch-norm statistics."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for layer in model.modules():
            if hasattr(layer, "reset_parameters"):
                layer.reset_parameters()
        images = torch.randn(64, 3, 12, 12)
        with torch.no_grad():
            for layer in model.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.weight.fill_(scale)
                    layer.momentum = None
            model.train()(images)
    return model.eval()


@pytest.mark.parametrize(
    "scale",
    [
        pytest.param(0.5, id="below the limit", marks=pytest.mark.slow),
        pytest.param(20.0, id="at the limit"),
    ],
)
def test_inverted_residuals_run_on_integers_alone(context, test_images, tmp_path, scale):
    model = started(Inverted(), scale)
    module, report = made(model, context, tmp_path / "x.onnx", step("quantize.static"))
    session = Session(report.path)
    counts = collections.Counter(session.nodes())
    assert (counts["QLinearConv"], counts["QLinearAdd"], counts["QGemm"]) == (7, 2, 1)
    assert not FLOAT_KERNELS & set(counts)
    # The image, and the mean, which is computed in float32.
    assert counts["QuantizeLinear"] == 2
    assert counts["DequantizeLinear"] == 1
    got, expected = session(test_images.numpy()), logits_of(module, test_images)
    assert np.abs(got - expected).mean() < 0.02 * np.abs(expected).mean()


def test_joined_branches_run_on_integers_alone(context, test_images, tmp_path):
    model = started(Joined())
    module, report = made(model, context, tmp_path / "x.onnx", step("quantize.static"))
    session = Session(report.path)
    counts = collections.Counter(session.nodes())
    assert (counts["QLinearConv"], counts["QLinearConcat"], counts["QGemm"]) == (4, 1, 1)
    assert not FLOAT_KERNELS & set(counts)
    got, expected = session(test_images.numpy()), logits_of(module, test_images)
    assert np.abs(got - expected).mean() < 0.02 * np.abs(expected).mean()


@pytest.mark.slow
@pytest.mark.parametrize("observer", ["percentile", "mse", "entropy"])
def test_other_observers_agree_with_their_file(residual, context, test_images, tmp_path, observer):
    quantize = step("quantize.static", observer=observer)
    module, report = made(residual, context, tmp_path / "x.onnx", quantize)
    got, expected = Session(report.path)(test_images.numpy()), logits_of(module, test_images)
    assert (got.argmax(1) == expected.argmax(1)).mean() >= 0.99


class Tokens(nn.Module):
    """A linear layer over positions, and a layer that only training uses."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 32, 3)
        self.mix = nn.Linear(32, 33)
        self.extra = nn.Linear(33, 40)
        self.head = nn.Linear(33, 5)

    def forward(self, x):
        x = torch.relu(self.mix(torch.relu(self.conv(x)).flatten(2).transpose(1, 2)))
        if self.training:
            self.extra(x)
        return self.head(x.mean(1))


@pytest.fixture(scope="module")
def tokens():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Tokens().eval()


@pytest.mark.slow
def test_linear_layer_over_positions_is_stored_small_too(tokens, context, tmp_path):
    _, small = made(tokens, context, tmp_path / "a", step("quantize.weights", format="int8"))
    assert small.weight_only == ("conv.weight", "head.weight", "mix.weight")
    _, levels = made(tokens, context, tmp_path / "b", step("cluster", levels=4))
    assert "mix.weight" in levels.packed
    _, whole = made(tokens, context, tmp_path / "c", step("quantize.static", reduce_range=False))
    assert whole.integers == ("conv.weight", "head.weight", "mix.weight")
    stored = {name: tensor.data_type for name, tensor in initializers(whole.path).items()}
    assert stored["mix.weight.integer"] == onnx.TensorProto.INT8
    assert "mix.weight" not in stored


@pytest.mark.parametrize("name", ["quantize.weights", "cluster"])
def test_weight_that_no_output_depends_on_is_noted(tokens, context, tmp_path, name):
    fields = {"levels": 4} if name == "cluster" else {}
    _, report = made(tokens, context, tmp_path / "a.onnx", step(name, **fields))
    (note,) = (note for note in report.notes if note.startswith("extra.weight"))
    assert "no output depends on it" in note


def test_levels_of_4_bit_integers_need_no_table(wide, context, tmp_path):
    steps = step("cluster", levels=256), step("quantize.weights", format="int4")
    module, report = made(wide, context, tmp_path / "both.onnx", *steps)
    assert report.packed == ()
    assert initializers(report.path)["mix.weight.integer"].data_type == onnx.TensorProto.INT4
    assert torch.unique(module.mix.weight).numel() <= 15
