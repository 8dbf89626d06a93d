from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pydantic
import pytest

from shrinkproof.errors import ModelError, PluginError, UnknownNameError
from shrinkproof.models import MODELS
from shrinkproof.models.loaded import Preprocess
from shrinkproof.models.reference import ModelField, ModelSpec, fingerprint, load_model
from shrinkproof.registry import component

FIELD: pydantic.TypeAdapter[ModelSpec] = pydantic.TypeAdapter(ModelField)


def test_a_plain_reference_is_accepted():
    assert FIELD.validate_python("timm:resnet18.a1_in1k") == ModelSpec(use="timm:resnet18.a1_in1k")


def test_a_mapping_with_lists_is_accepted():
    spec = FIELD.validate_python(
        {
            "use": "checkpoint:a/b.pt",
            "arch": "cifar:resnet20",
            "classes": 10,
            "preprocess": {"mean": [0, 0.5, 1], "std": [1, 1, 0.5]},
            "input_shape": [3, 32, 32],
            "seen": ["cifar10:train"],
        }
    )
    assert spec.preprocess == Preprocess(mean=(0.0, 0.5, 1.0), std=(1.0, 1.0, 0.5))
    assert spec.input_shape == (3, 32, 32)
    assert spec.seen == ("cifar10:train",)
    assert (spec.scheme, spec.rest) == ("checkpoint", "a/b.pt")


def test_nobody_said_and_nothing_seen_are_different():
    assert ModelSpec(use="cifar:resnet20").seen is None
    assert ModelSpec(use="cifar:resnet20", seen=()).seen == ()


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"use": "cifar:resnet20", "preprocess": {"meen": [0, 0, 0]}}, ("preprocess", "meen")),
        ({"use": "cifar:resnet20", "preprocess": {"std": [1, 0, 1]}}, ("preprocess", "std", 1)),
        ({"use": "cifar:resnet20", "input_shape": [3, 0, 32]}, ("input_shape", 1)),
        ({"use": "cifar:resnet20", "input_shape": ["3", 32, 32]}, ("input_shape", 0)),
        ({"use": "cifar:resnet20", "classes": 0}, ("classes",)),
        ({"use": "cifar:resnet20", "klasses": 10}, ("klasses",)),
        ({"use": "resnet20"}, ("use",)),
        ({"use": "cifar:"}, ("use",)),
        ({"use": "checkpoint:a.pt", "arch": "resnet20"}, ("arch",)),
        ({"arch": "cifar:resnet20"}, ("use",)),
    ],
    ids=str,
)
def test_errors_keep_their_place(value, place):
    with pytest.raises(pydantic.ValidationError) as caught:
        FIELD.validate_python(value)
    assert caught.value.errors()[0]["loc"] == place


def test_the_schema_offers_both_spellings():
    kinds = FIELD.json_schema()["anyOf"]
    assert {"type": "string"} in kinds
    assert any("$ref" in kind for kind in kinds)


def test_unknown_scheme_names_the_similar_one():
    with pytest.raises(UnknownNameError, match="did you mean 'checkpoint'"):
        fingerprint(ModelSpec(use="chekpoint:a.pt"), {})
    with pytest.raises(UnknownNameError, match="model source 'tflite'"):
        load_model(ModelSpec(use="tflite:a.tflite"), {})


@pytest.mark.parametrize("use", ["cifar:resnet20", "import:a:b", "checkpoint:a.pt"])
def test_missing_preprocessing_says_three_ways(use):
    for act in (fingerprint, load_model):
        with pytest.raises(ModelError, match=r"preprocess: \{mean") as caught:
            act(ModelSpec(use=use, arch="cifar:resnet20"), {})
        assert "Preprocess(mean" in str(caught.value)
        assert "timm:NAME" in str(caught.value)


def test_fingerprint_depends_on_everything_that_moves_a_logit():
    pre = Preprocess()
    base = ModelSpec(use="cifar:resnet20", preprocess=pre)
    others = [
        ModelSpec(use="cifar:resnet20b", preprocess=pre),
        ModelSpec(use="cifar:resnet20", preprocess=Preprocess(mean=(0.1, 0.0, 0.0))),
        ModelSpec(use="cifar:resnet20", preprocess=pre, classes=7),
        ModelSpec(use="cifar:resnet20", preprocess=pre, input_shape=(3, 64, 64)),
    ]
    keys = [fingerprint(spec, {}) for spec in (base, *others)]
    assert len(set(keys)) == 5
    assert all(len(key) == 16 for key in keys)
    seen = ModelSpec(use="cifar:resnet20", preprocess=pre, seen=("train",))
    assert fingerprint(seen, {}) == keys[0]


def test_a_plugin_must_return_a_loaded_model(monkeypatch):
    @component
    class Odd:
        def load(self, rest, settings, roots):
            return rest

    monkeypatch.setattr(MODELS, "get", lambda name: Odd)
    with pytest.raises(PluginError, match="must return a LoadedModel, got str"):
        load_model(ModelSpec(use="odd:thing"), {})


def test_no_source_and_no_fingerprint_imports_torch(tmp_path):
    (tmp_path / "nets.py").write_text("import torch\n")
    (tmp_path / "a.pt").write_bytes(b"weights")
    code = f"""
import sys
from pathlib import Path
import shrinkproof.environment, shrinkproof.torchvision_ops
from shrinkproof.models import MODELS
from shrinkproof.models.reference import ModelSpec, Preprocess, fingerprint
for name in MODELS.builtin:
    MODELS.get(name)
roots = {{"study": Path({str(tmp_path)!r})}}
p = Preprocess()
for spec in [
    ModelSpec(use="cifar:resnet20", preprocess=p),
    ModelSpec(use="checkpoint:a.pt", arch="cifar:resnet20", preprocess=p),
    ModelSpec(use="checkpoint:a.pt", arch="import:nets:f", preprocess=p),
    ModelSpec(use="import:nets:f", preprocess=p, input_shape=(3, 8, 8)),
    ModelSpec(use="torchvision:resnet18"),
]:
    fingerprint(spec, roots)
assert "torch" not in sys.modules
assert "nets" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, cwd=Path.cwd())
