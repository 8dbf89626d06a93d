"""Pruning towards a cost instead of a ratio."""

from dataclasses import replace

import pytest

from shrinkproof.compressors.channels import ChannelPruning
from shrinkproof.compressors.channels.target import Target
from shrinkproof.compressors.recipe import Recipe
from shrinkproof.errors import CompressionError
from shrinkproof.models.cifar import resnet
from shrinkproof.training.settings import Training


def plain(**fields):
    """Return the step without rounding and floor."""
    return ChannelPruning(**{"round_to": 1, "floor": 0.0, **fields})


def parameters(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("kind", ["macs", "params"])
@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("goal", [0.7, 0.5, 0.21])
def test_counted_targets_are_reached_by_the_largest_network(toy_context, kind, scope, goal):
    model = resnet(20).eval()
    step = plain(target=Target(**{kind: goal}), scope=scope)
    _, (change,) = Recipe((step,)).apply(model, toy_context)
    reached = change.achieved[f"{kind}_ratio"]
    assert change.requested == {f"{kind}_ratio": goal}
    assert reached <= goal
    # One channel fewer, in each layer where the ratio is one of each layer, misses the target.
    less = change.achieved["ratio"] - 1 / 480
    if scope == "global":
        one_less = plain(ratio=less, scope=scope)
        _, (before,) = Recipe((one_less,)).apply(model, toy_context)
        assert before.achieved[f"{kind}_ratio"] > goal
    assert goal - reached < 0.03


def test_an_unreachable_target_names_the_smallest_network(toy_context):
    step = ChannelPruning(target=Target(macs=0.01))
    with pytest.raises(CompressionError, match=r"target macs .* got 0\.01 where the smallest net"):
        Recipe((step,)).apply(resnet(8).eval(), toy_context)


class Scales:
    """A probe for which a parameter weighs 4 bytes and takes its share of the time."""

    def __init__(self, original):
        self.original = parameters(original)
        self.calls = 0

    def bytes(self, model, changes):
        self.calls += 1
        return 4 * parameters(model) + 1000

    def latency(self, model, changes):
        self.calls += 1
        return (parameters(model) / self.original) ** 0.8


@pytest.mark.parametrize(
    ("target", "name"),
    [(Target(bytes="600 kB"), "bytes"), (Target(latency_ratio=0.6), "latency_ratio")],
)
def test_measured_targets_are_reached_with_few_measurements(toy_context, target, name):
    model = resnet(20).eval()
    probe = Scales(model)
    step = plain(target=target)
    pruned, (change,) = Recipe((step,)).apply(model, replace(toy_context, probe=probe))
    assert probe.calls <= 10
    assert change.requested == {name: target.value}
    assert 0.95 * target.value < change.achieved[name] <= target.value
    measured = probe.bytes if name == "bytes" else probe.latency
    assert change.achieved[name] == measured(pruned, ())


def test_measured_targets_need_a_probe(toy_context):
    with pytest.raises(CompressionError, match=r"target bytes needs exported files .* use macs"):
        Recipe((plain(target=Target(bytes=10)),)).apply(resnet(8).eval(), toy_context)


def test_a_measured_target_that_is_met_already_is_an_error(toy_context):
    context = replace(toy_context, probe=Scales(resnet(8)))
    with pytest.raises(CompressionError, match=r"target bytes must ask for less than the model"):
        Recipe((plain(target=Target(bytes="1 MB")),)).apply(resnet(8).eval(), context)


def test_targets_with_iterations_and_training_are_reached(toy_context):
    step = plain(
        target=Target(macs=0.5),
        iterations=2,
        finetune=Training(epochs=1, batch=30),
    )
    _, (change,) = Recipe((step,)).apply(resnet(8).eval(), toy_context)
    assert 0.47 < change.achieved["macs_ratio"] <= 0.5
    by_group = plain(target=Target(macs=0.5), iterations="layers", scope="layer")
    _, (change,) = Recipe((by_group,)).apply(resnet(8).eval(), toy_context)
    assert 0.4 < change.achieved["macs_ratio"] <= 0.5
