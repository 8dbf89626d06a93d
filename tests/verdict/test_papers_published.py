"""Claims of da Silva et al. 2025, asked of their own tables: facts that everybody can look up."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import pytest

from shrinkproof.foreign import import_results
from shrinkproof.results import Results
from shrinkproof.verdict import papers
from shrinkproof.verdict.judging import judge
from shrinkproof.verdict.outcomes import Outcome
from shrinkproof.verdict.papers import PAPERS
from shrinkproof.verdict.papers.tables import TABLE

HOLDS, FAILS = "holds in the published numbers", "fails in the published numbers"
NETWORKS = [
    f"{data}-{network}"
    for data in ("cifar10", "cifar100")
    for network in ("resnet50", "vgg19", "mobilenet_v2")
]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("published")
    return import_results([Path(str(files(papers) / TABLE))], folder / "run")


@pytest.fixture(scope="module")
def outcomes(published) -> Sequence[Outcome]:
    return judge(PAPERS["dasilva2025"], [published])


def verdicts(outcomes: Sequence[Outcome], claim: str) -> dict[str, str]:
    return {o.network: o.verdict for o in outcomes if o.claim == claim and not o.is_control}


def test_every_claim_has_a_verdict_and_none_is_a_reproduction(outcomes):
    names = [claim.name for claim in PAPERS["dasilva2025"].claims]
    assert list(dict.fromkeys(o.claim for o in outcomes)) == names
    assert {o.verdict for o in outcomes if not o.is_control} == {HOLDS, FAILS}
    assert "reproduced" not in {o.verdict for o in outcomes}


@pytest.mark.parametrize("claim", ["C1", "C2", "C3"])
def test_all_numbers_are_the_published_ones(outcomes, claim):
    assert verdicts(outcomes, claim) == dict.fromkeys(NETWORKS, HOLDS)
    mine = [o for o in outcomes if o.claim == claim]
    assert [(o.value, o.published) for o in mine] == [(16, 16)] * len(NETWORKS)


@pytest.mark.parametrize("claim", ["C4", "C5", "C6", "C7"])
def test_clustering_is_never_below_the_original(outcomes, claim):
    assert verdicts(outcomes, claim) == dict.fromkeys(NETWORKS, HOLDS)


def test_the_loss_of_clustering_is_the_one_in_the_table(outcomes):
    worst = min(
        (o for o in outcomes if o.claim == "C4" and not o.is_control), key=lambda o: o.value
    )
    assert worst.network == "cifar100-resnet50"
    assert worst.value == pytest.approx(0.7585 - 0.7606)


def test_the_most_complex_network_gains_most_on_either_data_set(outcomes):
    found = [o for o in outcomes if o.claim == "C8" and not o.is_control]
    assert {o.verdict for o in found} == {HOLDS}
    of_resnet, of_mobilenet = 0.2998 - 0.3661, 0.3671 - 0.3841
    assert found[0].value == pytest.approx(of_resnet - of_mobilenet)


def test_fronts_are_the_published_ones_and_change_with_absolute_numbers(outcomes):
    found = [o for o in outcomes if o.claim == "C9"]
    relative = [(o.value, o.published) for o in found if not o.is_control]
    assert relative == [(5, 5), (9, 9)]
    assert set(verdicts(outcomes, "C9").values()) == {HOLDS}
    assert {o.verdict for o in found if o.is_control} == {FAILS}


def test_only_files_of_quantization_aware_training_alone_collapse(outcomes):
    assert verdicts(outcomes, "C10") == dict.fromkeys(NETWORKS, HOLDS)
    controls = [o for o in outcomes if o.claim == "C10" and o.is_control]
    assert len(controls) == 3 * len(NETWORKS)
    assert {o.verdict for o in controls} == {FAILS}


def test_integers_after_training_raise_the_error_in_five_of_six_cases(outcomes):
    found = verdicts(outcomes, "C11")
    assert [network for network, verdict in found.items() if verdict == FAILS] == [
        "cifar10-resnet50"
    ]


def test_31_of_45_variants_are_counted_on_either_data_set(outcomes):
    found = [o for o in outcomes if o.claim == "C12"]
    assert [(o.value, o.published, o.verdict) for o in found] == [(31, 31, HOLDS)] * 2
