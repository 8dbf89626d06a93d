"""Workers with a GPU each: told by the environment, before anything is imported."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import pytest

from shrinkproof.cli.study import engine_of
from shrinkproof.engines import devices
from shrinkproof.engines.devices import visible_gpus
from shrinkproof.engines.inline import Inline
from shrinkproof.engines.processes import Processes
from shrinkproof.engines.ray import Ray


def test_each_worker_sees_one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    work: Any = importlib.import_module("engine_work")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5")
    engine = Processes(devices=("3", "GPU-5"))
    assert engine.beside == 2
    found = {seen for _, seen in engine.map(work.device_of, range(6))}
    assert {device for _, device in found} == {"3", "GPU-5"}
    assert len({worker for worker, _ in found}) == 2
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3,GPU-5"


@pytest.mark.parametrize(
    ("told", "wanted"),
    [("0,1", ("0", "1")), (" 2 ", ("2",)), ("", ()), ("-1", ()), ("1,-1,0", ("1",))],
)
def test_devices_are_those_that_the_variable_names(
    monkeypatch: pytest.MonkeyPatch, told: str, wanted: tuple[str, ...]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", told)
    assert visible_gpus() == wanted


def test_without_the_variable_devices_are_those_of_the_driver(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(devices, "capture", lambda: {"gpus": [{}, {}, {}]})
    assert visible_gpus() == ("0", "1", "2")


def test_a_study_on_gpus_gets_a_worker_per_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    three = ("0", "1", "2")
    assert engine_of("auto", None, 1, "cuda") == Processes(workers=3, devices=three)
    assert engine_of("processes", 6, 1, "cuda") == Processes(workers=6, devices=three)
    assert engine_of("processes", 2, 1, "cpu") == Processes(workers=2)
    assert engine_of("ray", None, 4, "cuda") == Ray(cpus=4, gpus=1.0)
    assert engine_of("ray", 8, 2, "cpu") == Ray(workers=8, cpus=2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert engine_of("auto", None, 1, "cuda") == Inline()
