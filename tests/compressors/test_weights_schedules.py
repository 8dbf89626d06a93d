"""Pruning of weights while the network trains, and which layers are treated."""

import copy
from dataclasses import replace

import numpy as np
import pydantic
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from shrinkproof.compressors.cluster import Clustering
from shrinkproof.compressors.constraint import Mask, constraints_of
from shrinkproof.compressors.criteria import CRITERIA
from shrinkproof.compressors.finetune import FineTuning
from shrinkproof.compressors.lowest import lowest, lowest_of
from shrinkproof.compressors.recipe import Recipe, recovery_of
from shrinkproof.compressors.weights import WeightPruning
from shrinkproof.errors import CompressionError
from shrinkproof.protocols import Needs, Trains
from shrinkproof.training import checkpoint
from shrinkproof.training.settings import Distillation, Training

TUNE = Training(epochs=4, batch=15, learning_rate=0.05)
"""Sixteen steps on the sixty images of the toy data."""


def scheduled(schedule="gradual", **fields):
    fields = {"ratio": 0.8, "every": 2, "finetune": TUNE, **fields}
    return WeightPruning(schedule=schedule, **fields)


def zeros(model, name):
    return (model.get_submodule(name).weight == 0).flatten()


def watched(monkeypatch):
    """Return the ratios and masks of every renewal, in order."""
    from shrinkproof.compressors import weights

    seen = []
    renew = weights._Masks.renew

    def recording(self, step, context, ratio):
        renew(self, step, context, ratio)
        masks = {layer: found[0].mask.clone() for layer, found in self.masks.items()}
        seen.append((ratio, masks))

    monkeypatch.setattr(weights._Masks, "renew", recording)
    return seen


def test_gradual_follows_the_published_cubic():
    # Zhu & Gupta 2017, equation 1, with t0 = 0 and n * dt = 100.
    step = WeightPruning(ratio=0.8, schedule="gradual", initial=0.2, finetune=TUNE)
    expected = {0: 0.2, 10: 0.8 - 0.6 * 0.729, 50: 0.8 - 0.6 * 0.125, 90: 0.7994, 100: 0.8}
    for done, ratio in expected.items():
        assert step.ratio_after(done, 100) == pytest.approx(ratio)
    constant = WeightPruning(ratio=0.8, schedule="constant", finetune=TUNE)
    assert constant.ratio_after(0, 100) == constant.ratio_after(50, 100) == 0.8


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        # Sixteen steps, the mask is final after twelve.
        ("gradual", [0.8 - 0.8 * (1 - t / 12) ** 3 for t in (0, 5, 10)] + [0.8]),
        ("constant", [0.8] * 4),
    ],
)
def test_masks_are_renewed_when_the_schedule_says(
    small_net, toy_context, monkeypatch, schedule, expected
):
    seen = watched(monkeypatch)
    scheduled(schedule, every=5).apply(small_net, toy_context)
    assert [ratio for ratio, _ in seen] == pytest.approx(expected)


@pytest.mark.parametrize("schedule", ["gradual", "constant"])
@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("until", [0.0, 0.5, 1.0])
def test_final_count_is_exact(small_net, toy_context, schedule, scope, until):
    step = scheduled(schedule, scope=scope, layers="conv+linear", until=until, ratio=0.37)
    model, (change,) = Recipe((step,)).apply(small_net, toy_context)
    counted = {n: int(zeros(model, n).sum()) for n in change.layers}
    assert counted == {n: entry["zeros"] for n, entry in change.layers.items()}
    sizes = {n: entry["size"] for n, entry in change.layers.items()}
    if scope == "global":
        assert sum(counted.values()) == int(0.37 * sum(sizes.values()) + 0.5)
    else:
        assert counted == {n: int(0.37 * size + 0.5) for n, size in sizes.items()}
    assert change.achieved["epochs"] == 4
    assert change.achieved["accuracy"] > 0.3


def test_floor_holds_at_every_step(small_net, toy_context, monkeypatch):
    seen = watched(monkeypatch)
    with torch.no_grad():
        small_net.mix.weight.mul_(1e-6)
    scheduled(ratio=0.5, floor=0.1).apply(small_net, toy_context)
    assert all(int(masks["mix"].sum()) >= 13 for _, masks in seen)  # ceil(0.1 * 128)


