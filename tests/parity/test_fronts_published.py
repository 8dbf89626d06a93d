"""Fronts of da Silva et al. 2025, arXiv:2512.24971, and what pooling relative numbers hides."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from shrinkproof.decision.choice import Objective
from shrinkproof.foreign import import_results
from shrinkproof.protocols import Better
from shrinkproof.results import Results
from shrinkproof.results.fronts import fronts_of
from shrinkproof.selectors import Selector

PUBLISHED = (
    Path(
        os.environ.get("SHRINKPROOF_DEV_DATA")
        or Path(__file__).resolve().parents[2] / "../shared/data"
    )
    / "published"
)
TABLES = [PUBLISHED / f"dasilva2025_cifar10_{name}.csv" for name in ("conditions", "summary")]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(path.is_file() for path in TABLES), reason="the published tables are not here"
    ),
]

MCE, RATIO, TOP1 = "robustness.mce", "cost.compression_ratio_zip", "accuracy.top1@clean"


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return import_results(TABLES, tmp_path_factory.mktemp("published") / "run")


@pytest.fixture(scope="module")
def published() -> set[str]:
    with TABLES[1].open(newline="") as file:
        return {
            f"cifar10-{row['model']}/{row['variant']}"
            for row in csv.DictReader(file)
            if row["on_published_pareto_front"] == "1"
        }


def fronts(results: Results, **better: str):
    """Return the fronts of other objectives: selector -> direction."""
    return fronts_of(
        results,
        [Objective(Selector.parse(name), Better(way)) for name, way in better.items()],
    )


def test_the_front_across_networks_is_the_published_one(imported, published):
    *_, absolute, _ = imported.fronts
    assert (absolute.across, absolute.basis) == (True, "absolute")
    assert set(absolute.members) == published
    assert set(absolute.members) == set(imported.decision.front)
    assert len(absolute.values) == 48


def test_the_published_front_is_not_absolute_and_says_so(imported):
    *own, absolute, _ = imported.fronts
    relations = {a.selector: a.relation for a in absolute.objectives}
    assert relations == {MCE: "relative by nature", RATIO: "relative by nature", TOP1: "absolute"}
    assert f"{MCE} is relative to each network's own baseline by nature" in absolute.notes[0]
    assert [front.model for front in own] == [
        f"cifar10-{name}" for name in ("resnet50", "vgg19", "mobilenet_v2")
    ]


def test_absolute_corruption_error_adds_two_candidates(imported, published):
    *_, absolute, _ = fronts(
        imported, **{"robustness.mean_error": "lower", RATIO: "higher", TOP1: "higher"}
    )
    added = {f"cifar10-resnet50/{name}" for name in ("p50", "pcqat")}
    assert set(absolute.members) == published | added


def test_absolute_bytes_bring_the_smallest_network_in(imported, published):
    *_, absolute, relative = fronts(
        imported, **{"robustness.mean_error": "lower", "cost.bytes_zip": "lower", TOP1: "higher"}
    )
    smallest = {name for name in absolute.members if "mobilenet_v2" in name}
    assert len(smallest) == 6
    assert not any("mobilenet_v2" in name for name in (*published, *relative.members))
    assert {a.relation for a in relative.objectives} == {"ratio", "difference"}
    assert any("hide how good the baselines are" in note for note in relative.notes)


def test_every_network_has_a_front_of_its_own(imported):
    own = imported.fronts[:3]
    assert all(len(front.values) == 16 for front in own)
    for front in own:
        assert set(front.why) == set(front.values) - set(front.members)
        assert 0 < front.hypervolume <= 1
