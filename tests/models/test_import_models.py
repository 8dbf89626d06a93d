from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from shrinkproof.errors import ModelError
from shrinkproof.models.importing import _IMPORTED
from shrinkproof.models.loaded import Preprocess
from shrinkproof.models.reference import ModelSpec, fingerprint, load_model

NET = """
import torch
from torch import nn

def good():
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4))

def fails():
    raise ValueError("no such width")

def number():
    return 3

def half():
    return good().half()

def one_logit():
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 1))

def maps():
    return nn.Conv2d(3, 4, 1)

def lazy():
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(4))

class Several(nn.Module):
    def forward(self, x):
        return {"logits": x}

CONSTANT = 3
"""


@pytest.fixture(autouse=True)
def clean_imports(monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before, path = set(sys.modules), list(sys.path)
    yield
    assert sys.path == path
    for name in [n for n in sys.modules if n not in before and n.split(".")[0].startswith("my_")]:
        del sys.modules[name]
        _IMPORTED.pop(name, None)


def spec(rest: str, **settings) -> ModelSpec:
    fields = {"preprocess": Preprocess(), "input_shape": (3, 8, 8), **settings}
    return ModelSpec(use=f"import:{rest}", **fields)


def load(folder: Path, rest: str, **settings):
    return load_model(spec(rest, **settings), {"study": folder})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "my_nets.py").write_text(NET)
    return tmp_path


def test_a_function_beside_the_study_file(folder):
    loaded = load(folder, "my_nets:good")
    assert (loaded.num_classes, loaded.input_shape) == (4, (3, 8, 8))
    assert not loaded.module.training
    assert loaded.fingerprint == fingerprint(spec("my_nets:good"), {"study": folder})


def test_a_module_inside_packages_is_not_run_for_its_identity(tmp_path):
    package = tmp_path / "my_pack" / "inner"
    package.mkdir(parents=True)
    (tmp_path / "my_pack" / "__init__.py").write_text("raise RuntimeError('must not run')")
    (package / "__init__.py").write_text("raise RuntimeError('must not run')")
    (package / "nets.py").write_text(NET)
    first = fingerprint(spec("my_pack.inner.nets:good"), {"study": tmp_path})
    (package / "nets.py").write_text(NET + "# changed\n")
    assert fingerprint(spec("my_pack.inner.nets:good"), {"study": tmp_path}) != first
    with pytest.raises(ModelError, match="RuntimeError: must not run"):
        load(tmp_path, "my_pack.inner.nets:good")


def test_drawn_weights_are_the_same_every_time(folder):
    first = load(folder, "my_nets:good").module.state_dict()
    torch.manual_seed(99)
    second = load(folder, "my_nets:good").module.state_dict()
    assert all(torch.equal(a, b) for a, b in zip(first.values(), second.values(), strict=True))


def test_half_precision_becomes_float32(folder):
    assert load(folder, "my_nets:half").module[2].weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("goood", r"must define a function 'goood', got none; did you mean 'good'"),
        ("CONSTANT", r"function 'CONSTANT', got int"),
        ("fails", "ValueError: no such width"),
        ("number", "must return a torch.nn.Module, got int"),
        ("one_logit", "one logit per class, at least 2, got 1"),
        ("maps", r"logits \(N, C\).*got \(1, 4, 8, 8\)"),
        ("Several", "got dict"),
        ("lazy", r"2\.weight waits for a first input"),
    ],
)
def test_useless_functions_are_refused(folder, name, message):
    with pytest.raises(ModelError, match=message):
        load(folder, f"my_nets:{name}")


def test_wrong_input_shape_is_said_with_the_shape(folder):
    with pytest.raises(ModelError, match=r"\(1, 1, 8, 8\).*input_shape") as caught:
        load(folder, "my_nets:good", input_shape=(1, 8, 8))
    assert caught.value.__cause__ is not None


def test_wrong_number_of_classes(folder):
    with pytest.raises(ModelError, match="the study says 10, the network has 4"):
        load(folder, "my_nets:good", classes=10)


def test_missing_input_shape(folder):
    for act in (fingerprint, load_model):
        with pytest.raises(ModelError, match="input shape must be known"):
            act(spec("my_nets:good", input_shape=None), {"study": folder})


@pytest.mark.parametrize("rest", ["my_nets", "my_nets:", "my-nets:good", "my_nets.good", "a:b:c"])
def test_spelling(folder, rest):
    with pytest.raises(ModelError, match="must be spelled import:package"):
        fingerprint(spec(rest.rstrip(":") or rest), {"study": folder})


@pytest.mark.parametrize("rest", ["my_nots:good", "my_nets.inner:good"])
def test_missing_module_names_the_folder(folder, rest):
    for act in (fingerprint, load_model):
        with pytest.raises(ModelError, match="must be importable") as caught:
            act(spec(rest), {"study": folder})
        assert str(folder) in str(caught.value)


def test_module_that_does_not_import(tmp_path):
    (tmp_path / "my_broken.py").write_text("import my_missing_friend\n")
    with pytest.raises(ModelError, match="No module named 'my_missing_friend'"):
        load(tmp_path, "my_broken:good")


def test_same_name_from_another_folder_is_refused(folder, tmp_path):
    load(folder, "my_nets:good")
    other = tmp_path / "other"
    other.mkdir()
    (other / "my_nets.py").write_text(NET.replace("Linear(3, 4)", "Linear(3, 5)"))
    with pytest.raises(ModelError, match="already imported another one"):
        load(other, "my_nets:good")


def test_source_changed_after_import_is_refused(folder):
    load(folder, "my_nets:good")
    (folder / "my_nets.py").write_text(NET + "# changed\n")
    with pytest.raises(ModelError, match="has changed since this process imported it"):
        load(folder, "my_nets:good")
