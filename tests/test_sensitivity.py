"""``shrinkproof.sensitivity``: one layer at a time, against the same done by hand."""

from __future__ import annotations

import copy
import dataclasses
import operator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import log_softmax
from torch import nn

from shrinkproof import LayerSensitivity, compress, sensitivity
from shrinkproof.compression import replay
from shrinkproof.compression.replay import Replay, replaced_layers
from shrinkproof.compressors.cluster import Clustering
from shrinkproof.compressors.recipe import Recipe
from shrinkproof.errors import CompressionError, DataError, ModelError, SpecError, UsageError
from shrinkproof.models.cifar import resnet
from shrinkproof.models.loaded import Preprocess
from shrinkproof.testing.toys import tiny_images, tiny_model

EXAMPLE = torch.zeros(1, 3, 16, 16)
HALF = Preprocess(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
CLUSTER = {"cluster": {"levels": 2, "minimum_size": 1}}
PRUNE = {"prune.weights": {"ratio": 0.6, "layers": "conv+linear"}}


def pair(count: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    images = tiny_images(count)
    return torch.from_numpy(HALF(images.images)), torch.from_numpy(images.target)


def rows_of(model: nn.Module, step: Any, **options: Any) -> tuple[LayerSensitivity, ...]:
    return sensitivity(model, step, **{"example": EXAMPLE, "images": pair(), **options})


class Overwriting(nn.Module):
    """Residual additions and rectifiers in every spelling that writes over its input."""

    def __init__(self, *, traceable: bool = True) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.stem = nn.Conv2d(3, 8, 3, padding=1)
            self.relu = nn.ReLU(inplace=True)
            self.left = nn.Conv2d(8, 8, 3, padding=1)
            self.right = nn.Conv2d(8, 8, 1)
            self.last = nn.Conv2d(8, 8, 3, padding=1)
            self.head = nn.Linear(8, 4)
        self.traceable = traceable

    def forward(self, x):
        if not self.traceable and bool(x.abs().sum() < 0):
            return x
        x = self.relu(self.stem(x))
        y = self.left(x)
        y += self.right(x)
        y = F.relu(y, inplace=True)
        z = F.relu_(self.last(y))
        z = operator.imul(z, 0.5)
        z += y
        return self.head(z.mean((2, 3)))


class Stubborn(Overwriting):
    """Writes over a value in a way that the replay does not know."""

    def forward(self, x):
        x = self.stem(x)
        y = self.left(x)
        y.add_(self.right(x)).clamp_(min=0)
        return self.head(self.last(y).mean((2, 3)))


# numbers


def test_numbers_are_those_of_single_compressions_by_hand():
    model = tiny_model()
    inputs, _ = pair()
    with torch.no_grad():
        before = model(inputs).double().numpy()
    rows = rows_of(model, CLUSTER)
    assert [(row.layer, row.parameters) for row in rows] == [("0", 216), ("4", 576), ("9", 36)]
    for row in rows:
        alone = Clustering(levels=2, minimum_size=1, include=(row.layer,))
        small = compress(model, [alone], example=EXAMPLE)
        with torch.no_grad():
            after = small(inputs).double().numpy()
        p, q = log_softmax(before, axis=1), log_softmax(after, axis=1)
        expected = np.mean(np.sum(np.exp(p) * (p - q), axis=1))
        assert row.divergence == pytest.approx(expected, rel=1e-9, abs=1e-14)
        assert row.divergence > 0
        assert row.largest_difference == pytest.approx(np.abs(before - after).max(), rel=1e-9)
        assert row.agreement == np.mean(before.argmax(1) == after.argmax(1))
        assert row.reason == ""


def test_divergence_of_a_known_change():
    # Two levels for the weights 1, 2 and 5: the first two share 1.5.
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 3, bias=False))
    model[1].weight = nn.Parameter(torch.tensor([[1.0], [2.0], [5.0]]))
    images = (torch.ones(5, 1, 1, 1), torch.zeros(5, dtype=torch.long))
    (row,) = sensitivity(model, CLUSTER, example=images[0][:1], images=images)
    p = np.exp([1, 2, 5]) / np.exp([1, 2, 5]).sum()
    q = np.exp([1.5, 1.5, 5]) / np.exp([1.5, 1.5, 5]).sum()
    assert row.divergence == pytest.approx(np.sum(p * np.log(p / q)), rel=1e-12)
    assert row.largest_difference == pytest.approx(0.5, rel=1e-12)
    assert row.agreement == 1.0


def test_layer_that_keeps_its_numbers_diverges_by_nothing():
    model = tiny_model()
    with torch.no_grad():
        model[0].weight.copy_(model[0].weight.sign())
    rows = rows_of(model, CLUSTER)
    assert dataclasses.astuple(rows[0]) == ("0", 216, 0.0, 0.0, 1.0, "")
    assert rows[1].divergence > 0


