"""The command ``export``, as users call it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shrinkproof import cli
from shrinkproof.results import Results
from shrinkproof.study import Inputs

DEV_DATA = Path(
    os.environ.get("SHRINKPROOF_DEV_DATA") or Path(__file__).resolve().parents[2] / "../shared/data"
)


@pytest.mark.slow
def test_it_tells_what_was_written_and_how_far_it_agrees(small_run, tmp_path, capfd):
    out = tmp_path / "out"
    code = cli.run(["export", str(small_run), "int8", "-o", str(out), "--images", "7"])
    found = capfd.readouterr()
    assert (code, found.err) == (0, "")
    lines = found.out.splitlines()
    assert lines[0].startswith("net/int8: 12 files, 0.0")
    assert lines[1:3] == [str(out), "loaded again and run on 7 images, clean and contrast:3:"]
    assert "  model.onnx           as predictions of the run: bit for bit" in lines
    assert all(len(line) <= 80 for line in lines if line != str(out))


@pytest.mark.slow
def test_it_prints_json_and_refuses_unknown_names(small_run, tmp_path, capfd):
    place = ["-o", str(tmp_path / "out"), "--images", "7", "--json"]
    assert cli.run(["export", str(small_run), "channels0.5", *place]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["candidate"] == "net/channels0.5"
    assert found["agreement"][0]["is_exact"] is True
    assert set(found["files"]) | {"manifest.json"} == {
        path.name for path in (tmp_path / "out").iterdir()
    }
    assert cli.run(["export", str(small_run), "channels5"]) == 2
    assert "did you mean 'channels0.5'" in capfd.readouterr().err


REBUILD = """
import sys
from pathlib import Path

import torch
from shrinkproof.artifacts.candidate import load_candidate
from shrinkproof.models.reference import load_model
from shrinkproof.results import Results
from shrinkproof.study import Inputs

run, folder, target = sys.argv[1:]
inputs = Inputs.from_json(Results.load(run).store.read_json("inputs.json"))
base = load_model(inputs.spec.models["net"], inputs.places)
torch.save(load_candidate(Path(folder), base.module).state_dict(), target)
"""

PROGRAM = """
import sys
import numpy as np
import torch

program = torch.export.load(sys.argv[1]).module()
with torch.inference_mode():
    np.save(sys.argv[3], program(torch.from_numpy(np.load(sys.argv[2]))).numpy())
assert not [name for name in sys.modules if name.startswith("shrinkproof")]
"""


def python(*arguments: object, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, check=False, cwd=cwd
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("sample", ["int8"], indirect=True)
def test_a_new_process_rebuilds_runs_and_classifies(sample, tmp_path):
    import torch

    from shrinkproof.artifacts.session import Session
    from shrinkproof.study.twin import load_twin

    # from base network and folder, without the run's candidate
    place = tmp_path / "state.pt"
    python("-c", REBUILD, sample.run, sample.folder, place, cwd=tmp_path)
    twin = load_twin(str(sample.run), "net", sample.stored)
    found = torch.load(place)
    assert all(torch.equal(found[name], tensor) for name, tensor in twin.state_dict().items())
    # the program, with PyTorch alone
    images = np.random.default_rng(0).standard_normal((4, 3, 16, 16)).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    python(
        "-c",
        PROGRAM,
        sample.folder / "model.pt2",
        tmp_path / "images.npy",
        tmp_path / "logits.npy",
        cwd=tmp_path,
    )
    with torch.inference_mode():
        expected = twin(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), expected, rtol=0, atol=1e-5)
    # the example, with ONNX Runtime and numpy alone
    inputs = Inputs.from_json(Results.load(sample.run).store.read_json("inputs.json"))
    split = inputs.splits(["report"]).sets["report"]
    _, batch = next(split.batches(1))
    np.save(tmp_path / "image.npy", batch[0])
    out = python(sample.folder / "example.py", tmp_path / "image.npy", cwd=tmp_path)
    levels = (batch.transpose(0, 3, 1, 2) / 255.0 - 0.5) / 0.5
    logits = Session(sample.folder / "model.onnx")(levels.astype(np.float32))[0]
    odds = np.exp(logits - logits.max())
    odds /= odds.sum()
    shown = [line.split() for line in out.splitlines()]
    assert [name for _, name in shown] == [str(i) for i in np.argsort(-odds)]
    assert [float(share) for share, _ in shown] == pytest.approx(sorted(odds)[::-1], abs=2e-4)


RESNET = """
study: resnet
models:
  resnet20:
    use: checkpoint:{file}
    arch: cifar:resnet20
    classes: 10
    preprocess: {{mean: [0.4914, 0.4822, 0.4465], std: [0.2023, 0.1994, 0.2010]}}
data:
  calibrate: {{use: "arrays:train.npz", count: 32}}
  report: arrays:test.npz
  preset: cifar
  batch: 32
recipes:
  prune0.5:
    steps:
      - prune.weights: {{ratio: 0.5}}
  channels0.3:
    steps:
      - prune.channels: {{ratio: 0.3}}
  cluster16:
    steps:
      - fold
      - cluster: {{levels: 16}}
  int8:
    steps:
      - quantize.static
conditions:
  contrast: [3]
measure:
  intervals: {{replicates: 100}}
"""


@pytest.mark.slow
@pytest.mark.long
def test_a_published_network_survives_the_round_trip(tmp_path):
    from shrinkproof.export import export_candidate
    from shrinkproof.study import Study

    file = DEV_DATA / "checkpoints" / "cifar10_resnet20.safetensors"
    if not file.is_file():
        pytest.skip("development data are absent: no published checkpoints")
    rng = np.random.default_rng(0)
    for name in ("train", "test"):
        # Smooth images: the network is sure of them, as it is of photos.
        coarse = rng.integers(0, 256, (48, 8, 8, 3)).astype(np.uint8)
        images = coarse.repeat(4, axis=1).repeat(4, axis=2)
        np.savez(tmp_path / f"{name}.npz", images=images, target=np.arange(48) % 10)
    (tmp_path / "study.yaml").write_text(RESNET.format(file=file.resolve()))
    results = Study.load(tmp_path / "study.yaml").run(tmp_path / "run")
    for kind in ("prune0.5", "channels0.3", "cluster16", "int8"):
        found = export_candidate(results, kind, tmp_path / kind)
        measured = [item for item in found.agreement if item.first == "model.onnx"]
        assert all(item.is_exact for item in measured)
        assert found.files["model.onnx"]["bytes"] < 1_200_000
        program = [item for item in found.agreement if item.first == "model.pt2"]
        assert all(item.is_met for item in program)
        assert bool(program) == (not found.missing)