def test_hidden_weights_keep_their_value_and_come_back(toy_context):
    model = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    first = torch.tensor([[5.0, 4.0, 3.0], [2.0, 1.0, 0.5]])
    with torch.no_grad():
        model[0].weight.copy_(first.view(2, 3, 1, 1))

    class Shrinks:
        """Pulls the largest weights down fast."""

        name, version = "classification", 1

        def loss(self, outputs, target, *, label_smoothing=0.0):
            weight = model[0].weight
            return weight.square().sum()

    plain = Training(
        epochs=1, batch=20, learning_rate=0.2, momentum=0.0, weight_decay=0.0, schedule="constant"
    )
    step = scheduled("constant", ratio=0.5, every=1, until=1.0, floor=0.0, finetune=plain)
    context = replace(toy_context, task=Shrinks())
    masks = []

    def remember(values):
        masks.append(values)

    step.apply(model, replace(context, note=remember))
    (mask,) = [c.mask for c in constraints_of(model[0]) if isinstance(c, Mask)]
    under = model[0].parametrizations.weight.original.detach().flatten().tolist()
    # By hand: what is used shrinks by 0.6 in a step. 5 4 3 | 2 1 0.5 hides the last three; after
    # one step 3 2.4 1.8 | 2 1 0.5, so 2 is back and 1.8 is hidden; after two 1.8 1.44 1.8 1.2 1 0.5
    # and after three, where 1.2 was hidden: 1.08 0.864 1.08 1.2 1 0.5.
    assert under == pytest.approx([1.08, 0.864, 1.08, 1.2, 1.0, 0.5])
    assert mask.flatten().tolist() == [True, False, True, True, False, False]


def test_zeros_of_an_earlier_pruning_never_come_back(small_net, toy_context):
    first = WeightPruning(ratio=0.5, criterion="random")
    once, _ = Recipe((first,)).apply(small_net, toy_context)
    for schedule in ("gradual", "constant"):
        twice, _ = Recipe((first, scheduled(schedule))).apply(small_net, toy_context)
        for name in ("stem", "depthwise", "mix"):
            assert not (zeros(once, name) & ~zeros(twice, name)).any()


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_masks_survive_any_later_training(small_net, toy_context, optimizer):
    pruning = scheduled(layers="conv+linear")
    later = FineTuning(
        epochs=3, batch=15, learning_rate=0.1, optimizer=optimizer, distill=Distillation()
    )
    pruned, _ = Recipe((pruning,)).apply(small_net, toy_context)
    steps = (pruning, later, Clustering(levels=4), later)
    model, _ = Recipe(steps).apply(small_net, toy_context)
    for name in ("stem", "depthwise", "mix", "head"):
        assert not (zeros(pruned, name) & ~zeros(model, name)).any()


@pytest.mark.parametrize("criterion", CRITERIA.names())
def test_schedules_take_any_criterion(small_net, toy_context, criterion):
    step = scheduled("gradual", criterion=criterion, every=7)
    model, (change,) = Recipe((step,)).apply(small_net, toy_context)
    assert change.achieved["ratio"] == pytest.approx(0.8, abs=0.005)
    again, (same,) = Recipe((step,)).apply(small_net, toy_context)
    assert same == change
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in model.state_dict().items())


def test_training_mode_survives_a_renewal(small_net, toy_context, monkeypatch):
    modes = []
    forward = nn.BatchNorm2d.forward

    def recording(self, x):
        modes.append(self.training)
        return forward(self, x)

    monkeypatch.setattr(nn.BatchNorm2d, "forward", recording)
    scheduled(every=1).apply(small_net, toy_context)
    assert modes == [True] * 16


@pytest.mark.parametrize("schedule", ["gradual", "constant"])
def test_an_interrupted_schedule_ends_bit_for_bit_the_same(
    small_net, toy_context, tmp_path, monkeypatch, schedule
):
    monkeypatch.setattr(checkpoint, "INTERVAL", 0.0)
    step = scheduled(schedule, every=3)
    whole, expected = Recipe((step,)).apply(small_net, toy_context)

    class KilledError(Exception):
        pass

    for last in (1, 3):

        def dying(values, last=last):
            if values["epoch"] == last:
                raise KilledError

        torn = replace(toy_context, scratch=tmp_path, note=dying)
        with pytest.raises(KilledError):
            Recipe((step,)).apply(small_net, torn)
    notes = []
    torn = replace(toy_context, scratch=tmp_path, note=notes.append)
    model, changes = Recipe((step,)).apply(small_net, torn)
    assert len([n for n in notes if "seconds_left" not in n]) == 2
    assert changes == expected
    assert all(torch.equal(v, whole.state_dict()[k]) for k, v in model.state_dict().items())
    # Another ratio in the same folder starts from the beginning.
    notes.clear()
    Recipe((replace(step, ratio=0.4),)).apply(small_net, torn)
    assert "belongs to another training" in notes[0]["message"]


def test_a_schedule_trains_and_names_its_control():
    one_shot = WeightPruning(ratio=0.5)
    assert recovery_of(one_shot) == ()
    assert one_shot.needs == Needs.NOTHING
    step = scheduled("constant")
    assert isinstance(step, Trains)
    assert recovery_of(step) == (FineTuning(epochs=4, batch=15, learning_rate=0.05),)
    assert step.needs == Needs.TRAINING
    taught = replace(TUNE, distill=Distillation())
    assert scheduled(finetune=taught).needs == Needs.TRAINING | Needs.TEACHER
    with pytest.raises(CompressionError, match="'train'"):
        Recipe((step,)).apply(nn.Sequential(nn.Conv2d(3, 4, 1)), context_without_images())


def context_without_images():
    from shrinkproof.testing.toys import tiny_context

    return tiny_context(needs=Needs.NOTHING)


