"""Latency: the numbers of hand-made laps, who takes turns with whom, and real files."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shrinkproof.artifacts.footprint import Footprint, Load
from shrinkproof.artifacts.stopwatch import Lap
from shrinkproof.errors import ModelError
from shrinkproof.evaluators import latency as module
from shrinkproof.evaluators.heats import REFERENCE, heats_of
from shrinkproof.evaluators.latency import Latency
from shrinkproof.evaluators.spread import over_processes
from shrinkproof.records import CLEAN, Failure

from .latency_subjects import SHAPE, subject_of, write_network

HEADLINE = ["cost.latency_median", "cost.latency_p95", "cost.latency_ratio"]


def measured(evaluator, subjects):
    return {
        subject.key: outcome if isinstance(outcome, Failure) else list(outcome)
        for subject, outcome in evaluator.measure(subjects, CLEAN)
    }


def by_name(measurements, where=""):
    return {m.metric: m for m in measurements if m.slice == where}


@pytest.fixture
def pair(tmp_path):
    """A baseline and a candidate, without files."""
    base, other = tmp_path / "base", tmp_path / "other"
    return [subject_of(base, base), subject_of(other, base)]


class Processes:
    """Stands for fresh processes: every inference takes what a table says."""

    def __init__(self, seconds, broken=(), deadly=()):
        self.seconds = seconds
        self.broken = broken
        self.deadly = deadly
        self.races = []

    def __call__(self, work, argument, *, variables=None):
        if isinstance(argument, Load):
            return [Footprint(5_000_000, 1_500_000) for _ in argument.paths]
        self.races.append(argument)
        names = {n: source.parent.name for n, source in argument.sources.items()}
        if set(names.values()) & set(self.deadly):
            raise ModelError("run_race: a fresh process must end with a result, got exit code -11")
        return Lap("onnxruntime 9", 2_500_000_000, self._laps(argument, names))

    def _laps(self, race, names):
        def seconds(name, batch):
            if (name, batch) in self.broken:
                return Failure("ExportError", f"{name} refuses batch {batch}")
            base = batch * self.seconds[name][race.process]
            return [base * (1 + i / 1000) for i in range(race.repeats)]

        return {b: {n: seconds(name, b) for n, name in names.items()} for b in race.batches}


@pytest.fixture
def processes(monkeypatch):
    def install(*args, **kwargs):
        fake = Processes(*args, **kwargs)
        monkeypatch.setattr(module, "run_fresh", fake)
        return fake

    return install


def test_numbers_are_medians_over_processes(processes, pair):
    processes({"base": [2, 2, 2, 2, 2], "other": [1, 1, 1.1, 1, 4]})
    found = by_name(measured(Latency(repeats=21), pair)["other"])
    # 21 inferences of 1.000, 1.001, ..., 1.020: the middle one is 1.010, the 19th of 0 to 20 1.019.
    assert found["cost.latency_median"].value == pytest.approx(1.01)
    assert found["cost.latency_p95"].value == pytest.approx(1.019)
    assert found["cost.latency_ratio"].value == pytest.approx(0.5)
    assert found["cost.memory_peak"].value == 5_000_000
    assert found["cost.memory_peak"].reason == "of this, 1.5 MB are code of the runtime"
    assert {found[name].count for name in HEADLINE} == {105}
    assert {found[name].basis for name in HEADLINE} == {"measured"}
    ratio = found["cost.latency_ratio"]
    assert ratio.low < 0.5 < ratio.high
    assert ratio.interval == "t-log-processes"


def test_the_record_says_how_it_was_timed(processes, pair, monkeypatch):
    cpu = {"model": "Some CPU", "governor": "powersave"}
    monkeypatch.setattr(module, "describe_cpu", lambda: cpu)
    processes({"base": [1] * 5, "other": [1] * 5})
    told = by_name(measured(Latency(), pair)["other"])["cost.latency_median"].reason
    assert told == (
        "batch 1, 1 thread, onnxruntime 9 on Some CPU at 2.5 GHz, governor powersave; "
        "5 processes of 40 inferences"
    )


def test_interval_by_hand():
    # ln 1, ln 2, ..., ln 16 have mean ln 4 and deviation ln 2 sqrt(2.5); t(4) is 2.776445.
    found = over_processes([1, 2, 4, 8, 16])
    half = 2.776445 * math.log(2) * math.sqrt(2.5) / math.sqrt(5)
    assert found.value == 4
    assert found.low == pytest.approx(4 * math.exp(-half), rel=1e-6)
    assert found.high == pytest.approx(4 * math.exp(half), rel=1e-6)


def test_four_processes_give_no_interval():
    found = over_processes([1, 2, 4, 8])
    assert (found.value, found.low, found.high, found.method) == (3, None, None, "")
    assert found.reason == "no interval: it needs 5 processes, got 4"


@given(st.lists(st.floats(1e-6, 1e3), min_size=5, max_size=12), st.floats(0.01, 100))
def test_intervals_hold_their_value_and_scale_with_it(values, factor):
    found, scaled = over_processes(values), over_processes([factor * v for v in values])
    assert found.low <= found.value <= found.high
    assert scaled.low == pytest.approx(factor * found.low, rel=1e-6)
    assert scaled.high == pytest.approx(factor * found.high, rel=1e-6)


def test_all_candidates_of_a_baseline_share_the_processes(processes, pair, tmp_path):
    third = subject_of(tmp_path / "third", tmp_path / "third")
    fake = processes({"base": [1] * 5, "other": [1] * 5, "third": [1] * 5})
    assert set(measured(Latency(), [*pair, third])) == {"base", "other", "third"}
    assert [(race.process, len(race.sources)) for race in fake.races] == [
        *((i, 3) for i in range(5)),  # the baseline, itself once more, and its candidate
        *((i, 2) for i in range(5)),
    ]


def test_candidates_that_do_not_fit_into_memory_take_turns_in_groups(tmp_path, monkeypatch):
    for name in "abc":
        write_network(tmp_path / name, 10)
    size = (tmp_path / "a" / "model.onnx").stat().st_size
    subjects = [subject_of(tmp_path / name, tmp_path / "a") for name in "abc"]
    monkeypatch.setattr("os.sysconf", lambda name: 1 if "SIZE" in name else 2.5 * 4 * 4 * size)
    heats, failed = heats_of(subjects)
    assert [[s.key for s in heat.subjects] for heat in heats] == [["a", "b"], ["c"]]
    assert failed == []


def test_first_combination_is_the_headline_and_the_others_are_slices(processes, pair):
    fake = processes({"base": [2] * 5, "other": [1] * 5})
    found = measured(Latency(batch=(4, 32), threads=(1, "all")), pair)["other"]
    assert [m.metric for m in found if not m.slice] == [*HEADLINE, "cost.memory_peak"]
    assert by_name(found)["cost.latency_median"].value == pytest.approx(4, rel=0.05)
    assert list(dict.fromkeys(m.slice for m in found if m.slice)) == [
        "batch 32, 1 thread, onnxruntime",
        "batch 4, all threads, onnxruntime",
        "batch 32, all threads, onnxruntime",
    ]
    wide = by_name(found, "batch 32, all threads, onnxruntime")
    assert wide["cost.latency_median"].value == pytest.approx(32, rel=0.05)
    assert wide["cost.latency_ratio"].value == pytest.approx(0.5)
    assert len(fake.races) == 10  # one process has both batches; threads need their own


def test_a_batch_that_fails_costs_only_itself(processes, pair):
    processes({"base": [2] * 5, "other": [1] * 5}, broken={("other", 32)})
    found = measured(Latency(batch=(1, 32)), pair)["other"]
    assert by_name(found)["cost.latency_ratio"].value == pytest.approx(0.5)
    other = by_name(found, "batch 32, 1 thread, onnxruntime")
    assert [other[name].value for name in HEADLINE] == [None] * 3
    assert {other[name].reason for name in HEADLINE} == {"other refuses batch 32"}


def test_a_file_that_kills_the_process_costs_the_others_nothing(processes, pair, tmp_path):
    bad = subject_of(tmp_path / "bad", tmp_path / "base")
    processes({"base": [2] * 5, "other": [1] * 5, "bad": [1] * 5}, deadly={"bad"})
    found = measured(Latency(), [*pair, bad])
    assert by_name(found["other"])["cost.latency_ratio"].value == pytest.approx(0.5)
    assert "exit code -11" in found["bad"].message


def test_a_baseline_that_fails_is_named(processes, pair):
    processes({"base": [2] * 5, "other": [1] * 5}, broken={("base", 1)})
    found = measured(Latency(), pair)
    assert found["other"].message == "the baseline cannot be timed: base refuses batch 1"


@pytest.mark.parametrize(
    ("others", "told"),
    [
        ({}, "nobody can load the PyTorch form"),
        ({"load_twin": str, "is_simulated": True}, "PyTorch only imitates the arithmetic"),
    ],
)
def test_an_imitation_is_never_timed(processes, pair, others, told):
    fake = processes({"base": [2] * 5, "other": [1] * 5})
    subjects = [pair[0], replace(pair[1], **others)]
    found = measured(Latency(runtimes=("onnxruntime", "pytorch")), subjects)["other"]
    other = by_name(found, "batch 1, 1 thread, pytorch")
    assert {m.value for m in other.values()} == {None}
    assert all(told in m.reason for m in other.values())
    assert {race.runtime for race in fake.races} == {"onnxruntime"}


def test_twins_of_the_baseline_and_of_what_is_no_imitation_take_turns(pair):
    first, second = (replace(s, load_twin=str) for s in pair)
    (heat,), _ = heats_of([first, replace(second, is_simulated=True)])
    assert heat.twins().keys() == {REFERENCE, 0}
    assert heat.twins()[0]() == str(first.folder)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"batch": 0}, "greater than or equal to 1"),
        ({"batch": (1, 1)}, "must not repeat a value, got [1, 1]"),
        ({"batch": ()}, "at least 1 item"),
        ({"threads": "some"}, "'all'"),
        ({"threads": ("all", "all")}, "must not repeat a value"),
        ({"runtimes": ("pytorch",)}, "must begin with onnxruntime"),
        ({"runtimes": ()}, "at least 1 item"),
        ({"repeats": 19}, "greater than or equal to 20"),
        ({"warmup": 0}, "greater than or equal to 1"),
        ({"processes": 0}, "greater than or equal to 1"),
    ],
)
def test_bad_settings_are_refused(settings, told):
    with pytest.raises(pydantic.ValidationError) as caught:
        Latency(**settings)
    assert told in str(caught.value)


def test_real_files_beside_a_broken_and_a_missing_one(tmp_path):
    base, wide, broken, missing = (tmp_path / n for n in ("base", "wide", "broken", "missing"))
    write_network(base)
    write_network(wide, 200_000)
    broken.mkdir()
    (broken / "model.onnx").write_bytes(b"not a network")
    subjects = [subject_of(folder, base) for folder in (base, wide, broken, missing)]
    found = measured(Latency(repeats=40, processes=2, batch=(1, 2)), subjects)
    own, other = by_name(found["base"]), by_name(found["wide"])
    assert 0.5 < own["cost.latency_ratio"].value < 2
    assert other["cost.latency_ratio"].value > 2
    assert own["cost.latency_p95"].value >= own["cost.latency_median"].value > 0
    assert "no interval: it needs 5 processes, got 2" in own["cost.latency_ratio"].reason
    # 1.4 million weights of 4 bytes
    more = other["cost.memory_peak"].value - own["cost.memory_peak"].value
    assert 5e6 < more < 40e6
    assert "must be able to load the file" in found["broken"].message
    assert "must be a file, got none" in found["missing"].message


def test_all_threads_share_one_pool(tmp_path):
    write_network(tmp_path / "base", 1000)
    subjects = [subject_of(tmp_path / "base", tmp_path / "base")]
    found = measured(Latency(repeats=20, processes=1, threads=2), subjects)["base"]
    assert all(np.isfinite(m.value) for m in found)
    assert "2 threads" in found[0].reason


LOADER = """
import torch

