"""Candidates on disk: reloaded bit for bit, or refused with the reason."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from torch import nn

from shrinkproof.artifacts.candidate import load_candidate, read_changes
from shrinkproof.errors import ModelError
from shrinkproof.records import Candidate


@pytest.fixture(scope="module")
def stored(make):
    return make("levels int8").folder


def test_all_files_are_written(stored):
    assert sorted(path.name for path in stored.iterdir()) == [
        "changes.json",
        "layers.json",
        "model.onnx",
        "recipe.json",
        "weights.packed.safetensors",
        "weights.safetensors",
    ]


def test_identity_comes_back(make):
    made = make("levels int8")
    text = (made.folder / "recipe.json").read_text()
    assert Candidate.from_json(json.loads(text)) == made.candidate


def test_changes_come_back(stored, make):
    assert read_changes(stored) == make("levels int8").changes


@pytest.mark.parametrize("name", ["float", "sparse int8", "levels"])
def test_every_recipe_is_reloaded_bit_for_bit(name, make, fresh_residual, test_images):
    made = make(name)
    fresh = fresh_residual()
    before = {key: value.clone() for key, value in fresh.state_dict().items()}
    for packed in (None, False, True):
        loaded = load_candidate(made.folder, fresh, packed=packed)
        with torch.no_grad():
            assert torch.equal(loaded(test_images[:50]), made.module(test_images[:50]))
        assert not loaded.training
    assert all(torch.equal(value, before[key]) for key, value in fresh.state_dict().items())


def test_packed_weights_alone_are_enough(stored, make, fresh_residual, tmp_path):
    shutil.copytree(stored, tmp_path / "copy")
    (tmp_path / "copy" / "weights.safetensors").unlink()
    loaded = load_candidate(tmp_path / "copy", fresh_residual())
    expected = make("levels int8").module.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in loaded.state_dict().items())
    with pytest.raises(ModelError, match=r"weights\.safetensors: must be the weights"):
        load_candidate(tmp_path / "copy", fresh_residual(), packed=False)


def test_packed_weights_are_smaller_where_there_is_something_to_pack(make):
    size = {
        name: (make(name).folder / "weights.packed.safetensors").stat().st_size
        for name in ("float", "int8", "sparse int8", "levels", "levels int8")
    }
    assert size["levels int8"] < size["levels"] < 0.4 * size["float"]
    assert size["sparse int8"] < size["int8"] < 0.5 * size["float"]


def test_other_architecture_is_refused_with_the_tensors(stored, fresh_residual):
    wider = fresh_residual()
    wider.linear = nn.Linear(16, 7)
    with pytest.raises(
        ModelError, match=r"linear\.weight has shape \(5, 16\) instead of \(7, 16\)"
    ):
        load_candidate(stored, wider)


def test_missing_layer_is_named(make, fresh_residual):
    fresh = fresh_residual()
    fresh.extra = nn.Linear(2, 2)
    with pytest.raises(ModelError, match=r"extra\.weight is missing"):
        load_candidate(make("float").folder, fresh)


def test_quantized_candidate_of_another_network_is_refused(stored, plain):
    with pytest.raises(ModelError, match="the model must be the one that was quantized"):
        load_candidate(stored, plain)


@pytest.mark.parametrize(
    "name", ["changes.json", "weights.safetensors", "weights.packed.safetensors"]
)
def test_damaged_file_is_named(stored, fresh_residual, tmp_path, name):
    shutil.copytree(stored, tmp_path / "copy")
    (tmp_path / "copy" / name).write_bytes(b"damaged")
    with pytest.raises(ModelError, match=name):
        load_candidate(tmp_path / "copy", fresh_residual(), packed="packed" in name)


@pytest.mark.parametrize(("entry", "value"), [("step", None), ("fields", "x"), ("layers", [1])])
def test_change_of_other_types_is_named(stored, fresh_residual, tmp_path, entry, value):
    shutil.copytree(stored, tmp_path / "copy")
    changes = json.loads((stored / "changes.json").read_text())
    changes[0][entry] = value
    (tmp_path / "copy" / "changes.json").write_text(json.dumps(changes))
    with pytest.raises(ModelError, match=rf"changes\.json: .*{entry} must be a"):
        load_candidate(tmp_path / "copy", fresh_residual())
