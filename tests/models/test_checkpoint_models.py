from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from shrinkproof.errors import ModelError, UnknownNameError
from shrinkproof.models.cifar import resnet
from shrinkproof.models.loaded import Preprocess
from shrinkproof.models.reference import ModelSpec, fingerprint, load_model


@pytest.fixture
def module() -> nn.Module:
    return resnet(8, 8, "project").eval()


def spec(name: str, **settings) -> ModelSpec:
    fields = {"arch": "cifar:resnet8w8", "preprocess": Preprocess(), **settings}
    return ModelSpec(use=f"checkpoint:{name}", **fields)


def load(folder: Path, name: str, **settings):
    return load_model(spec(name, **settings), {"study": folder})


def assert_same(a: nn.Module, b: nn.Module) -> None:
    for (name, x), y in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        assert torch.equal(x, y), name


def test_safetensors_without_counters(tmp_path, module):
    state = {k: v for k, v in module.state_dict().items() if "num_batches" not in k}
    save_file(state, tmp_path / "a.safetensors")
    loaded = load(tmp_path, "a.safetensors")
    assert_same(loaded.module, module)
    assert (loaded.num_classes, loaded.input_shape) == (10, (3, 32, 32))
    assert loaded.seen is None
    assert loaded.fingerprint == fingerprint(spec("a.safetensors"), {"study": tmp_path})


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".th", ".tar"])
def test_pickled_state(tmp_path, module, suffix):
    torch.save(module.state_dict(), tmp_path / f"a{suffix}")
    assert_same(load(tmp_path, f"a{suffix}").module, module)


def test_legacy_pickled_state(tmp_path, module):
    torch.save(module.state_dict(), tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    assert_same(load(tmp_path, "a.pt").module, module)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("nest", ["state_dict", "model_state_dict", "model"])
def test_nested_and_prefixed_state(tmp_path, module, prefix, nest):
    state = {prefix + name: value for name, value in module.state_dict().items()}
    torch.save({"epoch": 3, nest: state}, tmp_path / "a.pt")
    assert_same(load(tmp_path, "a.pt").module, module)


def test_two_sets_of_weights_are_ambiguous(tmp_path, module):
    state = module.state_dict()
    torch.save({"state_dict": state, "model": state}, tmp_path / "a.pt")
    with pytest.raises(ModelError, match="one set of weights, got state_dict, model"):
        load(tmp_path, "a.pt")


def test_half_precision_becomes_float32(tmp_path, module):
    state = {k: v.half() if v.is_floating_point() else v for k, v in module.state_dict().items()}
    torch.save(state, tmp_path / "a.pt")
    loaded = load(tmp_path, "a.pt").module
    assert loaded.conv1.weight.dtype == torch.float32
    assert torch.equal(loaded.conv1.weight, module.conv1.weight.half().float())


def test_whole_module_is_refused_with_reason_and_remedy(tmp_path, module):
    torch.save(module, tmp_path / "a.pt")
    with pytest.raises(ModelError, match="arbitrary code") as caught:
        load(tmp_path, "a.pt")
    message = str(caught.value)
    assert "CifarResNet" in message
    assert "weights_only" in message
    assert "torch.save(model.state_dict()" in message


def test_hostile_pickle_is_not_executed(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    torch.save({"state_dict": Bomb()}, tmp_path / "a.pt")
    with pytest.raises(ModelError, match="arbitrary code"):
        load(tmp_path, "a.pt")
    assert not (tmp_path / "executed").exists()


def test_settings_inside_are_refused_by_name(tmp_path, module):
    value = {"state_dict": module.state_dict(), "args": argparse.Namespace(lr=0.1)}
    torch.save(value, tmp_path / "a.pt")
    with pytest.raises(ModelError, match=r"argparse\.Namespace"):
        load(tmp_path, "a.pt")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([torch.zeros(2)], "must hold named tensors, got list"),
        ({}, "got none"),
        ({"conv1.weight": 3}, r"only named tensors, got conv1\.weight \(int\)"),
        ({"a": torch.zeros(2).to_sparse()}, "plain and dense"),
    ],
)
def test_what_is_no_set_of_tensors_is_refused(tmp_path, value, message):
    torch.save(value, tmp_path / "a.pt")
    with pytest.raises(ModelError, match=message):
        load(tmp_path, "a.pt")


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt"])
@pytest.mark.parametrize("keep", [0, 3, 200, -50])
def test_truncated_file_is_named(tmp_path, module, name, keep):
    path = tmp_path / name
    if name.endswith(".pt"):
        torch.save(module.state_dict(), path)
    else:
        save_file(module.state_dict(), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelError, match=r"corrupt, truncated") as caught:
        load(tmp_path, name)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt"])
def test_text_is_no_checkpoint(tmp_path, name):
    (tmp_path / name).write_text("version https://example.org/lfs\n" * 20)
    with pytest.raises(ModelError, match="corrupt"):
        load(tmp_path, name)


def test_unknown_suffix(tmp_path):
    (tmp_path / "a.h5").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"\.safetensors.*got '\.h5'"):
        load(tmp_path, "a.h5")


def test_missing_file_names_both_places_and_the_remedy(tmp_path):
    roots = {"study": tmp_path / "here", "weights": tmp_path / "there"}
    for act in (fingerprint, load_model):
        with pytest.raises(ModelError) as caught:
            act(spec("a.pt"), roots)
        message = str(caught.value)
        assert str(tmp_path / "here" / "a.pt") in message
        assert str(tmp_path / "there" / "a.pt") in message
        assert "--root weights=" in message
        assert "SHRINKPROOF_WEIGHTS" in message


