"""Methods are told by steps, in the form whose numbers they are about."""

from __future__ import annotations

from pathlib import Path

import pytest

from shrinkproof.records import Json
from shrinkproof.verdict.methods import METHODS, Treatment, treatments_of

from .made_runs import TUNE, Made, baseline, channels, prune, run_of, step

FOLD, CLUSTER = step("fold"), step("cluster", levels=16)
INT8, QAT = step("quantize.static"), step("quantize.qat")


def of(path: Path, *steps: Json, **spec: object) -> dict[str, Treatment]:
    """The treatments of one recipe, by form."""
    run = run_of(path, {"net": [baseline(), Made("r", 300, steps)]}, **spec)
    return {t.form: t for t in treatments_of(run, "net")}


@pytest.mark.parametrize(
    ("steps", "methods"),
    [
        (prune(0.5), {"weights", "prune", "pruning"}),
        (channels(0.5), {"filters", "structured", "pruning"}),
        (channels(0.5, "bn_scale"), {"slimming", "structured", "pruning"}),
        (channels(0.5, "hrank"), {"hrank", "structured", "pruning"}),
        (channels(0.5, "random"), {"structured", "pruning"}),
        ((*prune(0.5), INT8), {"prune+int8"}),
        ((FOLD, CLUSTER, TUNE), {"cluster"}),
        ((FOLD, CLUSTER, TUNE, INT8), {"cluster+int8"}),
        ((*prune(0.5), FOLD, CLUSTER, TUNE), {"prune+cluster"}),
        ((*prune(0.5), FOLD, CLUSTER, TUNE, INT8), {"prune+cluster+int8"}),
        ((INT8,), {"int8"}),
        ((*channels(0.5), INT8), set()),
        ((*prune(0.5), step("of.a.plugin")), set()),
    ],
)
def test_steps_tell_the_method(tmp_path: Path, steps: tuple[Json, ...], methods: set[str]) -> None:
    (found,) = of(tmp_path, *steps).values()
    assert found.methods == {"any", *methods}
    assert found.form == "artifact"
    assert found.methods <= set(METHODS)


@pytest.mark.parametrize(
    ("steps", "name"),
    [
        ((QAT,), "qat"),
        ((*prune(0.5), QAT), "pqat"),
        ((FOLD, CLUSTER, TUNE, QAT), "cqat"),
        ((*prune(0.5), FOLD, CLUSTER, TUNE, QAT), "pcqat"),
    ],
)
def test_quantization_aware_training_has_a_file_and_a_twin(
    tmp_path: Path, steps: tuple[Json, ...], name: str
) -> None:
    found = of(tmp_path, *steps)
    assert found["artifact"].methods == {"any", f"{name}+int8"}
    assert found["twin"].methods == {name}


def test_where_twins_are_measured_they_are_the_candidates(tmp_path: Path) -> None:
    found = of(tmp_path, QAT, measure={"form": "twin", "scores": ["accuracy.top1"]})
    assert found["twin"].methods == {"any", "qat"}
    assert found["artifact"].methods == {"qat+int8"}


def test_levels_are_nominal_ratios(tmp_path: Path) -> None:
    assert of(tmp_path / "a", *prune(0.3))["artifact"].level == 0.3
    assert of(tmp_path / "b", INT8)["artifact"].level == 0.0
    by_target = step("prune.channels", ratio=None, criterion="l1")
    found = of(tmp_path / "c", by_target)["artifact"]
    assert found.level is None
    assert found.is_of("filters", (0.0, 1.0))
    assert not found.is_of("filters", (0.0, 0.5))


@pytest.mark.parametrize(
    ("recipe", "methods", "level"),
    [
        ("p50", {"prune", "weights", "pruning"}, 0.5),
        ("p50+int8", {"prune+int8"}, 0.5),
        ("c16", {"cluster"}, 0.0),
        ("p50+c16", {"prune+cluster"}, 0.5),
        ("p50+c16+int8", {"prune+cluster+int8"}, 0.5),
        ("int8", {"int8"}, 0.0),
        ("qat", {"qat"}, 0.0),
        ("qat+int8", {"qat+int8"}, 0.0),
        ("pqat", {"pqat"}, 0.5),
        ("pcqat+int8", {"pcqat+int8"}, 0.5),
    ],
)
def test_published_candidates_are_told_by_their_names(
    tmp_path: Path, recipe: str, methods: set[str], level: float
) -> None:
    members = {"net": [baseline(), Made(recipe, 300)]}
    run = run_of(tmp_path, members, uses={"net": "foreign:table.csv"})
    (found,) = treatments_of(run, "net")
    assert (found.methods, found.level) == ({"any", *methods}, level)
