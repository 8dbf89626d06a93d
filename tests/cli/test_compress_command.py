"""The command that compresses one network."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shrinkproof import CompressedModel, ModelSpec, Preprocess, load_model

from ..study_builder import write_study
from .conftest import Call

NET = "cifar:resnet8w8"
HALF = "preprocess={mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}"


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


@pytest.mark.slow
def test_one_step_without_images(call: Call, tmp_path: Path) -> None:
    out = tmp_path / "small"
    done = call("compress", NET, "prune.weights:ratio=0.5", "-o", out)
    assert (done.code, done.err) == (0, "")
    assert all(len(line) <= 80 for line in done.lines[:-1])
    assert done.lines[0].split() == ["before", "after", "after/before"]
    assert done.lines[1].split() == ["parameters", "19,954", "19,954", "1.0000"]
    assert done.lines[3].split() == ["MACs", "3,236,160", "3,236,160", "1.0000"]
    assert "  asked       ratio 0.5" in done.lines
    assert "  left alone  fc: fully connected; the setting is 'conv'" in done.lines
    assert done.lines[-1] == f"written to {out}"
    assert {"weights.safetensors", "changes.json", "recipe.json", "model.onnx"} <= {
        p.name for p in out.iterdir()
    }
    fresh = load_model(ModelSpec(use=NET, preprocess=Preprocess()), {}).module
    back = CompressedModel.load(out, fresh)
    assert back.achieved[0]["ratio"] == pytest.approx(0.5, abs=1e-4)


@pytest.mark.slow
def test_images_training_and_json(call: Call, tmp_path: Path, user: tuple[str, ...]) -> None:
    out = tmp_path / "small"
    steps = (
        "{prune.weights: {ratio: 0.5}}",
        "finetune:epochs=2,learning_rate=0.01,batch=16,augment=[crop, flip]",
        "quantize.static",
    )
    data = ("--train", "arrays:train.npz", "--calibrate", "{use: arrays:train.npz, count: 32}")
    done = call("compress", *user, *steps, *data, "-o", out, "--json", "--seed", "3")
    assert done.code == 0, done.err
    assert "note: calibrate: stratified subset of 32 of 96 images" in done.err
    assert "epoch 2/2, loss " in done.err
    found = json.loads(done.out)
    assert (found["version"], found["directory"]) == (1, str(out))
    assert [step["step"] for step in found["steps"]] == [
        *("prune.weights", "finetune", "quantize.static")
    ]
    assert found["steps"][1]["fields"]["augment"] == ["crop", "flip"]
    assert found["steps"][2]["achieved"]["calibration_images"] == 32
    assert 0 < found["after"]["bytes_zip"] <= found["after"]["bytes"]
    assert found["after"]["nonzero"] < 0.7 * found["before"]["nonzero"]
    assert not (out / ".training").exists()
    again = call("compress", *user, *steps, *data, "-o", out, "--json", "--seed", "3")
    assert again.out == done.out
    other = call("compress", *user, *steps, *data, "-o", tmp_path / "b", "--json", "--seed", "4")
    assert json.loads(other.out)["steps"] != found["steps"]


@pytest.mark.slow
def test_the_command_gives_what_the_study_gives(
    call: Call, tmp_path: Path, user: tuple[str, ...], finished_run: Path
) -> None:
    from shrinkproof.results import Results

    steps = (
        "{prune.weights: {ratio: 0.5}}",
        "{finetune: {epochs: 1, learning_rate: 0.01, batch: 32}}",
    )
    done = call("compress", *user, *steps, "--train", "arrays:train.npz", "-o", tmp_path / "out")
    assert done.code == 0, done.err
    keys = {c.label: c.key for c in Results.load(finished_run).candidates}
    study = finished_run / "candidates" / keys["net/prune0.5"]
    for name in ("weights.safetensors", "model.onnx"):
        assert (tmp_path / "out" / name).read_bytes() == (study / name).read_bytes()
    spec = ModelSpec(use=user[0], input_shape=(3, 16, 16), preprocess=Preprocess())
    fresh = load_model(spec, {"study": Path.cwd()}).module
    assert CompressedModel.load(study, fresh).candidate.recipe == "prune0.5"


def test_a_gpu_that_is_not_there_is_refused(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    done = call("compress", NET, "fold", "-o", tmp_path / "out", "--device", "cuda")
    assert (done.code, done.out) == (2, "")
    assert "--device: cuda must be a GPU that PyTorch sees, got none" in done.err
    assert not (tmp_path / "out").exists()


def test_a_gpu_is_taken_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from shrinkproof.cli.compress import place_of

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "a GPU")
    assert [place_of(d) for d in ("auto", "cpu", "cuda")] == ["cuda", "cpu", "cuda"]
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert place_of("auto") == "cpu"


KILLED = """
import sys
from shrinkproof import cli
from shrinkproof.training import checkpoint
checkpoint.INTERVAL = 0.0
sys.exit(cli.run(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_bits(
    call: Call, tmp_path: Path, user: tuple[str, ...]
) -> None:
    step = "finetune:epochs=6,learning_rate=0.05,batch=8,schedule=onecycle,augment=[crop, flip]"
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    command = ("compress", *user, step, "--train", "arrays:train.npz", "--out")
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, *command, str(torn)], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch 3/6"):
            process.send_signal(signal.SIGKILL)
            break
    assert process.wait() == -signal.SIGKILL
    process.stderr.close()
    assert list((torn / ".training").rglob("training.checkpoint"))
    assert not (torn / "weights.safetensors").exists()
    again = call(*command, torn)
    assert again.code == 0, again.err
    assert "starts from the beginning" not in again.err
    assert call(*command, whole).code == 0
    for name in ("weights.safetensors", "changes.json", "model.onnx"):
        assert (torn / name).read_bytes() == (whole / name).read_bytes()
    assert not (torn / ".training").exists()


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("fold", "fold"),
        ("prune.weights:ratio=0.5", {"prune.weights": {"ratio": 0.5}}),
        ("a:x=1,y=two, z = [1, 2]", {"a": {"x": 1, "y": "two", "z": [1, 2]}}),
        ("a:finetune={epochs: 3, augment: [crop, flip]}", None),
        ("a:x=\"one,two\",y='='", {"a": {"x": "one,two", "y": "="}}),
        ("{prune.weights: {ratio: 1e-1}}", {"prune.weights": {"ratio": 0.1}}),
        ("prune.weights: {ratio: 0.5}", {"prune.weights": {"ratio": 0.5}}),
        ("fold:", {"fold": None}),
    ],
)
def test_spellings_of_a_step(step: str, expected: object) -> None:
    from shrinkproof.cli.inputs import step_of

    if expected is None:
        expected = {"a": {"finetune": {"epochs": 3, "augment": ["crop", "flip"]}}}
    assert step_of(step, "step 1") == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((NET, "prune.wieghts"), "step 1: unknown compressor 'prune.wieghts'; did you mean"),
        ((NET, "fold", "prune.weights:ratoi=1"), "step 2: prune.weights.ratoi: unknown field; did"),
        ((NET, "prune.weights:ratio=1"), "ratio: must be between 0 and 1 (excluded), got 1"),
        ((NET, "prune.weights:ratio"), "step 1: unknown compressor 'prune.weights:ratio'; did you"),
        ((NET, "prune.weights:ratio=0.5,ratio=0.7"), "step 1: ratio must be given once, got it"),
        ((NET, "fold", "--set", "classes=4", "--set", "classes=5"), "--set: classes must be given"),
        ((NET, "prune.weights:ratio=0.5,floor"), "settings must be key=value, got 'floor'"),
        ((NET, "{prune.weights: {ratio: 0.5}"), "step 1:1:29: is no valid YAML"),
        ((NET, "{fold: , cluster: {levels: 4}}"), "got 2 keys (fold, cluster)"),
        ((NET, "[fold]"), "step 1: must be a compressor, a name, or a one-key mapping"),
        ((NET, " "), "step 1: must be a step, got an empty text"),
        ((NET, "quantize.static"), "step 1 (quantize.static): needs images of the split 'calibra"),
        ((NET, "finetune:epochs=1"), "step 1 (finetune): needs images of the split 'train'"),
        (("cifar:resnet8w9", "fold"), "did you mean 'resnet8w8'"),
        (("cifr:resnet20", "fold"), "unknown model source 'cifr'; did you mean 'cifar'?"),
        (("resnet20", "fold"), "model: use: must be a reference, 'scheme:rest', got 'resnet20'"),
        (("checkpoint:a.pt", "fold"), "'arch' must name the network they belong to"),
        (
            ("checkpoint:a.pt", "fold", "--set", "arch=cifar:resnet20"),
            "a.pt",
        ),
        ((NET, "fold", "--set", "clases=4"), "model: clases: unknown field; did you mean 'classe"),
        ((NET, "fold", "--set", "classes=one"), "model: classes: must be a whole number, got 'o"),
        ((NET, "fold", "--set", "classes"), "--set: settings must be key=value, got 'classes'"),
        ((NET, "fold", "--calibrate", "digits"), "preprocessing must be known, got none"),
        ((NET, "fold", "--set", HALF, "--calibrate", "digit"), "did you mean 'digits'"),
        ((NET, "fold", "--set", HALF, "--calibrate", "{uses: digits}"), "--calibrate: uses: unkno"),
        (
            (NET, "fold", "--set", HALF, "--calibrate", "{use: digits, count: 9999}"),
            "count must be at most the 1797 images of digits, got 9999",
        ),
        ((NET, "fold", "--root", "nonsense"), "--root: must be NAME=PATH, got 'nonsense'"),
        ((NET, "fold", "--seed", "-1"), "--seed"),
        ((NET,), "Missing argument 'STEP'"),
    ],
    ids=lambda value: " ".join(value[1:]) if isinstance(value, tuple) else "",
)
def test_wrong_use(call: Call, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    done = call("compress", *arguments, "-o", tmp_path / "out")
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "out").exists()


