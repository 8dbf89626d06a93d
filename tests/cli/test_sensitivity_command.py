"""The command that compresses one layer at a time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shrinkproof.cli.sensitivity import _lines, _short
from shrinkproof.compression.sensitivity import LayerSensitivity

from ..study_builder import write_study
from .conftest import Call

HALF = "preprocess={mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}"
IMAGES = ("--images", "{use: arrays:train.npz, count: 32}")


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """A folder with a network of user code, its settings, and images of four classes."""
    folder = write_study(tmp_path / "study").parent
    monkeypatch.chdir(folder)
    module = next(folder.glob("network_*.py")).stem
    return (
        f"import:{module}:network",
        *("--set", "classes=4", "--set", "input_shape=[3, 16, 16]", "--set", HALF),
    )


def test_table_has_the_most_sensitive_layer_first(call: Call, user: tuple[str, ...]) -> None:
    done = call("sensitivity", *user, "prune.weights:ratio=0.7", *IMAGES)
    assert done.code == 0, done.err
    assert "note: --images: stratified subset of 32 of 96 images" in done.err
    assert all(len(line) <= 80 for line in done.lines)
    assert done.lines[0].split() == ["divergence", "largest", "same", "top-1"]
    assert done.lines[1].split() == ["layer", "parameters", "nat", "difference", "%"]
    end = done.lines.index("")
    divergences = [float(line.split()[2]) for line in done.lines[2:end]]
    assert divergences == sorted(divergences, reverse=True)
    assert len(divergences) >= 2
    assert done.lines[end + 1] == "not compressed alone:"
    assert done.lines[end + 2].endswith("fully connected; the setting is 'conv'")
    assert "32 images, one layer compressed at a time" in done.out


def test_json_is_in_the_order_of_the_network(call: Call, user: tuple[str, ...]) -> None:
    options = ("--calibrate", "arrays:train.npz", "--seed", "3", "--json")
    step = "prune.weights:ratio=0.7,criterion=taylor"
    done = call("sensitivity", *user, step, *IMAGES, *options)
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert (found["version"], found["step"], found["images"]) == (1, "prune.weights", 32)
    assert [set(row) for row in found["layers"]] == [
        {"layer", "parameters", "divergence", "largest_difference", "agreement", "reason"}
    ] * len(found["layers"])
    assert found["layers"][-1]["divergence"] is None
    assert found["layers"][-1]["reason"]
    assert call("sensitivity", *user, step, *IMAGES, *options).out == done.out


def test_long_names_are_shortened_in_the_middle() -> None:
    name = "backbone.stages.3.blocks.11.branches.0.conv_pointwise"
    assert len(_short(name)) == 31
    assert _short(name).startswith("backbone.")
    assert _short(name).endswith("conv_pointwise")
    assert "..." in _short(name)
    assert _short("a" * 31) == "a" * 31
    rows = [
        LayerSensitivity(name, 123_456_789, 1.234567e-7, 12345.678, 0.98765),
        LayerSensitivity("head", 10, reason="x" * 30 + " " + "y " * 60),
    ]
    assert all(len(line) <= 80 for line in _lines(rows, 256))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fold", *IMAGES), "must select layers by name, got fold"),
        (("prune.weigths:ratio=0.5", *IMAGES), "did you mean 'prune.weights'"),
        (("prune.weights:ratio=0.5",), "Missing option '--images'"),
        (("prune.weights:ratio=0.5", "--images", "arrays:absent.npz"), "absent.npz"),
        (("prune.weights:ratio=0.5", "--images", "{use: 3}"), "--images: use: must be text"),
    ],
)
def test_wrong_use(
    call: Call, user: tuple[str, ...], arguments: tuple[str, ...], message: str
) -> None:
    done = call("sensitivity", *user, *arguments)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert "Traceback" not in done.err