def test_missing_absolute_file(tmp_path):
    with pytest.raises(ModelError, match=r"found no file '.*a\.pt'; correct the path$"):
        load(tmp_path, str(tmp_path / "a.pt"))


def test_the_folder_of_the_study_comes_first(tmp_path, module):
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
    torch.save(resnet(8, 8, "project").state_dict(), tmp_path / "there" / "a.pt")
    roots = {"study": tmp_path / "here", "weights": tmp_path / "there"}
    first = fingerprint(spec("a.pt"), roots)
    torch.save(module.state_dict(), tmp_path / "here" / "a.pt")
    assert fingerprint(spec("a.pt"), roots) != first
    assert_same(load_model(spec("a.pt"), roots).module, module)


def test_fingerprint_follows_the_bytes_not_the_place(tmp_path):
    for name, content in [("a.pt", b"1"), ("b.pt", b"1"), ("c.pt", b"2")]:
        (tmp_path / name).write_bytes(content)
    a, b, c = (fingerprint(spec(f"{n}.pt"), {"study": tmp_path}) for n in "abc")
    assert a == b
    assert a != c
    assert a != fingerprint(spec("a.pt", arch="cifar:resnet20"), {"study": tmp_path})


def test_arch_is_required(tmp_path):
    with pytest.raises(ModelError, match="'arch' must name the network"):
        load(tmp_path, "a.pt", arch="")


def test_arch_scheme_must_be_known(tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean 'cifar'"):
        load(tmp_path, "a.pt", arch="cifra:resnet20")
    with pytest.raises(ModelError, match="network without weights"):
        load(tmp_path, "a.pt", arch="checkpoint:a.pt")
    (tmp_path / "a.pt").write_bytes(b"x")
    with pytest.raises(UnknownNameError, match="did you mean"):
        fingerprint(spec("a.pt", arch="cifar:resnet21"), {"study": tmp_path})


def test_mismatch_names_layers_and_shapes(tmp_path, module):
    state = module.state_dict()
    state["extra.weight"] = torch.zeros(1)
    del state["layer1.0.bn1.weight"]
    state["conv1.weight"] = torch.zeros(4, 3, 3, 3)
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(ModelError) as caught:
        load(tmp_path, "a.pt")
    message = str(caught.value)
    assert "1 missing in the checkpoint: layer1.0.bn1.weight" in message
    assert "1 unknown to the architecture: extra.weight" in message
    assert "conv1.weight (checkpoint (4, 3, 3, 3), architecture (8, 3, 3, 3))" in message
    assert "cifar:resnet8w8" in message


def test_long_lists_end_in_a_count(tmp_path, module):
    torch.save({"fc.weight": module.fc.weight.detach()}, tmp_path / "a.pt")
    with pytest.raises(ModelError, match=r"and \d+ more\. Is 'arch'"):
        load(tmp_path, "a.pt")


def test_integers_in_place_of_weights_are_refused(tmp_path, module):
    state = module.state_dict()
    state["conv1.weight"] = torch.zeros(8, 3, 3, 3, dtype=torch.uint8)
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(ModelError, match=r"another kind: conv1\.weight \(checkpoint torch\.uint8"):
        load(tmp_path, "a.pt")


def test_number_of_classes_comes_from_the_weights(tmp_path):
    torch.save(resnet(8, 8, "project", 23).state_dict(), tmp_path / "a.pt")
    assert load(tmp_path, "a.pt").num_classes == 23
    assert load(tmp_path, "a.pt", classes=23).num_classes == 23
    with pytest.raises(ModelError, match=r"the study says 10, .* has 23"):
        load(tmp_path, "a.pt", classes=10)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_broken_weights_are_named(tmp_path, module, bad):
    with torch.no_grad():
        module.layer2[0].conv2.weight[0, 0, 0, 0] = bad
    torch.save(module.state_dict(), tmp_path / "a.pt")
    with pytest.raises(ModelError, match=r"1 of 2304 values of layer2\.0\.conv2\.weight"):
        load(tmp_path, "a.pt")


def test_negative_variance_is_found_by_the_logits(tmp_path, module):
    module.bn1.running_var[0] = -1.0
    torch.save(module.state_dict(), tmp_path / "a.pt")
    with pytest.raises(ModelError, match="logits must be finite"):
        load(tmp_path, "a.pt")


def test_weights_in_the_users_own_network(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    (tmp_path / "arch_of_mine.py").write_text(
        "from torch import nn\n"
        "def net():\n"
        "    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4))\n"
    )
    save_file({"2.weight": torch.ones(4, 3), "2.bias": torch.zeros(4)}, tmp_path / "a.safetensors")
    settings = {"arch": "import:arch_of_mine:net", "input_shape": (3, 8, 8)}
    loaded = load(tmp_path, "a.safetensors", **settings)
    assert loaded.num_classes == 4
    assert loaded.module(torch.ones(1, 3, 8, 8)).tolist() == [[3.0, 3.0, 3.0, 3.0]]
    with pytest.raises(ModelError, match=r"input_shape: \[3, 224, 224\]"):
        load(tmp_path, "a.safetensors", arch="import:arch_of_mine:net")
