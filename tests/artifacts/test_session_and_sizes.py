"""Sessions report broken files by name; sizes equal what is counted by hand."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from shrinkproof.artifacts.account import macs_by_layer
from shrinkproof.artifacts.session import Session
from shrinkproof.artifacts.sizes import file_bytes, macs, parameter_counts, zip_bytes
from shrinkproof.compressors.constraint import Mask, constrain
from shrinkproof.errors import ExportError, ModelError


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"none\.onnx: an exported network must be a file"):
        Session(tmp_path / "none.onnx")


def test_broken_file_is_named(tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not a network")
    with pytest.raises(ModelError, match=r"broken\.onnx: the runtime must be able to load"):
        Session(path)


def test_wrong_input_is_refused_with_its_shape(make):
    session = Session(make("float").report.path)
    with pytest.raises(ExportError, match=r"inputs of shape \(2, 1, 12, 12\)"):
        session(np.zeros((2, 1, 12, 12), np.float32))


def test_threads_must_be_positive(make):
    with pytest.raises(ModelError, match="threads must be 1 or more, got 0"):
        Session(make("float").report.path, threads=0)


def test_session_gives_float32_and_names_its_runtime(make, test_images):
    session = Session(make("float").report.path, threads=1)
    assert session(test_images[:3].numpy()).dtype == np.float32
    assert session.runtime.startswith("onnxruntime 1.")


def test_file_bytes_counts_and_names(tmp_path):
    path = tmp_path / "model"
    path.write_bytes(b"x" * 1000)
    assert file_bytes(path) == 1000
    with pytest.raises(ExportError, match="got no file"):
        file_bytes(tmp_path / "other")


def test_zip_bytes_equals_a_zip_file_of_the_same_name(tmp_path):
    path = tmp_path / "model"
    path.write_bytes(np.random.default_rng(0).integers(0, 4, 5000, dtype=np.uint8).tobytes())
    with zipfile.ZipFile(tmp_path / "z.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        archive.write(path, "model")
    assert zip_bytes(path) == (tmp_path / "z.zip").stat().st_size < 2000
    other = tmp_path / "with-a-much-longer-name.onnx"
    other.write_bytes(path.read_bytes())
    assert zip_bytes(other) == zip_bytes(path)


def test_parameters_are_counted_once_and_zeros_apart():
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(4, 3, bias=False), nn.BatchNorm1d(3))
    model[1].weight = model[0].weight
    with torch.no_grad():
        model[0].weight.fill_(1.0)
        model[0].weight[0] = 0
        model[0].bias.fill_(2.0)
    # 12 shared weights (4 zero), 3 biases, 3 scales of one, 3 offsets of zero.
    assert parameter_counts(model) == (21, 14)


def test_quantizers_are_no_parameters(make):
    folded = 3 * 8 * 9 + 8 * 8 * 9 * 2 + 8 * 16 * 9 + 16 * 16 * 9 + 8 * 3 + 16 * 2 + 16 * 5 + 5
    assert parameter_counts(make("int8").module)[0] == folded


def test_constrained_model_is_not_measured():
    model = nn.Sequential(nn.Linear(4, 3))
    constrain(model[0], "weight", Mask(torch.ones(3, 4, dtype=torch.bool)))
    with pytest.raises(ModelError, match="layer '0' must be baked"):
        parameter_counts(model)
    with pytest.raises(ModelError, match="layer '0' must be baked"):
        macs(model, torch.zeros(1, 4))


def test_macs_by_hand():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),  # 8 x 5 x 5 outputs of 27 products
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, 3, groups=8),  # 8 x 3 x 3 outputs of 9 products
        nn.Flatten(),
        nn.Linear(72, 10),
    ).eval()
    expected = 8 * 25 * 27 + 8 * 9 * 9 + 720
    assert macs(model, torch.zeros(1, 3, 10, 10)) == expected
    assert macs(model, torch.zeros(4, 3, 10, 10)) == expected


@pytest.mark.parametrize("need_weights", [False, True])
def test_macs_of_attention_by_hand(need_weights):
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.mix = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            y = x.flatten(2).transpose(1, 2)
            return self.mix(y, y, y, need_weights=need_weights)[0]

    example = torch.zeros(2, 8, 10, 10)
    # Four projections of 100 positions, and two products of 100 with 100 positions.
    assert macs(Attention().eval(), example) == 100 * 8 * 8 * 4 + 2 * 100 * 100 * 8
    assert sum(macs_by_layer(Attention().eval(), example).values()) == 185_600
    assert torch.backends.mha.get_fastpath_enabled()


def test_macs_do_not_change_by_quantization(make, residual, context):
    assert macs(make("int8").module, context.example) == macs(residual, context.example)
