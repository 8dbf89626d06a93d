"""Does a network err as often on our images as on those of the original generator?"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from shrinkproof.records import Condition

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("SHRINKPROOF_DEV_DATA") or ROOT / "../shared/data")
SCRIPT = ROOT / "benchmarks" / "published_errors.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("published_errors", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["published_errors"] = module
    spec.loader.exec_module(module)
    return module


def compared(script, name, shifts, count=2000):
    return [
        script.Comparison(Condition(name, 1 + i % 5), 0.3 + shift, 0.3, count)
        for i, shift in enumerate(shifts)
    ]


def test_a_difference_is_judged_by_the_variance_of_two_proportions(script) -> None:
    # Two proportions of 0.3 and 0.34 from 2,000 images: sqrt((.21 + .2244) / 2000) = .014737.
    one = script.Comparison(Condition("fog", 1), 0.34, 0.3, 2000)
    assert one.sigmas == pytest.approx(0.04 / 0.014737, rel=1e-4)
    assert one.outside
    assert not script.Comparison(Condition("fog", 1), 0.32, 0.3, 2000).outside


def test_chance_is_allowed_and_gross_deviations_are_named(script) -> None:
    rng = np.random.default_rng(0)
    noise = np.clip(rng.normal(0, 0.0145, 55), -0.035, 0.035)
    assert script.disagreements(compared(script, "fog", noise - noise.mean())) == []
    (told,) = script.disagreements(compared(script, "fog", [0.0, 0.07, -0.03, 0.01]))
    assert told == "fog:2: error 0.3700, theirs 0.3000"


def test_many_small_deviations_are_found(script) -> None:
    (told,) = script.disagreements(compared(script, "fog", [0.009] * 55))
    assert "together are +4.6 standard deviations off" in told
    told = script.disagreements(compared(script, "fog", [0.035, -0.035] * 10))
    assert "20 outside their interval, chance gives 5" in told[0]


def test_without_randomness_the_errors_must_be_the_same(script) -> None:
    assert script.disagreements(compared(script, "contrast", [0.001, -0.001])) == []
    assert len(script.disagreements(compared(script, "contrast", [0.0015, -0.002]))) == 2


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.skipif(
    not (DATA / "reference_cifar_c").is_dir(),
    reason=f"development data are absent: no outputs of the original generator in {DATA}",
)
def test_resnet20_errs_as_on_the_original_images(script) -> None:
    first, last = script.IMAGES
    images, labels = script.cifar10(DATA, first, last)
    predict = script.network(DATA / "checkpoints" / "cifar10_resnet20.safetensors", "resnet20")
    theirs = script.published_errors(DATA)
    found = script.errors(predict, images, labels, np.arange(first, last), photos=DATA / "frost")
    results = [script.Comparison(c, error, theirs[c], last - first) for c, error in found]
    assert len(results) == 95
    assert script.disagreements(results) == []
