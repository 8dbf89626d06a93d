"""Every registered class, as soon as it has a name."""

import pytest

from shrinkproof.attributions import ATTRIBUTIONS, BOX_ATTRIBUTIONS
from shrinkproof.compressors import COMPRESSORS
from shrinkproof.compressors.criteria import CHANNEL_CRITERIA, CRITERIA
from shrinkproof.compressors.finetune import FineTuning
from shrinkproof.corruptions import CORRUPTIONS
from shrinkproof.data import DATA
from shrinkproof.engines import ENGINES
from shrinkproof.evaluators import EVALUATORS
from shrinkproof.metrics import METRICS
from shrinkproof.models import MODELS
from shrinkproof.testing import (
    check_attribution,
    check_channel_criterion,
    check_compressor,
    check_corruption,
    check_criterion,
    check_engine,
    check_evaluator,
    check_metric,
)
from shrinkproof.training.settings import Training

SETTINGS = {
    "finetune.until": {"training": FineTuning(epochs=2, batch=16), "epoch": 1},
    "integrated_gradients": {"steps": 4},
    "latency": {"repeats": 20, "warmup": 1},
    "processes": {"workers": 2},
    "prune.channels": {"ratio": 0.5, "round_to": 1},
    "quantize.qat": {"finetune": Training(epochs=1, batch=16)},
    "rise": {"masks": 40},
    "saliency": {"method": "occlusion", "replicates": 100},
    "scores": {"metrics": ("accuracy.top1", "calibration.ece"), "replicates": 100},
}
"""Where the guessed settings do not do: required text, or work that would take long."""

REGISTRIES = (
    *(ATTRIBUTIONS, BOX_ATTRIBUTIONS, CHANNEL_CRITERIA, COMPRESSORS, CORRUPTIONS, CRITERIA),
    *(DATA, ENGINES, EVALUATORS, METRICS, MODELS),
)


@pytest.mark.parametrize("name", ATTRIBUTIONS.builtin)
def test_attribution(name):
    check_attribution(ATTRIBUTIONS.get(name), **SETTINGS.get(name, {}))


@pytest.mark.parametrize("name", COMPRESSORS.builtin)
def test_compressor(name):
    check_compressor(COMPRESSORS.get(name), **SETTINGS.get(name, {}))


@pytest.mark.parametrize("name", CRITERIA.builtin)
def test_criterion(name):
    check_criterion(CRITERIA.get(name))


@pytest.mark.parametrize("name", CHANNEL_CRITERIA.builtin)
def test_channel_criterion(name):
    check_channel_criterion(CHANNEL_CRITERIA.get(name))


@pytest.mark.parametrize("name", CORRUPTIONS.builtin)
def test_corruption(name):
    check_corruption(CORRUPTIONS.get(name))


@pytest.mark.parametrize("name", METRICS.builtin)
def test_metric(name):
    check_metric(METRICS.get(name))


@pytest.mark.parametrize("name", EVALUATORS.builtin)
def test_evaluator(name):
    check_evaluator(EVALUATORS.get(name), **SETTINGS.get(name, {}))


# The engine `ray` has tests/engines/test_ray.py.
@pytest.mark.parametrize("name", sorted(set(ENGINES.builtin) - {"ray"}))
def test_engine(name):
    check_engine(ENGINES.get(name), **SETTINGS.get(name, {}))


@pytest.mark.parametrize(
    ("registry", "name"),
    [(registry, name) for registry in REGISTRIES for name in registry.builtin],
    ids=lambda value: value if isinstance(value, str) else value.kind,
)
def test_every_name_leads_to_the_class_that_carries_it(registry, name):
    assert registry.get(name).name == name
    row = registry.describe(name)
    assert row["origin"] == "shrinkproof"
    assert 0 < len(row["summary"]) <= 80


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.kind)
def test_groups_are_named_after_their_folder(registry):
    assert registry.group.startswith("shrinkproof.")
