"""Wrong files, wrong values, and disks that refuse: a message, an exit code, nothing lost."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shrinkproof.results import Results

from ..study_builder import STUDY, comparable, rewrite_study
from .conftest import Call

CHECKPOINT = STUDY.replace(
    "use: import:tiny_user_network:network", "use: checkpoint:FILE\n    arch: cifar:resnet8w8"
)


@pytest.fixture
def finished_study(finished_run: Path) -> Path:
    return finished_run.parent / "study" / "study.yaml"


# the study file


@pytest.mark.parametrize(
    ("old", "new", "messages"),
    [
        (
            "prune.weights:",
            "prune.wieghts:",
            ("recipes.prune{ratio}.steps.0", "did you mean 'prune.weights'"),
        ),
        ("recipes:", "recipies:", ("recipies", "did you mean 'recipes'")),
        ("levels: 8", "level: 8", ("level", "did you mean 'levels'")),
        ("[0.5, 0.8]", "[30]", ("ratio", "got 30", "0.3")),
        ("contrast: [3]", "contrast: [7]", ("contrast", "got 7")),
        ("contrast: [3]", "kontrast: [3]", ("kontrast", "did you mean 'contrast'")),
        ("classes: 4", "classes: four", ("classes", "'four'")),
        ("robustness.mean_error", "robustness.mean", ("robustness.mean",)),
        ("study: tiny", "study: [", ("study.yaml:",)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_study_files(
    call: Call, study_file: Path, old: str, new: str, messages: tuple[str, ...]
) -> None:
    rewrite_study(study_file, STUDY.replace(old, new))
    for command in ("check", "run"):
        done = call(command, study_file)
        assert (done.code, done.out) == (2, "")
        assert done.err.startswith(f"{study_file}:")
        assert all(message in done.err for message in messages), done.err
        assert "Traceback" not in done.err


# data


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def rename_classes(file: Path) -> None:
    with np.load(file) as data:
        arrays = dict(data)
    np.savez(file, **arrays, classes=np.array(["a", "b", "c", "d", "e"]))


def pickled(file: Path) -> None:
    np.savez(file, images=np.array([{}], dtype=object), target=np.zeros(1, dtype=np.int64))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (Path.unlink, "there is no such file"),
        (cut, "must be a .npz file"),
        (lambda file: file.write_bytes(b""), "must be a .npz file"),
        (pickled, "no Python objects"),
        (lambda file: np.savez(file, images=np.zeros((4, 16, 16, 3), np.uint8)), "'target'"),
    ],
    ids=["missing", "truncated", "empty", "pickled", "no-labels"],
)
def test_broken_data_files(
    call: Call, study_file: Path, spoil: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    spoil(study_file.parent / "test.npz")
    for arguments in (("plan",), ("run", "--out", tmp_path / "run"), ("check", "--load")):
        done = call(arguments[0], study_file, *arguments[1:])
        assert done.code == 2
        assert "test.npz" in done.err
        assert message in done.err
        assert "Traceback" not in done.err


def test_class_count_that_disagrees(call: Call, study_file: Path) -> None:
    for name in ("train.npz", "test.npz"):
        rename_classes(study_file.parent / name)
    done = call("check", study_file, "--load")
    assert done.code == 2
    assert "net: the model has 4 classes but arrays:test.npz has 5" in done.err


# models


def checkpoint_study(study_file: Path, name: str) -> Path:
    """Let the tiny study take its model from a file beside it; return that file."""
    rewrite_study(study_file, CHECKPOINT.replace("FILE", name))
    return study_file.parent / name


def save_weights(file: Path, *, drop: str = "", classes: int = 4) -> None:
    from safetensors.torch import save_file

    from shrinkproof import ModelSpec, Preprocess, load_model

    spec = ModelSpec(use="cifar:resnet8w8", classes=classes, preprocess=Preprocess())
    state = load_model(spec, {}).module.state_dict()
    save_file({name: value for name, value in state.items() if name != drop}, file)


def whole_module(file: Path) -> None:
    import torch

    torch.save(torch.nn.Linear(2, 2), file)


def test_a_missing_checkpoint(call: Call, study_file: Path, tmp_path: Path) -> None:
    checkpoint_study(study_file, "absent.safetensors")
    for arguments in (("plan",), ("run", "--out", tmp_path / "run"), ("check", "--load")):
        done = call(arguments[0], study_file, *arguments[1:])
        assert done.code == 2
        assert "absent.safetensors" in done.err
        assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("name", "spoil", "messages"),
    [
        ("net.safetensors", lambda f: save_weights(f, drop="fc.bias"), ("fc.bias",)),
        ("net.safetensors", lambda f: save_weights(f, classes=10), ("fc.weight", "10", "4")),
        ("net.safetensors", lambda f: (save_weights(f), cut(f)), ("net.safetensors",)),
        ("net.safetensors", lambda f: f.write_bytes(b"\xff" * 100), ("net.safetensors",)),
        ("net.pt", whole_module, ("net.pt", "state_dict")),
        ("net.pt", lambda f: f.write_bytes(pickle.dumps({"a": Path}, 2)), ("net.pt", "Path")),
        ("net.pt", lambda f: f.write_bytes(pickle.dumps({"a": Path}, 4)), ("Unsupported",)),
    ],
    ids=[
        "lacks-a-layer",
        "other-shape",
        "truncated",
        "garbage",
        "whole-module",
        "foreign",
        "dialect",
    ],
)
def test_checkpoints_that_do_not_fit(
    call: Call,
    study_file: Path,
    tmp_path: Path,
    name: str,
    spoil: Callable[[Path], object],
    messages: tuple[str, ...],
) -> None:
    spoil(checkpoint_study(study_file, name))
    done = call("check", study_file, "--load")
    assert done.code == 2
    assert all(message in done.err for message in messages), done.err
    assert "Traceback" not in done.err
    done = call("run", study_file, "--out", tmp_path / "run", "--engine", "inline")
    assert done.code == 1, "the run is finished, and every candidate has failed"
    assert all(message in done.out for message in messages), done.out
    assert all(c["type"] == "ModelError" for c in Results.load(tmp_path / "run").failures)


# disks


def test_a_directory_below_a_file(call: Call, study_file: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    done = call("run", study_file, "--out", tmp_path / "file" / "run")
    assert (done.code, done.out) == (2, "")
    assert "a file stands where a directory must be; choose another directory" in done.err


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (errno.EROFS, "read-only disk; choose another directory"),
        (errno.EACCES, "it may not be written"),
        (errno.EDQUOT, "the disk quota is used up"),
    ],
    ids=["read-only", "no-permission", "quota"],
)
def test_a_directory_that_refuses(
    call: Call,
    study_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    message: str,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    done = call("run", study_file, "--out", tmp_path / "run")
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert str(tmp_path / "run") in done.err


@pytest.mark.slow
def test_a_report_on_a_read_only_disk_can_go_elsewhere(
    call: Call, run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "fsync", refuse)
    (run_copy / "summary.jsonl").unlink(missing_ok=True)
    assert call("results", run_copy).code == 0
    done = call("report", run_copy)
    assert done.code == 2
    assert "read-only disk" in done.err


@pytest.mark.slow
@pytest.mark.parametrize(
    "writes", [3, *(pytest.param(n, marks=pytest.mark.long) for n in (13, 16, 60)), 30]
)
def test_a_full_disk_loses_nothing(
    call: Call,
    finished_study: Path,
    finished_run: Path,
    half_run: Path,
    monkeypatch: pytest.MonkeyPatch,
    writes: int,
) -> None:
    real, left = os.fsync, [writes]

    def fill(handle: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    kept = {p.name: p.read_bytes() for p in (half_run / "cells").iterdir()}
    run = ("run", finished_study, "--out", half_run, "--engine", "inline")
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", fill)
        done = call(*run)
    assert done.code == 2
    assert "the disk is full; free some space" in done.err
    assert "What is finished is kept: run the same command again." in done.err
    assert "Traceback" not in done.err
    now = {p.name: p.read_bytes() for p in (half_run / "cells").iterdir()}
    assert kept.items() <= now.items()
    assert not list(half_run.rglob(".tmp-*"))
    assert call(*run).code == 0
    assert comparable(half_run) == comparable(finished_run)


DISK = """
set -e
mount -t tmpfs -o size={small}k tmpfs "$1"
run="$3 -m shrinkproof run $2 --out $1/run --engine inline"
set +e
$run; echo "code $?"
set -e
ls "$1/run/cells" > "$4/kept"
mount -o remount,size=64m "$1"
$run
cp -r "$1/run" "$4/run"
"""


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("small", [120, 400])
def test_a_disk_that_is_really_full(
    finished_study: Path, finished_run: Path, tmp_path: Path, small: int
) -> None:
    private = ["unshare", "--user", "--map-root-user", "--mount"]
    if not shutil.which("unshare") or subprocess.run([*private, "true"], check=False).returncode:
        pytest.skip("needs the right to mount a small disk of its own")
    (tmp_path / "disk").mkdir()
    places = (tmp_path / "disk", finished_study, sys.executable, tmp_path)
    done = subprocess.run(
        [*private, "sh", "-c", DISK.format(small=small), "sh", *places],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "the disk is full" in done.stderr
    assert "Traceback" not in done.stderr
    assert "code 1" in done.stdout or "code 2" in done.stdout
    kept = [name for name in (tmp_path / "kept").read_text().split() if name.endswith(".jsonl")]
    assert all((tmp_path / "run" / "cells" / name).is_file() for name in kept)
    assert comparable(tmp_path / "run") == comparable(finished_run)
