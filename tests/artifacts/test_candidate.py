"""Candidates on disk: reloaded bit for bit, in another process, or refused with the reason."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
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
        "model.onnx",
        "recipe.json",
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
    loaded = load_candidate(made.folder, fresh)
    with torch.no_grad():
        assert torch.equal(loaded(test_images[:50]), made.module(test_images[:50]))
    assert not loaded.training
    assert all(torch.equal(value, before[key]) for key, value in fresh.state_dict().items())


def test_new_process_gives_equal_bits(stored, make, test_images, tmp_path):
    script = (
        "import importlib.util, sys, numpy as np, torch\n"
        "from pathlib import Path\n"
        "spec = importlib.util.spec_from_file_location('nets', sys.argv[1])\n"
        "nets = importlib.util.module_from_spec(spec)\n"
        "sys.modules['nets'] = nets\n"
        "spec.loader.exec_module(nets)\n"
        "from shrinkproof.artifacts.candidate import load_candidate\n"
        "torch.set_num_threads(int(sys.argv[4]))\n"
        "model = load_candidate(Path(sys.argv[2]), nets.Residual())\n"
        "with torch.inference_mode():\n"
        "    np.save(sys.argv[3], model(nets.toy_inputs(1000, seed=3)[0][:20]).numpy())\n"
    )
    nets = Path(__file__).with_name("conftest.py")
    out = tmp_path / "logits.npy"
    arguments = [str(nets), str(stored), str(out), str(torch.get_num_threads())]
    subprocess.run([sys.executable, "-c", script, *arguments], check=True)
    with torch.inference_mode():
        expected = make("levels int8").module(test_images[:20]).numpy()
    np.testing.assert_array_equal(np.load(out), expected)


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


@pytest.mark.parametrize("name", ["changes.json", "weights.safetensors"])
def test_damaged_file_is_named(stored, fresh_residual, tmp_path, name):
    shutil.copytree(stored, tmp_path / "copy")
    (tmp_path / "copy" / name).write_bytes(b"damaged")
    with pytest.raises(ModelError, match=name):
        load_candidate(tmp_path / "copy", fresh_residual())
