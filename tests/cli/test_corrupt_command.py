"""The command that writes corrupted sets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .conftest import Call

PAIR = ("--corruption", "gaussian_noise", "--corruption", "contrast")


@pytest.fixture
def arrays(tmp_path: Path) -> str:
    images = np.random.default_rng(0).integers(0, 256, (9, 16, 16, 3), dtype=np.uint8)
    np.savez(tmp_path / "clean.npz", images=images, target=np.arange(9) % 3)
    return f"arrays:{tmp_path / 'clean.npz'}"


@pytest.fixture
def folder(tmp_path: Path) -> str:
    for name in ("cat/1.png", "dog/1.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True)
        Image.fromarray(np.full((16, 20, 3), 90, np.uint8)).save(path)
    return f"imagefolder:{tmp_path / 'photos'}"


def test_arrays(call: Call, arrays: str, tmp_path: Path) -> None:
    out = tmp_path / "set"
    done = call("corrupt", arrays, "-o", out, "--preset", "cifar", *PAIR, "--workers", "1")
    assert (done.code, done.err.count("\n")) == (0, 11), done.err  # ten units and the total
    assert done.lines[0] == f"{out}: 3 file(s) or folder(s) complete, see manifest.json"
    assert done.lines[1].startswith("note: no seed is known")
    assert done.lines[2].startswith("note: corruption preset 'cifar' was made for 32 x 32")
    assert done.lines[3:] == [f"read it with: stored: cifar-c:{out}"]
    assert np.load(out / "contrast.npy").shape == (45, 16, 16, 3)
    again = call("corrupt", arrays, "-o", out, "--preset", "cifar", *PAIR)
    assert (again.code, again.out, again.err) == (0, done.out, "")


def test_folders(call: Call, folder: str, tmp_path: Path) -> None:
    out = tmp_path / "set"
    settings = ("--preset", "imagenet", "--corruption", "contrast", "--workers", "1")
    done = call("corrupt", folder, "-o", out, *settings, "--severity", "2,4-5")
    assert done.code == 0, done.err
    assert done.lines[-1] == f"read it with: stored: imagenet-c:{out}"
    found = sorted(p.relative_to(out).as_posix() for p in out.rglob("*.JPEG"))
    assert found == [f"contrast/{s}/{label}/1.JPEG" for s in (2, 4, 5) for label in ("cat", "dog")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--severity", "1-4"), "severities must be 1 to 5, since the arrays of cifar-c"),
        (("--severity", "x"), "--severity: must be such as 1-5 or 1,3,5, got 'x'"),
        (("--severity", ""), "--severity: must be such as 1-5 or 1,3,5, got ''"),
        (("--severity", "1-9"), "severities must be of 1 to 5"),
        (("--corruption", "fogg"), "did you mean 'fog'"),
        (("--preset", "cifar100"), "did you mean 'cifar'"),
        (("--preset", ""), "choose a preset: cifar, tiny, imagenet"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_use(
    call: Call, arrays: str, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    settings = ("--preset", "cifar", "--corruption", "contrast", "--workers", "1")
    done = call("corrupt", arrays, "-o", tmp_path / "set", *settings, *options)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert not (tmp_path / "set").exists()


def test_another_seed_is_refused(call: Call, arrays: str, tmp_path: Path) -> None:
    settings = ("corrupt", arrays, "-o", tmp_path / "set", "--preset", "cifar", *PAIR)
    assert call(*settings, "--workers", "1").code == 0
    done = call(*settings, "--seed", "1")
    assert done.code == 2
    assert "holds a set with seed 0, this command asks for 1; choose another DIR" in done.err


def test_a_failure_is_told_by_the_exit_code(
    call: Call, arrays: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shrinkproof.stored import work

    def broken(*arguments: object, **settings: object) -> None:
        raise ValueError("the lamp is broken")

    monkeypatch.setattr(work, "corrupt_batch", broken)
    settings = ("--preset", "cifar", "--corruption", "contrast", "--workers", "1")
    done = call("corrupt", arrays, "-o", tmp_path / "set", *settings)
    assert done.code == 1
    assert "failed contrast:1: ValueError: the lamp is broken" in done.lines
    assert not any(line.startswith("read it with") for line in done.lines)


def start(arrays: str, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "shrinkproof", "corrupt", arrays, "-o", str(out)]
    command += ["--preset", "cifar", *PAIR, "--corruption", "fog", "--workers", "2"]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )


def finish(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    _, error = process.communicate(timeout=120)
    return process.returncode, error.decode()


def content(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.mark.slow
def test_a_killed_command_goes_on_where_it_was(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (8_000, 32, 32, 3), dtype=np.uint8)
    np.savez(tmp_path / "clean.npz", images=images, target=np.arange(8_000) % 3)
    arrays = f"arrays:{tmp_path / 'clean.npz'}"
    begin = time.monotonic()
    assert finish(start(arrays, tmp_path / "calm"))[0] == 0
    calm, whole = content(tmp_path / "calm"), time.monotonic() - begin
    out = tmp_path / "set"
    rng = np.random.default_rng()
    for how in (signal.SIGKILL, signal.SIGINT, signal.SIGKILL, signal.SIGKILL):
        process = start(arrays, out)
        moment = rng.uniform(0.1, 0.8) * whole
        time.sleep(moment)
        os.killpg(process.pid, how) if how == signal.SIGINT else process.send_signal(how)
        code, error = finish(process)
        assert code in (-signal.SIGKILL, 130, 0), (moment, code, error)
        if code == 130:
            assert "what is finished is kept" in error
        visible = content_of_arrays(out)
        assert visible == {name: calm[name] for name in visible}, moment
    assert finish(start(arrays, out))[0] == 0
    assert sorted(p.name for p in out.iterdir()) == sorted(calm)
    assert content(out) == calm


def content_of_arrays(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.glob("[!.]*.npy")}


def test_the_manifest_is_plain_json(call: Call, arrays: str, tmp_path: Path) -> None:
    call("corrupt", arrays, "-o", tmp_path / "set", "--preset", "cifar", *PAIR, "--workers", "1")
    manifest = json.loads((tmp_path / "set/manifest.json").read_text())
    assert manifest["format"] == "cifar-c"
    assert str(tmp_path) not in json.dumps({**manifest, "source": {}})