@pytest.mark.parametrize("network", [tiny_model, Overwriting, Stubborn])
def test_replaying_gives_what_running_everything_gives(network, monkeypatch):
    model = network().eval()
    quick = rows_of(model, PRUNE)
    monkeypatch.setattr(replay, "replay_of", lambda _: None)
    assert rows_of(model, PRUNE) == quick
    assert all(row.divergence > 0 for row in quick)


def test_network_that_cannot_be_traced_is_run_in_full():
    expected = rows_of(Overwriting().eval(), PRUNE)
    assert rows_of(Overwriting(traceable=False).eval(), PRUNE) == expected


def test_replay_runs_only_what_a_layer_changes():
    model = tiny_model()
    inputs, _ = pair(4)
    ran = []
    changed = copy.deepcopy(model)
    with torch.no_grad():
        changed[4].weight.mul_(0.5)
        found = Replay(model)
        found.record(inputs)
        for layer in found._graph.children():
            layer.register_forward_hook(lambda module, *_: ran.append(type(module).__name__))
        parts = replaced_layers(model, changed)
        assert list(parts) == ["4"]
        after = found.replay(parts)
        assert torch.equal(after, changed(inputs))
    assert ran == ["BatchNorm2d", "ReLU", "AdaptiveAvgPool2d", "Flatten", "Linear"]


def test_known_spellings_of_overwriting_are_replayed():
    inputs, _ = pair(4)
    with torch.no_grad():
        for network, is_kept in ((Overwriting, True), (Stubborn, False)):
            found = Replay(network().eval())
            found.record(inputs)
            assert bool(found._values) is is_kept


def test_other_shapes_and_kinds_are_no_replaced_layers():
    model = tiny_model()
    other = copy.deepcopy(model)
    assert replaced_layers(model, other) == {}
    other[2] = nn.ReLU6()
    assert replaced_layers(model, other) is None
    other = copy.deepcopy(model)
    other[9] = nn.Linear(8, 3)
    assert replaced_layers(model, other) is None


# which layers, and why not


def test_layers_that_cannot_be_compressed_alone_say_why():
    rows = rows_of(tiny_model(), {"prune.channels": {"ratio": 0.5, "round_to": 1}})
    assert [row.reason == "" for row in rows] == [True, True, False]
    assert rows[2].reason == "reaches the model's output"
    assert (rows[2].divergence, rows[2].largest_difference, rows[2].agreement) == (None,) * 3
    (head,) = rows_of(tiny_model(), {"prune.weights": {"ratio": 0.5}})[2:]
    assert head.reason == "fully connected; the setting is 'conv'"
    small = rows_of(tiny_model(), {"cluster": {"levels": 4, "minimum_size": 300}})
    assert [row.reason for row in small] == [
        "216 weights, fewer than the minimum_size of 300",
        "",
        "32 weights, fewer than the minimum_size of 300",
    ]


def test_tied_channels_name_what_they_are_tied_to():
    rows = rows_of(Overwriting().eval(), {"prune.channels": {"ratio": 0.5, "round_to": 1}})
    reasons = {row.layer: row.reason for row in rows}
    assert reasons["stem"] == ""
    assert "tied to the channels of right, which is not selected" in reasons["left"]
    assert not reasons["left"].startswith("prune.channels")


def test_patterns_of_the_step_are_respected():
    step = {"cluster": {**CLUSTER["cluster"], "exclude": ["4"]}}
    rows = rows_of(tiny_model(), step)
    assert [row.reason for row in rows] == ["", "not selected by include and exclude", ""]
    plain = rows_of(tiny_model(), CLUSTER)
    assert (rows[0], rows[2]) == (plain[0], plain[2])


