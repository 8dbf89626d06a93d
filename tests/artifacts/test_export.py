"""Exported files: the same numbers, real integers, packed codebooks, equal bytes."""

from __future__ import annotations

import collections
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from shrinkproof.artifacts.export import export_onnx
from shrinkproof.artifacts.lowering import to_integers
from shrinkproof.artifacts.packing import pack
from shrinkproof.artifacts.proto import Graph
from shrinkproof.artifacts.session import Session
from shrinkproof.compressors.constraint import Mask, bake, constrain
from shrinkproof.compressors.quantize import StaticQuantization
from shrinkproof.errors import ExportError
from shrinkproof.records import Change


def logits_of(module, images):
    with torch.no_grad():
        return module(images).numpy()


def initializers(path):
    graph = onnx.load(str(path)).graph
    return {tensor.name: tensor for tensor in graph.initializer}


@pytest.mark.parametrize("name", ["float", "levels"])
def test_floating_point_file_gives_the_logits_of_the_model(make, test_images, name):
    made = make(name)
    got = Session(made.report.path)(test_images.numpy())
    np.testing.assert_allclose(got, logits_of(made.module, test_images), atol=1e-4)
    assert made.report.difference < 1e-4


@pytest.mark.parametrize("name", ["int8", "sparse int8", "levels int8"])
def test_integer_file_agrees_with_its_twin(make, test_images, name):
    made = make(name)
    got = Session(made.report.path)(test_images.numpy())
    expected = logits_of(made.module, test_images)
    assert (got.argmax(1) == expected.argmax(1)).mean() >= 0.99
    assert np.abs(got - expected).mean() < 0.02 * np.abs(expected).mean()


@pytest.mark.parametrize("name", ["int8", "levels int8"])
def test_integers_are_really_executed(make, name):
    counts = collections.Counter(Session(make(name).report.path).nodes())
    assert counts["QLinearConv"] == 5
    assert counts["QLinearAdd"] == 2
    assert counts["QGemm"] == 1
    assert not {"Conv", "Gemm", "Add"} & set(counts)


@pytest.mark.parametrize("name", ["float", "int8", "levels int8"])
@pytest.mark.parametrize("batch", [1, 7, 64])
def test_batch_size_is_free_and_changes_nothing(make, test_images, name, batch):
    session = Session(make(name).report.path)
    together = session(test_images[:64].numpy())
    got = session(test_images[:batch].numpy())
    np.testing.assert_allclose(got, together[:batch], atol=1e-5)


def test_weights_are_stored_as_integers_only(make):
    made = make("int8")
    stored = initializers(made.report.path)
    weights = [n for n, p in made.module.named_parameters() if n.endswith("weight")]
    assert set(made.report.integers) == set(weights)
    for name in weights:
        assert name not in stored
        integers = numpy_helper.to_array(stored[f"{name}.integer"])
        assert integers.dtype == np.int8
        scale = numpy_helper.to_array(stored[f"{name}_scale"])
        scale = scale.reshape(-1, *[1] * (integers.ndim - 1))
        weight = dict(made.module.named_parameters())[name].detach().numpy()
        np.testing.assert_array_equal(integers.astype(np.float32) * scale, weight)
    biases = [n for n, t in stored.items() if t.data_type == onnx.TensorProto.INT32]
    assert sum("bias.integer" in name for name in biases) == 6


def test_files_get_smaller(make):
    size = {name: make(name).report.bytes for name in ("float", "int8", "levels", "levels int8")}
    assert size["int8"] < 0.75 * size["float"]
    assert size["levels"] < 0.75 * size["float"]


def test_pruned_weights_are_zero_in_the_integer_file(make, residual):
    made = make("sparse int8")
    stored = initializers(made.report.path)
    for name, size in (("conv", 216), ("blocks.1.conv2", 2304)):
        zeros = made.changes[0].layers[name]["zeros"]
        integers = numpy_helper.to_array(stored[f"{name}.weight.integer"])
        assert integers.size == size
        assert (integers == 0).sum() >= zeros > 0


def test_codebook_is_packed_and_rebuilt_bit_for_bit(make):
    made = make("levels")
    stored = initializers(made.report.path)
    assert "blocks.1.conv2.weight" in made.report.packed
    for name in made.report.packed:
        weight = made.module.state_dict()[name].numpy()
        table = numpy_helper.to_array(stored[f"{name}.levels"])
        index = stored[f"{name}.index"]
        assert index.data_type == onnx.TensorProto.UINT4
        assert len(index.raw_data) == (weight.size + 1) // 2
        positions = numpy_helper.to_array(index).astype(int)
        np.testing.assert_array_equal(table[positions], weight)
        assert name not in stored


def test_codebook_of_integers_keeps_its_levels(make):
    made = make("levels int8")
    stored = initializers(made.report.path)
    assert made.report.packed
    for name in made.report.packed:
        table = numpy_helper.to_array(stored[f"{name}.levels"])
        assert table.dtype == np.int8
        assert len(table) <= 16
        assert stored[f"{name}_scale"].dims == []


def test_weight_that_packing_would_not_shrink_is_noted(make):
    notes = make("levels").report.notes
    assert any(note.startswith("linear.weight") and "not packed" in note for note in notes)


def test_batch_norms_stay_in_a_clustered_file(make):
    graph = onnx.load(str(make("levels").report.path)).graph
    assert sum(node.op_type == "BatchNormalization" for node in graph.node) == 5