def test_the_directory_is_required(call: Call) -> None:
    done = call("compress", NET, "fold")
    assert done.code == 2
    assert "Missing option '-o' / '--out'" in done.err


def test_images_that_do_not_fit_the_network(
    call: Call, tmp_path: Path, user: tuple[str, ...]
) -> None:
    images = np.zeros((8, 20, 20, 3), np.uint8)
    np.savez("large.npz", images=images, target=np.arange(8) % 4)
    np.savez("empty.npz", images=images[:0], target=np.arange(0))
    np.savez("classes.npz", images=images[:, :16, :16], target=np.arange(8))
    for name, message in (
        ("large", "must be 16x16 pixels, got 20x20"),
        ("empty", "at least 1 image"),
        ("classes", "the model has 4 classes but arrays:classes.npz has 8"),
    ):
        data = ("--calibrate", f"arrays:{name}.npz")
        done = call("compress", *user, "quantize.static", *data, "-o", tmp_path / "out")
        assert (done.code, done.out) == (2, "")
        assert message in done.err
        assert not (tmp_path / "out").exists()


def test_what_stands_in_the_directory_is_kept(call: Call, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    done = call("compress", NET, "prune.weights:ratio=0.5", "-o", tmp_path)
    assert (done.code, done.out) == (2, "")
    assert f"{tmp_path}: must be empty or hold a compressed network, got 'thesis.tex'" in done.err
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    done = call("compress", NET, "prune.weights:ratio=0.5", "-o", tmp_path / "thesis.tex")
    assert done.code == 2
    assert "must be a directory, got a file" in done.err
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_directory_below_a_file_is_refused(call: Call, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = call("compress", NET, "prune.weights:ratio=0.5", "-o", tmp_path / "file" / "out")
    assert (done.code, done.out) == (2, "")
    assert "file" in done.err
    assert "Traceback" not in done.err
