"""The studies of the three papers: their scales and the published networks."""

from __future__ import annotations

import dataclasses
import functools
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from shrinkproof.compressors.channels import ChannelPruning
from shrinkproof.compressors.layers import select_layers
from shrinkproof.compressors.weights import WeightPruning
from shrinkproof.engines.inline import Inline
from shrinkproof.models import MODELS
from shrinkproof.models.reference import load_model
from shrinkproof.protocols import Context
from shrinkproof.randomness import stream
from shrinkproof.results import Results
from shrinkproof.spec import StudySpec, load_study_spec
from shrinkproof.spec.scales import scales_of, with_scale
from shrinkproof.study import Study
from shrinkproof.tasks import Classification

STUDIES = Path(__file__).resolve().parents[2] / "studies"
DATA = Path(
    os.environ.get("SHRINKPROOF_DEV_DATA") or Path(__file__).resolve().parents[2] / "../shared/data"
)
CHECKPOINTS = DATA / "checkpoints"

SCALES = {
    "mitra2024": ("smoke", "cpu", "cpu-resnet56", "full"),
    "mantowsky2023": ("smoke", "cpu", "vgg", "full"),
    "dasilva2025": ("smoke", "cpu", "full", "full-cifar100"),
}
EVERY = [(study, scale) for study, scales in SCALES.items() for scale in scales]

VARIANTS = {
    *("int8", "prune", "prune+int8", "cluster", "cluster+int8", "prune+cluster"),
    *("prune+cluster+int8", "qat", "pqat", "cqat", "pcqat"),
}


def text_of(study: str) -> str:
    return (STUDIES / f"{study}.yaml").read_text()


@functools.cache
def spec_of(study: str, scale: str) -> StudySpec:
    return load_study_spec(with_scale(text_of(study), scale))


def network_of(study: str, model: str) -> nn.Module:
    """The network of a model of the scale ``full``, untrained."""
    arch = spec_of(study, "full").models[model].arch
    scheme, _, rest = arch.partition(":")
    return MODELS.get(scheme)().build(rest, 10, {}).eval()


def recipes_for(study: str, model: str) -> dict[str, tuple]:
    return spec_of(study, "full").candidate_recipes(model)


def pruned(network: nn.Module, step: ChannelPruning):
    """What a step of the study does without its training: the network and the account."""
    context = Context(
        task=Classification(),
        example=torch.zeros(1, 3, 32, 32),
        device=torch.device("cpu"),
        stream=stream,
    )
    return dataclasses.replace(step, finetune=None, groups=None).apply(network, context)


@pytest.mark.parametrize(("study", "scale"), EVERY)
def test_every_scale_is_valid_and_says_what_differs(study: str, scale: str) -> None:
    assert scales_of(text_of(study), study) == SCALES[study]
    spec = spec_of(study, scale)
    assert spec.full_name == f"{study}-{scale}"
    assert spec.scale_note
    assert ("numbers mean nothing" in spec.scale_note) == (scale == "smoke")
    assert ("for a GPU" in spec.scale_note) == (spec.measure.inference.device == "cuda")
    assert spec.controls == "dense"
    assert spec.data.split.sizes["select"]
    assert not any("test" in seen for model in spec.models.values() for seen in model.seen)


@pytest.mark.parametrize(("study", "scale"), EVERY)
def test_every_model_has_recipes_and_every_recipe_a_model(study: str, scale: str) -> None:
    spec = spec_of(study, scale)
    found = {model: set(spec.candidate_recipes(model)) for model in spec.models}
    assert all(found.values())
    assert set().union(*found.values()) == set(spec.candidate_recipes())


@pytest.mark.parametrize("scale", SCALES["dasilva2025"])
def test_the_sixteen_variants_are_there_at_every_scale(scale: str) -> None:
    spec = spec_of("dasilva2025", scale)
    for model in spec.models:
        found = spec.candidate_recipes(model)
        assert {name.removesuffix("-longer") for name in found} == VARIANTS
        assert len(found) == len(VARIANTS)


@pytest.mark.parametrize("study", ["mitra2024", "dasilva2025"])
def test_the_corruptions_are_the_published_ones(study: str) -> None:
    for scale in SCALES[study][1:]:
        assert len(spec_of(study, scale).conditions_list()) == 76


@pytest.mark.parametrize(("study", "scale"), [e for e in EVERY if e[1] in ("cpu", "full")])
def test_trainings_are_repeated_three_times(study: str, scale: str) -> None:
    assert spec_of(study, scale).repeats == 3


def test_ratios_and_schedules_of_mitra_2024() -> None:
    spec = spec_of("mitra2024", "full")
    assert {m: {n.rstrip(".01234567") for n in spec.candidate_recipes(m)} for m in spec.models} == {
        "vgg16": {"filter"},
        "vgg19": {"weight", "channel"},
        "resnet110": {"first-stage"},
        "preresnet110": {"weight"},
        "preresnet164": {"channel"},
    }
    for model in spec.models:
        for steps in spec.candidate_recipes(model).values():
            assert (steps[-1].epochs, steps[-1].learning_rate) == (40, 0.001)
            assert (steps[-1].schedule, steps[-1].batch) == ("constant", 64)
    ratios = [steps[0].ratio for steps in recipes_for("mitra2024", "vgg16").values()]
    assert ratios == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]