def load_toy(folder):
    layers = torch.nn.Conv2d(3, 4 if folder.name == "base" else 64, 3), torch.nn.Flatten()
    return torch.nn.Sequential(*layers).eval()
"""


@pytest.mark.slow
def test_pytorch_forms_are_timed_in_fresh_processes(tmp_path, monkeypatch):
    (tmp_path / "toy_twin_loader.py").write_text(LOADER)
    monkeypatch.syspath_prepend(tmp_path)
    from toy_twin_loader import load_toy

    for name in ("base", "other"):
        write_network(tmp_path / name)
    subjects = [
        subject_of(tmp_path / name, tmp_path / "base", load_twin=load_toy)
        for name in ("base", "other")
    ]
    evaluator = Latency(repeats=20, processes=1, runtimes=("onnxruntime", "pytorch"))
    found = measured(evaluator, subjects)
    own, other = (by_name(found[n], "batch 1, 1 thread, pytorch") for n in ("base", "other"))
    assert own["cost.latency_median"].value > 0
    assert "pytorch 2" in other["cost.latency_ratio"].reason
    assert math.isfinite(other["cost.latency_ratio"].value)


def test_shapes_are_those_of_the_facts(pair):
    heats, failed = heats_of([pair[0], replace(pair[1], facts={})])
    assert heats[0].input_shape == SHAPE
    assert [subject.key for subject, _ in failed] == ["other"]
