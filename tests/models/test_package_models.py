"""References to networks of torchvision and timm; nothing is downloaded."""

from __future__ import annotations

import sys
from importlib import metadata
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

from shrinkproof.errors import MissingExtraError, ModelError, UnknownNameError
from shrinkproof.models import timm_source, torchvision_source
from shrinkproof.models.loaded import Preprocess
from shrinkproof.models.reference import ModelSpec, fingerprint, load_model
from shrinkproof.torchvision_ops import Status


def spec(use: str, **settings) -> ModelSpec:
    return ModelSpec(use=use, **settings)


NONE = {"preprocess": Preprocess(), "input_shape": (3, 32, 32)}


def test_torchvision_network_without_weights():
    loaded = load_model(spec("torchvision:resnet18/none", classes=7, **NONE), {})
    assert loaded.num_classes == 7
    assert loaded.input_shape == (3, 32, 32)
    again = load_model(spec("torchvision:resnet18/none", classes=7, **NONE), {})
    assert torch.equal(loaded.module.conv1.weight, again.module.conv1.weight)


def test_torchvision_network_as_architecture(tmp_path):
    loaded = load_model(spec("torchvision:squeezenet1_1/none", classes=5, **NONE), {})
    torch.save(loaded.module.state_dict(), tmp_path / "a.pt")
    settings = {"arch": "torchvision:squeezenet1_1", **NONE}
    again = load_model(spec("checkpoint:a.pt", **settings), {"study": tmp_path})
    assert again.num_classes == 5
    x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again.module(x), loaded.module(x))


def test_torchvision_weights_bring_their_preprocessing(monkeypatch):
    built = []

    def pretrained(rest, name, weights):
        built.append((name, weights.name))
        return torchvision_source.Torchvision().build(name, None, {})

    monkeypatch.setattr(torchvision_source, "_pretrained", pretrained)
    loaded = load_model(spec("torchvision:squeezenet1_1/IMAGENET1K_V1"), {})
    assert loaded.preprocess == Preprocess(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    assert loaded.input_shape == (3, 224, 224)
    assert loaded.num_classes == 1000
    own = Preprocess(mean=(0.5, 0.5, 0.5))
    loaded = load_model(spec("torchvision:squeezenet1_1", preprocess=own), {})
    assert loaded.preprocess == own
    assert built == [("squeezenet1_1", "IMAGENET1K_V1")] * 2
    with pytest.raises(ModelError, match="the study says 10, the network has 1000"):
        load_model(spec("torchvision:squeezenet1_1", classes=10), {})


def test_torchvision_download_that_fails(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(ModelError, match="offline") as caught:
        load_model(spec("torchvision:squeezenet1_1/IMAGENET1K_V1"), {})
    assert "could not be loaded" in str(caught.value)
    assert "arch: torchvision:squeezenet1_1" in str(caught.value)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        ("torchvision:resnet81", "torchvision network 'resnet81'; did you mean 'resnet18'"),
        ("torchvision:fcn_resnet50/none", "unknown torchvision network"),
        ("torchvision:resnet50/IMAGENET1K_V3", "did you mean 'IMAGENET1K_V2'"),
    ],
)
def test_unknown_torchvision_names(use, message):
    with pytest.raises(UnknownNameError, match=message):
        load_model(spec(use, **NONE), {})


def test_torchvision_without_weights_needs_settings():
    for act in (fingerprint, load_model):
        with pytest.raises(ModelError, match="preprocessing must be known"):
            act(spec("torchvision:resnet18/none"), {})
        with pytest.raises(ModelError, match="input shape must be known"):
            act(spec("torchvision:resnet18/none", preprocess=Preprocess()), {})


def test_weights_of_an_architecture_are_refused(tmp_path):
    (tmp_path / "a.pt").write_bytes(b"")
    torch.save({"a": torch.zeros(1)}, tmp_path / "a.pt")
    with pytest.raises(ModelError, match="write 'torchvision:resnet18'"):
        load_model(
            spec("checkpoint:a.pt", arch="torchvision:resnet18/DEFAULT", **NONE),
            {"study": tmp_path},
        )


def test_fingerprint_follows_the_installed_version(monkeypatch):
    first = fingerprint(spec("torchvision:resnet18"), {})
    assert first != fingerprint(spec("torchvision:resnet18/IMAGENET1K_V1"), {})
    monkeypatch.setattr(metadata, "version", lambda name: "99.0")
    assert fingerprint(spec("torchvision:resnet18"), {}) != first


def test_absent_torchvision(monkeypatch):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    with pytest.raises(MissingExtraError, match="pip install torchvision"):
        fingerprint(spec("torchvision:resnet18"), {})
    status = Status("absent", "torchvision does not import: OSError: x")
    monkeypatch.setattr("shrinkproof.torchvision_ops.ensure", lambda: status)
    with pytest.raises(MissingExtraError, match="OSError: x"):
        load_model(spec("torchvision:resnet18"), {})


class FakeTimm(ModuleType):
    """The part of timm's interface that we use."""

    fails: Exception | None = None

    def is_model(self, name: str) -> bool:
        return name.split(".")[0] == "toynet"

    def list_models(self) -> list[str]:
        return ["toynet"]

    def create_model(self, name: str, *, pretrained: bool, num_classes: int = 6) -> nn.Module:
        if pretrained and self.fails:
            raise self.fails
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, num_classes))


@pytest.fixture
def timm(monkeypatch):
    fake = FakeTimm("timm")
    config = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6), "input_size": (3, 48, 48)}
    data = SimpleNamespace(resolve_model_data_config=lambda module: config)
    monkeypatch.setitem(sys.modules, "timm", fake)
    monkeypatch.setitem(sys.modules, "timm.data", data)
    monkeypatch.setattr(timm_source, "_version", lambda: "1.0.31")
    return fake


def test_timm_brings_its_preprocessing(timm):
    loaded = load_model(spec("timm:toynet.tag"), {})
    assert loaded.preprocess == Preprocess(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    assert (loaded.input_shape, loaded.num_classes) == ((3, 48, 48), 6)
    assert loaded.fingerprint == fingerprint(spec("timm:toynet.tag"), {})


def test_timm_without_weights(timm, tmp_path):
    with pytest.raises(ModelError, match="preprocessing must be known"):
        load_model(spec("timm:toynet/none"), {})
    loaded = load_model(spec("timm:toynet/none", classes=4, preprocess=Preprocess()), {})
    assert (loaded.input_shape, loaded.num_classes) == ((3, 48, 48), 4)
    torch.save(loaded.module.state_dict(), tmp_path / "a.pt")
    again = load_model(spec("checkpoint:a.pt", arch="timm:toynet", **NONE), {"study": tmp_path})
    assert again.num_classes == 4


def test_timm_errors(timm):
    with pytest.raises(UnknownNameError, match="did you mean 'toynet'"):
        load_model(spec("timm:toynot"), {})
    timm.fails = ConnectionError("no route")
    with pytest.raises(ModelError, match=r"ConnectionError: no route.*offline"):
        load_model(spec("timm:toynet"), {})


def test_absent_timm(monkeypatch):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    for act in (fingerprint, load_model):
        with pytest.raises(MissingExtraError, match=r'pip install "shrinkproof\[timm\]"'):
            act(spec("timm:resnet18"), {})


def test_broken_timm(monkeypatch):
    monkeypatch.setattr(timm_source, "_version", lambda: "1.0.31")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtraError, match="does not import"):
        load_model(spec("timm:resnet18"), {})
