"""Turns, fresh processes and their memory."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from shrinkproof.artifacts.export import export_onnx
from shrinkproof.artifacts.footprint import Load, can_measure, measure_footprints
from shrinkproof.artifacts.fresh import run_fresh
from shrinkproof.artifacts.stopwatch import Race, run_race, take_turns
from shrinkproof.errors import ModelError
from shrinkproof.randomness import stream
from shrinkproof.records import Failure


class Clock:
    """Time that passes only while something runs."""

    def __init__(self, slowdown=0.0):
        self.now = 0.0
        self.slowdown = slowdown
        self.ran = []

    def __call__(self):
        return self.now

    def run(self, name, seconds):
        def run():
            self.ran.append(name)
            self.now += seconds * (1 + self.slowdown * len(self.ran))

        return run


@given(st.integers(1, 5), st.integers(1, 30))
def test_everybody_runs_once_per_round(count, repeats):
    clock = Clock()
    runs = {name: clock.run(name, 1 + name) for name in range(count)}
    seconds = take_turns(runs, repeats=repeats, order=stream("test"), clock=clock)
    assert seconds == {name: pytest.approx([1 + name] * repeats) for name in range(count)}
    for start in range(0, count * repeats, count):
        assert sorted(clock.ran[start : start + count]) == list(range(count))


def test_nobody_always_follows_the_same_one():
    clock = Clock()
    runs = {name: clock.run(name, 1) for name in "abc"}
    take_turns(runs, repeats=40, order=stream("test"), clock=clock)
    followers = set(zip(clock.ran, clock.ran[1:], strict=False))
    assert {(x, y) for x in "abc" for y in "abc" if x != y} <= followers


def test_a_machine_that_gets_slower_leaves_the_ratio_alone():
    clock = Clock(slowdown=0.01)  # four times slower in the end
    runs = {"own": clock.run("own", 1), "other": clock.run("other", 2)}
    seconds = take_turns(runs, repeats=150, order=stream("test"), clock=clock)
    assert seconds["own"][-1] > 3 * seconds["own"][0]
    ratio = np.median(seconds["own"]) / np.median(seconds["other"])
    assert ratio == pytest.approx(0.5, rel=0.02)


def test_a_fresh_process_gives_the_result_and_forgets_what_is_printed():
    assert run_fresh(eval, "print('noise') or 6 * 7") == 42
    assert run_fresh(os.getenv, "TEST_SHADE", variables={"TEST_SHADE": "blue"}) == "blue"


def test_a_fresh_process_imports_from_the_same_places(tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("def double(x): return 2 * x\n")
    monkeypatch.syspath_prepend(tmp_path)
    from only_here import double

    assert run_fresh(double, 4) == 8


def test_what_goes_wrong_in_a_fresh_process_is_told():
    with pytest.raises(ModelError, match=r"int: a fresh process .* ValueError: invalid literal"):
        run_fresh(int, "no number")
    with pytest.raises(ModelError, match="got exit code 7: it wrote nothing"):
        run_fresh(os._exit, 7)
    with pytest.raises(ModelError, match="got exit code -6"):
        run_fresh(eval, "__import__('os').abort()")


def note_and_sleep(path):
    path.write_text(str(os.getpid()))
    time.sleep(60)


@pytest.mark.skipif(sys.platform != "linux", reason="needs prctl(2)")
def test_a_fresh_process_does_not_outlive_its_caller(tmp_path):
    """A forgotten one would slow down what the next run times."""
    module = tmp_path / "sleeping.py"
    module.write_text(f"import os, time\n{inspect.getsource(note_and_sleep)}")
    call = (
        f"import sys, pathlib; sys.path.insert(0, {str(tmp_path)!r}); import sleeping; "
        "from shrinkproof.artifacts.fresh import run_fresh; "
        f"run_fresh(sleeping.note_and_sleep, pathlib.Path({str(tmp_path / 'pid')!r}))"
    )
    caller = subprocess.Popen([sys.executable, "-c", call])
    pid = tmp_path / "pid"
    while not (pid.is_file() and pid.read_text()):
        assert caller.poll() is None
        time.sleep(0.02)
    caller.kill()
    caller.wait()
    end = time.monotonic() + 10
    while is_running(int(pid.read_text())):
        assert time.monotonic() < end
        time.sleep(0.02)


def is_running(pid):
    """Whether a process is alive; one that waits to be buried is not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A small and a large exported network."""
    folder = tmp_path_factory.mktemp("files")
    torch.manual_seed(0)
    for name, width in (("small", 4), ("large", 1_000_000)):
        layers = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, width), nn.Linear(width, 2)
        model = nn.Sequential(*layers).eval()
        export_onnx(model, torch.zeros(1, 3, 8, 8), folder / f"{name}.onnx")
    return folder


def race_of(files, **others):
    settings = {
        "runtime": "onnxruntime",
        "sources": {0: files / "small.onnx", 1: files / "absent.onnx"},
        "input_shape": (3, 8, 8),
        "batches": (1, 2),
        "threads": 1,
        "repeats": 20,
        "warmup": 1,
    }
    return Race(**{**settings, **others})


def test_a_race_gives_every_time_or_the_reason(files):
    lap = run_fresh(run_race, race_of(files))
    assert lap.runtime.startswith("onnxruntime 1.")
    for batch in (1, 2):
        times, failure = lap.seconds[batch][0], lap.seconds[batch][1]
        assert len(times) == 20
        assert min(times) > 0
        assert isinstance(failure, Failure)
        assert "must be a file, got none" in failure.message


def test_a_network_that_refuses_a_batch_keeps_the_others(files):
    lap = run_fresh(run_race, race_of(files, input_shape=(5, 8, 8), batches=(1,)))
    assert "the runtime must accept inputs of shape (1, 5, 8, 8)" in lap.seconds[1][0].message


def test_files_are_timed_without_torch(files):
    program = (
        "import sys, pathlib\n"
        "from shrinkproof.artifacts.stopwatch import Race, run_race\n"
        f"file = pathlib.Path({str(files / 'small.onnx')!r})\n"
        "race = Race('onnxruntime', {0: file}, (3, 8, 8), (1,), 1, 20, 1)\n"
        "assert len(run_race(race).seconds[1][0]) == 20\n"
        "assert not {'torch', 'onnx', 'pydantic', 'scipy'} & set(sys.modules)\n"
        "import os\n"
        "assert os.environ['ORT_DISABLE_TELEMETRY'] == '1'"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)


@pytest.mark.skipif(not can_measure(), reason="the peak of a process is only told by Linux")
def test_memory_grows_with_the_network(files):
    names = ("small", "large", "absent", "small")
    load = Load(tuple(files / f"{name}.onnx" for name in names), (3, 8, 8), batch=2, threads=1)
    small, large, absent, again = run_fresh(measure_footprints, load)
    assert 0 < small.code <= small.peak < 100e6
    # 6 million weights of 4 bytes, which the runtime holds once or twice while it loads
    assert 20e6 < large.peak - small.peak < 150e6
    assert "must be a file, got none" in absent.message
    assert abs(again.peak - small.peak) < 4e6


@pytest.mark.skipif(not can_measure(), reason="the peak of a process is only told by Linux")
def test_memory_grows_with_the_batch(files):
    one, many = (
        run_fresh(measure_footprints, Load((files / "large.onnx",), (3, 8, 8), batch, 1))[0]
        for batch in (1, 8)
    )
    assert many.peak - one.peak > 7 * 4e6 / 2