def test_patterns_choose_layers(small_net, toy_context):
    step = WeightPruning(ratio=0.5, layers="conv+linear", include=("*e*",), exclude=("depth*",))
    _, (change,) = Recipe((step,)).apply(small_net, toy_context)
    assert list(change.layers) == ["stem", "head"]
    assert change.untouched == {
        "depthwise": "not selected by include and exclude",
        "mix": "not selected by include and exclude",
    }
    with pytest.raises(CompressionError, match="'conv1', which matches none"):
        WeightPruning(ratio=0.5, include=("conv1",)).apply(small_net, toy_context)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"schedule": "gradual"}, "finetune must be given with the schedules"),
        ({"finetune": TUNE}, "not with 'one-shot', got one"),
        ({"initial": 0.2}, "initial must belong to the schedule 'gradual'"),
        ({"schedule": "gradual", "finetune": TUNE, "initial": 0.6}, "at most the ratio of 0.5"),
        (
            {"schedule": "constant", "finetune": replace(TUNE, patience=3)},
            "finetune.patience must be left out, got 3",
        ),
        ({"schedule": "gradual", "finetune": TUNE, "every": 0}, "greater than or equal to 1"),
        ({"schedule": "cubic", "finetune": TUNE}, "'one-shot', 'constant' or 'gradual'"),
    ],
)
def test_wrong_schedules_are_refused(fields, message):
    with pytest.raises(pydantic.ValidationError, match=message):
        WeightPruning(ratio=0.5, **fields)


def brute_force(tensors, ratio, floor):
    """Take the lowest weight that may still go, one after the other."""
    left = [s.size - max(1, int(np.ceil(floor * s.size - 1e-9))) for s in tensors]
    gone = [np.zeros(s.size, dtype=bool) for s in tensors]
    order = sorted((s[i], k, i) for k, s in enumerate(tensors) for i in range(s.size))
    missing = int(np.floor(ratio * sum(s.size for s in tensors) + 0.5))
    for _, k, i in order:
        if missing and left[k]:
            gone[k][i] = True
            left[k] -= 1
            missing -= 1
    return gone


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    ratio=st.floats(0.01, 0.99),
    floor=st.sampled_from([0.0, 0.1, 0.5]),
)
def test_global_ranking_equals_brute_force(seed, sizes, ratio, floor):
    rng = np.random.default_rng(seed)
    tensors = [rng.integers(0, 9, n).astype(np.float32) * (k + 1) for k, n in enumerate(sizes)]
    got = lowest_of(np.concatenate(tensors), sizes, ratio, scope="global", floor=floor)
    expected = brute_force(tensors, ratio, floor)
    assert [g.tolist() for g in got] == [e.tolist() for e in expected]


def test_ties_across_chunks_go_to_the_earlier_positions():
    scores = np.zeros(3_000_000, dtype=np.float32)
    scores[::7] = -1
    chosen = lowest(scores, 2_500_000)
    assert np.count_nonzero(chosen) == 2_500_000
    assert chosen[::7].all()
    ties = np.flatnonzero(scores == 0)
    expected = ties[: 2_500_000 - np.count_nonzero(scores)]
    assert np.array_equal(np.flatnonzero(chosen & (scores == 0)), expected)


@pytest.mark.parametrize("kind", ["normal", "coarse", "mostly dead", "sorted", "misleading"])
def test_lowest_of_many_equals_sorting(kind):
    rng = np.random.default_rng(0)
    scores = rng.standard_normal(1_300_000, dtype=np.float32)
    if kind == "coarse":
        scores = np.round(scores)
    elif kind == "mostly dead":
        scores[rng.random(scores.size) < 0.7] = -np.inf
    elif kind == "sorted":
        scores.sort()
    elif kind == "misleading":
        # What a sample at equal distances sees says nothing about the rest.
        scores[:: scores.size >> 16] += 100
    order = np.argsort(scores, kind="stable")
    for count in (1, 40, 650_000, 910_000, 1_299_999):
        expected = np.zeros(scores.size, dtype=bool)
        expected[order[:count]] = True
        assert np.array_equal(lowest(scores, count), expected), count


@pytest.mark.parity
def test_one_shot_equals_torch(small_net, toy_context):
    from torch.nn.utils import prune

    other = copy.deepcopy(small_net)
    names = ("stem", "depthwise", "mix")
    prune.global_unstructured(
        [(other.get_submodule(n), "weight") for n in names], prune.L1Unstructured, amount=0.63
    )
    model, _ = WeightPruning(ratio=0.63, floor=0.0).apply(small_net, toy_context)
    for name in names:
        assert torch.equal(zeros(model, name), zeros(other, name))


def test_half_precision_weights_are_ranked(toy_context):
    model = nn.Sequential(nn.Conv2d(1, 4, 1, bias=False)).to(torch.bfloat16)
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([0.5, -2.0, 0.25, 1.0]).view(4, 1, 1, 1))
    WeightPruning(ratio=0.5).apply(model, toy_context)
    assert zeros(model, "0").tolist() == [True, False, True, False]