def test_a_name_with_brackets_is_taken_literally():
    model = nn.Sequential()
    model.add_module("a[0]", nn.Conv2d(3, 4, 3))
    model.add_module("pool", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    rows = rows_of(model.eval(), CLUSTER)
    assert [(row.layer, row.reason) for row in rows] == [("a[0]", "")]


def test_shared_weights_are_compressed_together():
    model = Overwriting().eval()
    model.last.weight = model.left.weight
    rows = {row.layer: row for row in rows_of(model, PRUNE)}
    assert rows["left"].divergence > 0
    assert rows["last"].reason == "shares its weight with left, where it is treated"


# 8-bit integers


def drawn(depth: int, width: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return resnet(depth, width, "project" if depth == 8 else "pad", 4).eval()


@pytest.mark.parametrize(("depth", "width"), [(8, 8), (20, 16)])
def test_every_layer_of_a_residual_network_is_quantized_alone(depth, width):
    model = drawn(depth, width)
    rows = rows_of(model, "quantize.static", images=pair(8), calibration=pair(8))
    named = [n for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert [row.layer for row in rows] == named
    assert all(row.reason == "" and row.divergence > 0 for row in rows)
    assert all(0 < row.largest_difference < 1 and row.agreement >= 0.5 for row in rows)


def test_numbers_of_integers_are_those_of_a_single_quantization():
    model = drawn(8, 8)
    inputs, _ = pair(8)
    rows = {
        row.layer: row
        for row in rows_of(model, "quantize.static", images=pair(8), calibration=pair(16))
    }
    alone = {"quantize.static": {"include": ["layer2.0.conv1"]}}
    small = compress(model, [alone], example=EXAMPLE, calibration=pair(16))
    with torch.no_grad():
        difference = (small(inputs).double() - model(inputs).double()).abs().max()
    assert rows["layer2.0.conv1"].largest_difference == float(difference)


def test_integers_respect_patterns_and_shared_weights():
    model = Overwriting().eval()
    model.last.weight = model.left.weight
    step = {"quantize.static": {"exclude": ["stem"]}}
    rows = {row.layer: row for row in rows_of(model, step, calibration=pair(8))}
    assert rows["stem"].reason == "not selected by include and exclude"
    assert rows["last"].reason == "shares its weight with left, where it is treated"
    assert all(rows[name].divergence > 0 for name in ("left", "right", "head"))


def test_integers_need_calibration_images():
    with pytest.raises(CompressionError, match="needs images of the split 'calibrate'"):
        rows_of(tiny_model(), "quantize.static")


# the given network and images


@pytest.mark.parametrize("step", [CLUSTER, {"prune.channels": {"ratio": 0.5, "round_to": 1}}])
def test_the_network_is_not_edited_and_results_repeat(step):
    model = tiny_model().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first = rows_of(model, step)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert rows_of(model, step) == first


def test_an_image_set_and_criteria_with_calibration_images_serve():
    step = {"prune.weights": {"ratio": 0.5, "criterion": "taylor"}}
    calibration = tiny_images(16)
    rows = rows_of(
        tiny_model(), step, images=tiny_images(), calibration=calibration, preprocess=HALF
    )
    assert rows == rows_of(tiny_model(), step, calibration=(pair(16)))
    assert [row.reason == "" for row in rows] == [True, True, False]


def test_rows_are_plain_values():
    row = rows_of(tiny_model(), CLUSTER)[0]
    assert {type(value) for value in dataclasses.asdict(row).values()} == {str, int, float}


# bad input


@pytest.mark.parametrize(
    ("step", "error", "message"),
    [
        ("fold", UsageError, "must select layers by name, got fold"),
        ({"finetune": {"epochs": 1}}, UsageError, "must select layers by name, got finetune"),
        ("prune.weigths", SpecError, "did you mean 'prune.weights'"),
        (
            {
                "prune.weights": {
                    "ratio": 0.5,
                    "schedule": "constant",
                    "finetune": {"epochs": 1},
                }
            },
            UsageError,
            "must not train, got prune.weights with training",
        ),
        (Recipe((Clustering(levels=4),) * 2), UsageError, "must be one step, got 2: cluster"),
        ({"prune.weights": {"ratio": 0.5, "include": ["x*"]}}, CompressionError, "got 'x*'"),
        (
            {"prune.weights": {"ratio": 0.5, "criterion": "taylor"}},
            CompressionError,
            "needs images of the split 'calibrate', got none",
        ),
    ],
)
def test_steps_that_cannot_serve(step, error, message):
    with pytest.raises(error) as caught:
        rows_of(tiny_model(), step)
    assert message in str(caught.value)


def test_images_are_required_and_must_fit():
    with pytest.raises(UsageError, match="images: must be given"):
        rows_of(tiny_model(), CLUSTER, images=None)
    with pytest.raises(DataError, match="at least one image"):
        rows_of(tiny_model(), CLUSTER, images=pair(0))
    wrong = (torch.zeros(4, 3, 8, 8), torch.zeros(4, dtype=torch.long))
    with pytest.raises(DataError, match=r"images: .*\(3, 16, 16\), got \(3, 8, 8\)"):
        rows_of(tiny_model(), CLUSTER, images=wrong)


def test_network_without_layers_is_refused():
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(CompressionError, match="fully connected layers, got none in Sequential"):
        rows_of(model, CLUSTER)


class Fragile(nn.Module):
    """Returns finite logits for black images only."""

    def __init__(self):
        super().__init__()
        self.inner = tiny_model()

    def forward(self, x):
        return self.inner(x) / (x.abs().amax((1, 2, 3)) == 0).float()[:, None]


def test_networks_without_logits_are_refused():
    with pytest.raises(ModelError, match=r"must return logits \(N, classes\), got \(48, 8,"):
        rows_of(nn.Sequential(nn.Conv2d(3, 8, 1)), CLUSTER)
    with pytest.raises(ModelError, match="Fragile: logits must be finite, got NaN or infinity"):
        rows_of(Fragile().eval(), CLUSTER)