def test_equal_models_give_equal_bytes_without_traces(make, tmp_path):
    made = make("levels int8")
    export_onnx(made.module, made.context.example, tmp_path / "again", changes=made.changes)
    content = made.report.path.read_bytes()
    assert (tmp_path / "again").read_bytes() == content
    assert not [p for p in tmp_path.iterdir() if p.name != "again"]
    for trace in (b"site-packages", b"stack_trace", b"File ", str(tmp_path).encode()):
        assert trace not in content


@pytest.mark.slow
def test_bytes_do_not_depend_on_the_process(make, tmp_path):
    script = (
        "import sys, torch\n"
        "from pathlib import Path\n"
        "from torch import nn\n"
        "from shrinkproof.artifacts.export import export_onnx\n"
        "torch.manual_seed(0)\n"
        "if sys.argv[2] == 'busy':\n"
        "    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).eval()\n"
        "    export_onnx(model, torch.zeros(1, 3, 2, 2), Path(sys.argv[1] + '.other'))\n"
        "torch.manual_seed(0)\n"
        "model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()\n"
        "export_onnx(model, torch.zeros(1, 3, 8, 8), Path(sys.argv[1]))\n"
    )
    contents = []
    for state in ("idle", "busy"):
        path = tmp_path / state
        subprocess.run([sys.executable, "-c", script, str(path), state], check=True)
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]


def test_chain_with_pooling_runs_on_integers(plain, context, test_images, tmp_path):
    import copy

    module, _ = StaticQuantization().apply(copy.deepcopy(plain), context)
    bake(module)
    report = export_onnx(module, context.example, tmp_path / "plain.onnx")
    session = Session(report.path)
    counts = collections.Counter(session.nodes())
    assert counts["QLinearConv"] == 2
    assert counts["QGemm"] == 1
    assert not {"Conv", "Gemm"} & set(counts)
    expected = logits_of(module, test_images)
    assert (session(test_images.numpy()).argmax(1) == expected.argmax(1)).mean() >= 0.99


def test_unbaked_model_is_refused(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 4, 1)).eval()
    constrain(model[0], "weight", Mask(torch.ones(4, 3, 1, 1, dtype=torch.bool)))
    with pytest.raises(ExportError, match="must be baked"):
        export_onnx(model, torch.zeros(1, 3, 4, 4), tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


def test_model_in_training_mode_is_refused(tmp_path):
    with pytest.raises(ExportError, match="evaluation mode"):
        export_onnx(nn.Conv2d(3, 4, 1), torch.zeros(1, 3, 4, 4), tmp_path / "x.onnx")


def test_integers_by_hand():
    weight = np.array([[0.5, -1.0], [0.0, 63.5]], np.float32)
    per_channel = to_integers(weight, np.array([0.5, 0.5], np.float32), "head.weight")
    assert per_channel.tolist() == [[1, -2], [0, 127]]
    assert to_integers(weight, np.array([0.5], np.float32), "head.weight").dtype == np.int8


@pytest.mark.parametrize("value", [0.501, 64.0, np.nan])
def test_weight_off_its_grid_is_refused(value):
    weight = np.array([[0.5, value]], np.float32)
    with pytest.raises(ExportError, match=r"head\.weight: all weights must be whole multiples"):
        to_integers(weight, np.array([0.5], np.float32), "head.weight")


def test_tensor_with_too_many_values_is_not_called_clustered():
    weight = np.arange(1728, dtype=np.float32)
    with pytest.raises(ExportError, match=r"stem\.weight.*at most 256 values, got 1728"):
        pack(Graph(onnx.ModelProto()), "stem.weight", weight)


@pytest.mark.parametrize("count", [2, 3])
def test_two_indices_share_a_byte(count):
    graph = Graph(onnx.ModelProto())
    graph.add_uint4("index", np.array([1, 15, 9], np.uint8)[:count])
    assert graph.initializers["index"].raw_data == bytes([0xF1, 0x09])[: (count + 1) // 2]
    assert (
        numpy_helper.to_array(graph.initializers["index"]).astype(int).tolist()
        == [1, 15, 9][:count]
    )


def test_model_that_no_operator_expresses_is_refused(tmp_path):
    class Odd(nn.Module):
        def forward(self, x):
            return torch.linalg.eigvals(x).real

    with pytest.raises(ExportError, match="Odd: the model must be expressible"):
        export_onnx(Odd().eval(), torch.zeros(1, 3, 4, 4), tmp_path / "x.onnx")


def test_one_byte_indices_and_shared_weights(tmp_path):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(16, 16, 3, padding=1)
            self.second = nn.Conv2d(16, 16, 3, padding=1)
            values = torch.linspace(-1, 1, 200)
            self.first.weight.data = values[torch.arange(2304) % 200].reshape(16, 16, 3, 3) / 20
            self.second.weight = self.first.weight

        def forward(self, x):
            return self.second(self.first(x))

    change = Change(
        step="cluster", version=1, layers={"first.weight": {"levels": 200}, "second.weight": {}}
    )
    report = export_onnx(
        Twice().eval(), torch.zeros(1, 16, 4, 4), tmp_path / "x.onnx", changes=[change]
    )
    stored = initializers(report.path)
    (name,) = report.packed
    assert stored[f"{name}.index"].data_type == onnx.TensorProto.UINT8
    assert numpy_helper.to_array(stored[f"{name}.levels"]).size == 200
    assert report.difference < 1e-4