@pytest.mark.slow
def test_filters_of_vgg16_go_as_published() -> None:
    """Widths as Li et al. 2017 have them, arXiv:1608.08710, table 2: layers 1 and 8 to 13."""
    found = recipes_for("mitra2024", "vgg16")
    halved, change = pruned(network_of("mitra2024", "vgg16"), found["filter0.5"][0])
    widths = [m.out_channels for m in halved.modules() if isinstance(m, nn.Conv2d)]
    assert widths == [32, 64, 128, 128, 256, 256, 256, 256, 256, 256, 256, 256, 256]
    assert 1 - change.achieved["params_ratio"] == pytest.approx(0.64, abs=0.005)


@pytest.mark.slow
def test_filters_of_resnet110_go_as_published() -> None:
    """First convolutions of the first stage but for its last block; 2.3 % of the parameters."""
    found = recipes_for("mitra2024", "resnet110")
    _, change = pruned(network_of("mitra2024", "resnet110"), found["first-stage0.5"][0])
    assert {name for name, entry in change.layers.items() if len(set(entry["channels"])) == 2} == {
        f"layer1.{block}.conv1" for block in range(17)
    }
    assert 1 - change.achieved["params_ratio"] == pytest.approx(0.023, abs=0.001)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["vgg19", "preresnet164"])
def test_scales_of_batch_normalization_can_be_ranked_together(model: str) -> None:
    network = network_of("mitra2024", model)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.1, 1)
    _, change = pruned(network, recipes_for("mitra2024", model)["channel0.3"][0])
    assert change.achieved["ratio"] == pytest.approx(0.3, abs=0.01)


@pytest.mark.slow
def test_vgg16_is_pruned_in_as_many_groups_as_the_study_says() -> None:
    step = spec_of("mantowsky2023", "vgg").candidate_recipes("vgg16")["filter0.5"][0]
    halved, change = pruned(network_of("mantowsky2023", "vgg16"), step)
    assert change.achieved["iterations"] == step.groups == 13
    widths = [m.out_channels for m in halved.modules() if isinstance(m, nn.Conv2d)]
    assert widths == [32, 32, 64, 64, 128, 128, 128, 256, 256, 256, 256, 256, 256]


@pytest.mark.parametrize("scale", ["vgg", "full"])
def test_both_criteria_share_one_schedule(scale: str) -> None:
    recipes = spec_of("mantowsky2023", scale).candidate_recipes("vgg16")
    ranked, normed = recipes["hrank0.7"], recipes["filter0.7"]
    assert ranked[0].criterion.name == "hrank"
    assert dataclasses.replace(ranked[0], criterion=normed[0].criterion) == normed[0]
    assert ranked[1:] == normed[1:]
    assert (ranked[0].iterations, ranked[0].groups) == ("layers", 13)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["resnet50", "vgg19", "mobilenet_v2"])
def test_depthwise_kernels_of_da_silva_2025_stay(model: str) -> None:
    step = recipes_for("dasilva2025", model)["prune"][0]
    assert isinstance(step, WeightPruning)
    network = network_of("dasilva2025", model)
    chosen = select_layers(
        network, step.layers, step=step.name, include=step.include, exclude=step.exclude
    )
    depthwise = {n for n, m in network.named_modules() if getattr(m, "groups", 1) > 1}
    assert len(depthwise) == (17 if model == "mobilenet_v2" else 0)
    assert set(chosen.untouched) == depthwise


@pytest.mark.slow
def test_resnet8_of_mlperf_tiny_gives_the_published_outputs() -> None:
    if not CHECKPOINTS.is_dir():
        pytest.skip("no development data: no published checkpoints")
    spec = spec_of("dasilva2025", "cpu").models["resnet8"]
    loaded = load_model(spec, {"study": STUDIES, "weights": CHECKPOINTS})
    assert sum(p.numel() for p in loaded.module.parameters()) == 78_186
    with Image.open(DATA / "cifar10" / "test.webp") as sheet:
        row = np.asarray(sheet.convert("RGB").crop((0, 0, 64 * 32, 32)))
    images = row.reshape(32, 64, 32, 3).transpose(1, 0, 2, 3)
    with torch.no_grad():
        logits = loaded.module(torch.from_numpy(loaded.preprocess(images)))
    expected = np.load(CHECKPOINTS / "reference_outputs.npz")["cifar10_resnet8_mlperftiny"]
    # Another implementation on another machine; logits of size 10.
    np.testing.assert_allclose(logits.numpy(), expected, atol=1e-4)


def run_of(study: str, folder: Path, only: str | None = None) -> Results:
    loaded = Study.load(STUDIES / f"{study}.yaml", scale="smoke")
    return loaded.run(folder / "run", engine=Inline(), only=only)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("study", "only", "count"),
    [
        ("mitra2024", "*/channel*", 3),
        ("mantowsky2023", "*/hrank0.5", 3),
        ("dasilva2025", "*/cqat", 3),
        pytest.param("mitra2024", None, 6, marks=pytest.mark.long),
        pytest.param("mantowsky2023", None, 7, marks=pytest.mark.long),
        pytest.param("dasilva2025", None, 17, marks=pytest.mark.long),
    ],
)
def test_the_smallest_scale_runs_without_a_download(
    study: str, only: str | None, count: int, tmp_path: Path
) -> None:
    results = run_of(study, tmp_path, only)
    assert not results.failures
    assert len({c.label for c in results.candidates} - set(results.missing)) == count
    assert any("its numbers mean nothing" in note for note in results.caveats)
