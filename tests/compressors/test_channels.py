import copy
import json
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import nn

from shrinkproof.compressors.channels import ChannelPruning
from shrinkproof.compressors.cluster import Clustering
from shrinkproof.compressors.criteria import CHANNEL_CRITERIA
from shrinkproof.compressors.finetune import FineTuning
from shrinkproof.compressors.fold import Fold
from shrinkproof.compressors.quantize import StaticQuantization
from shrinkproof.compressors.recalibrate import Recalibration
from shrinkproof.compressors.recipe import Recipe
from shrinkproof.compressors.weights import WeightPruning
from shrinkproof.errors import CompressionError, ModelError
from shrinkproof.models.cifar import resnet
from shrinkproof.protocols import Needs
from shrinkproof.records import Change
from shrinkproof.registry import component
from shrinkproof.training.settings import Training


@component
class Given:
    """Scores by hand: layer -> scores."""

    name: ClassVar[str] = "given"
    version: ClassVar[int] = 1
    comparable: ClassVar[bool] = True

    table: dict[str, list[float]]

    @property
    def needs(self):
        return Needs.NOTHING

    def scores(self, model, layers, context):
        return {n: torch.tensor(self.table[n]) for n in layers if n in self.table}


@component
class Rising:
    """The later a channel, the higher its score; counts its calls in the notes."""

    name: ClassVar[str] = "rising"
    version: ClassVar[int] = 1
    comparable: ClassVar[bool] = True

    @property
    def needs(self):
        return Needs.NOTHING

    def scores(self, model, layers, context):
        context.note({"scored": list(layers)})
        return {n: torch.arange(len(model.get_submodule(n).weight)).float() for n in layers}


class ResidualNet(nn.Module):
    """A stem, one residual block, a depthwise layer, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.inner = nn.Conv2d(4, 6, 3, padding=1)
        self.outer = nn.Conv2d(6, 4, 1)
        self.depthwise = nn.Conv2d(4, 4, 3, groups=4)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(x + self.outer(torch.relu(self.inner(x))))
        return self.head(self.depthwise(x).mean((2, 3)))


@pytest.fixture
def residual_net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = ResidualNet()
        for tensor in (net.norm.running_mean, net.norm.weight, net.norm.bias):
            nn.init.normal_(tensor)
    return net.eval()


def plain(**fields):
    """Return the step without rounding and floor."""
    return ChannelPruning(**{"round_to": 1, "floor": 0.0, **fields})


def widths(change):
    return {n: e["channels"] for n, e in change.layers.items()}


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def test_lowest_channels_leave_with_all_that_belongs_to_them(residual_net, toy_context):
    table = {"stem": [1, 5, 2, 8], "outer": [3, 1, 4, 2], "inner": [9, 0, 9, 9, 1, 9]}
    step = plain(ratio=0.4, criterion=Given(table=table))
    model, (change,) = Recipe((step,)).apply(residual_net, toy_context)
    # Tied means are 2, 3, 3, 5; with the inner scores 0 and 1 the lowest four of ten go.
    stream, inner = [2, 3], [0, 2, 3, 5]
    assert torch.equal(model.stem.weight, residual_net.stem.weight[stream])
    assert torch.equal(model.norm.running_mean, residual_net.norm.running_mean[stream])
    assert torch.equal(model.inner.weight, residual_net.inner.weight[inner][:, stream])
    assert torch.equal(model.inner.bias, residual_net.inner.bias[inner])
    assert torch.equal(model.outer.weight, residual_net.outer.weight[stream][:, inner])
    assert torch.equal(model.depthwise.weight, residual_net.depthwise.weight[stream])
    assert torch.equal(model.head.weight, residual_net.head.weight[:, stream])
    assert (model.depthwise.groups, model.norm.num_features) == (2, 2)
    assert change.achieved["ratio"] == 0.4
    assert change.layers["inner"]["channels"] == [6, 4]
    assert change.layers["inner"]["inputs"] == [4, 2]
    assert change.layers["head"]["inputs"] == [4, 2]
    assert "head" in change.untouched
    assert change.requested == {"ratio": 0.4}


def test_the_caller_keeps_its_model(residual_net, toy_context):
    before = copy.deepcopy(residual_net.state_dict())
    Recipe((plain(ratio=0.5),)).apply(residual_net.train(), toy_context)
    assert residual_net.training
    assert all(torch.equal(v, before[k]) for k, v in residual_net.state_dict().items())


def test_numbers_of_the_account_are_those_of_the_model(residual_net, toy_context):
    from shrinkproof.artifacts.sizes import macs

    model, (change,) = Recipe((plain(ratio=0.5),)).apply(residual_net, toy_context)
    got = change.achieved
    assert got["params"] == parameters(model)
    assert got["params_before"] == parameters(residual_net)
    assert got["macs"] == macs(model, toy_context.example)
    assert got["macs_before"] == macs(residual_net, toy_context.example)
    assert got["macs_ratio"] == got["macs"] / got["macs_before"]
    assert got["params_ratio"] == got["params"] / got["params_before"]
    assert got["difference"] < 1e-5
    assert got["iterations"] == 1
    spared = sum(e["macs"][0] - e["macs"][1] for n, e in change.layers.items())
    assert spared == got["macs_before"] - got["macs"]


def test_output_is_that_of_the_net_with_silent_channels(residual_net, toy_context):
    step = plain(ratio=0.5, include=["inner"], criterion=Rising())
    model, _ = Recipe((step,)).apply(residual_net, toy_context)
    with torch.no_grad():
        residual_net.inner.weight[:3] = 0
        residual_net.inner.bias[:3] = 0
    inputs = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(model(inputs), residual_net(inputs), atol=1e-6)


def test_only_selected_layers_lose_channels(residual_net, toy_context):
    step = plain(ratio=0.5, include=["inn*", "out*"])
    _, (change,) = Recipe((step,)).apply(residual_net, toy_context)
    assert widths(change)["inner"] == [6, 3]
    assert widths(change)["outer"] == [4, 4]
    assert change.untouched["outer"] == "tied to the channels of stem, which is not selected"


def test_rounding_and_floor_hold_for_every_layer(toy_context):
    model = resnet(20).eval()
    step = ChannelPruning(ratio=0.7, floor=0.2)
    pruned, (change,) = Recipe((step,)).apply(model, toy_context)
    for name, (before, after) in widths(change).items():
        assert after % 8 == 0 or name == "linear"
        assert after >= 0.2 * before
    assert pruned(toy_context.example).shape == (1, 10)


def test_half_of_the_inner_channels_of_resnet20(toy_context):
    step = plain(ratio=0.5, scope="layer", include=["layer*.conv1"])
    model, (change,) = Recipe((step,)).apply(resnet(20).eval(), toy_context)
    assert change.achieved["params_before"] == 269_722
    assert change.achieved["params"] == parameters(model) == 135_754
    assert change.achieved["ratio"] == 0.5


def test_half_of_all_channels_of_resnet20(toy_context):
    step = ChannelPruning(ratio=0.5, scope="layer")
    model, (change,) = Recipe((step,)).apply(resnet(20).eval(), toy_context)
    # The padded stream shrinks with its stages: what is left is a ResNet-20 of width 8.
    assert parameters(model) == parameters(resnet(20, width=8))
    assert widths(change)["layer3.2.conv2"] == [64, 32]


def test_settings_of_the_first_stage_can_be_written(toy_context):
    step = plain(ratio=0.25, scope="layer", include=["layer1.*.conv1"])
    _, (change,) = Recipe((step,)).apply(resnet(20).eval(), toy_context)
    assert {n: w for n, w in widths(change).items() if w[0] != w[1]} == {
        f"layer1.{k}.conv1": [16, 12] for k in range(3)
    }


@pytest.mark.parametrize("iterations", [1, 3, "layers"])
@pytest.mark.parametrize("rescore", [True, False])
def test_restore_repeats_the_structure_without_data(toy_context, iterations, rescore):
    model = resnet(8).eval()
    step = ChannelPruning(ratio=0.5, iterations=iterations, rescore=rescore, round_to=2)
    pruned, changes = Recipe((step,)).apply(model, toy_context)
    changes = [Change.from_json(json.loads(json.dumps(c.as_json()))) for c in changes]
    restored = Recipe().restore(resnet(8).eval(), changes)
    restored.load_state_dict(pruned.state_dict(), strict=True)
    assert torch.equal(restored(toy_context.example), pruned(toy_context.example))


def test_restore_of_another_network_is_refused(toy_context):
    _, changes = Recipe((ChannelPruning(ratio=0.5),)).apply(resnet(8).eval(), toy_context)
    with pytest.raises(ModelError):
        Recipe().restore(resnet(8, width=8).eval(), changes)
    with pytest.raises(ModelError, match=r"must say in `structure.cuts` what was removed"):
        Recipe().restore(resnet(8).eval(), [replace(changes[0], structure={})])


def test_iterations_end_at_the_same_ratio(toy_context):
    model = resnet(8).eval()
    _, (first,) = Recipe((plain(ratio=0.5, criterion=Rising()),)).apply(model, toy_context)
    notes = []
    context = replace(toy_context, note=notes.append)
    step = plain(ratio=0.5, criterion=Rising(), iterations=4)
    _, (change,) = Recipe((step,)).apply(model, context)
    assert change.achieved["iterations"] == len(change.structure["cuts"]) == 4
    assert change.achieved["ratio"] == first.achieved["ratio"]
    assert len([n for n in notes if "scored" in n]) == 4


def test_scores_are_computed_once_where_that_is_asked_for(toy_context):
    model = resnet(8).eval()
    once, _ = Recipe((plain(ratio=0.5, criterion=Rising()),)).apply(model, toy_context)
    notes = []
    step = plain(ratio=0.5, criterion=Rising(), iterations=3, rescore=False)
    thrice, _ = Recipe((step,)).apply(model, replace(toy_context, note=notes.append))
    assert len(notes) == 1
    for name, value in once.state_dict().items():
        assert torch.equal(thrice.state_dict()[name], value), name


def test_layer_by_layer_pruning_trains_after_each_group(residual_net, toy_context, tmp_path):
    notes = []
    context = replace(toy_context, note=notes.append, scratch=tmp_path / "scratch")
    step = plain(
        ratio=0.5,
        scope="layer",
        iterations="layers",
        groups=2,
        finetune=Training(epochs=1, batch=16),
    )
    assert step.needs == Needs.TRAINING
    assert step.recovery == (FineTuning(epochs=1, batch=16),) * 2
    model, (change,) = Recipe((step,)).apply(residual_net, context)
    assert [n["iteration"] for n in notes if "epoch" in n] == [1, 2]
    assert {n["iterations"] for n in notes if "epoch" in n} == {2}
    assert len(change.structure["cuts"]) == 2
    assert widths(change)["inner"] == [6, 3]
    assert widths(change)["stem"] == [4, 2]
    assert len(change.achieved["finetune"]) == 2
    again, _ = Recipe((step,)).apply(residual_net, toy_context)
    assert torch.equal(again.head.weight, model.head.weight)
    assert not torch.equal(model.head.bias, residual_net.head.bias)


def test_inner_trainings_see_the_images_as_the_control_does(residual_net, toy_context):
    def parts_of(steps):
        seen = []

        def recorded(*parts):
            seen.append(parts)
            return toy_context.stream(*parts)

        Recipe(steps).apply(residual_net, replace(toy_context, stream=recorded))
        return [parts for parts in seen if parts[0] == "training"]

    step = plain(ratio=0.5, iterations=2, finetune=Training(epochs=1, batch=16))
    last = FineTuning(epochs=1, batch=16)
    assert parts_of((step, last)) == parts_of((*step.recovery, last)) != []


def test_the_number_of_groups_is_checked(residual_net, toy_context):
    step = plain(ratio=0.5, iterations="layers", groups=7, finetune=Training(epochs=1))
    with pytest.raises(CompressionError, match=r"groups must be 2, .* got 7; write groups: 2"):
        Recipe((step,)).apply(residual_net, toy_context)


def test_the_canonical_recipe_keeps_every_property(residual_net, toy_context):
    steps = (
        plain(ratio=0.5, include=["inner"]),
        WeightPruning(ratio=0.3),
        FineTuning(epochs=1, batch=16),
        Recalibration(batch=20),
        Fold(),
        Clustering(levels=4),
        StaticQuantization(),
    )
    model, changes = Recipe(steps).apply(residual_net, toy_context)
    assert model.inner.weight.shape == (3, 4, 3, 3)
    assert torch.unique(model.inner.weight).numel() <= 4
    restored = Recipe().restore(ResidualNet(), changes)
    restored.load_state_dict(model.state_dict(), strict=True)
    assert torch.equal(restored(toy_context.example), model(toy_context.example))


def test_masks_shrink_with_their_weights(residual_net, toy_context):
    steps = (WeightPruning(ratio=0.5), plain(ratio=0.5), FineTuning(epochs=1, batch=16))
    model, _ = Recipe(steps).apply(residual_net, toy_context)
    cut, _ = Recipe(steps[:2]).apply(residual_net, toy_context)
    for name in ("stem", "inner", "outer"):
        before, after = cut.get_submodule(name).weight, model.get_submodule(name).weight
        assert torch.equal(before == 0, after == 0)
        assert (after == 0).any()


def test_channels_go_from_a_folded_graph(residual_net, toy_context):
    model, _ = Recipe((Fold(), plain(ratio=0.5))).apply(residual_net, toy_context)
    assert model.stem.weight.shape[0] < 4


@pytest.mark.parametrize(
    ("earlier", "word"), [(Clustering(levels=4), "cluster"), (StaticQuantization(), "quantization")]
)
def test_clustered_and_quantized_layers_are_refused(residual_net, toy_context, earlier, word):
    model, _ = earlier.apply(residual_net, toy_context)
    with pytest.raises(CompressionError, match=rf"put prune.channels before the {word} step"):
        plain(ratio=0.5).apply(model, toy_context)
    with pytest.raises(CompressionError, match=r"put `prune.channels` before"):
        Recipe((earlier, plain(ratio=0.5))).apply(residual_net, toy_context)


def test_frozen_parameters_stay_frozen(residual_net, toy_context):
    residual_net.inner.weight.requires_grad_(False)
    model, _ = Recipe((plain(ratio=0.5),)).apply(residual_net, toy_context)
    assert not model.inner.weight.requires_grad
    assert model.outer.weight.requires_grad


def test_rounding_that_leaves_nothing_is_an_error(residual_net, toy_context):
    step = ChannelPruning(ratio=0.05, round_to=2)
    with pytest.raises(CompressionError, match=r"got none with round_to 2 and floor 0\.1 in layer"):
        Recipe((step,)).apply(residual_net, toy_context)


def test_a_criterion_that_is_defined_nowhere_is_an_error(residual_net, toy_context):
    step = plain(ratio=0.5, criterion=Given(table={}))
    with pytest.raises(CompressionError, match=r"'given' must be defined for some of the selec"):
        Recipe((step,)).apply(residual_net, toy_context)


def test_a_layer_without_scores_is_left_alone_and_said_so(residual_net, toy_context):
    table = {"stem": [1.0] * 4, "outer": [1.0] * 4}
    step = plain(ratio=0.5, criterion=Given(table=table))
    _, (change,) = Recipe((step,)).apply(residual_net, toy_context)
    assert widths(change)["inner"] == [6, 6]
    assert change.untouched["inner"] == "criterion 'given' is not defined for it"


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([-1.0, -1.0, 1.0, 1.0, 1.0, 1.0], "got 2 of 6 that are not"),
        ([1.0, 1.0], r"shape \(6,\), got \(2,\)"),
    ],
)
def test_broken_scores_are_named(residual_net, toy_context, scores, message):
    step = plain(ratio=0.5, include=["inner"], criterion=Given(table={"inner": scores}))
    with pytest.raises(CompressionError, match=f"scores of inner must.*{message}"):
        Recipe((step,)).apply(residual_net, toy_context)


@pytest.mark.parametrize("criterion", CHANNEL_CRITERIA.names())
def test_every_criterion_prunes(toy_context, criterion):
    step = ChannelPruning(ratio=0.5, criterion=criterion, round_to=4)
    model, (change,) = Recipe((step,)).apply(resnet(8).eval(), toy_context)
    assert change.achieved["params"] == parameters(model) < parameters(resnet(8))
    assert change.achieved["difference"] < 1e-5


def test_a_second_pruning_goes_on_from_the_first(toy_context):
    steps = (plain(ratio=0.5, scope="layer"),) * 2
    model, changes = Recipe(steps).apply(resnet(8).eval(), toy_context)
    assert parameters(model) == parameters(resnet(8, width=4))
    assert changes[1].achieved["params_before"] == changes[0].achieved["params"]
    restored = Recipe().restore(resnet(8).eval(), changes)
    restored.load_state_dict(model.state_dict(), strict=True)


def test_a_folded_network_with_padded_shortcuts_loses_its_stream(toy_context):
    steps = (Fold(), plain(ratio=0.5, scope="layer"))
    model, changes = Recipe(steps).apply(resnet(8).eval(), toy_context)
    assert widths(changes[1])["layer3.0.conv2"] == [64, 32]
    restored = Recipe().restore(resnet(8).eval(), changes)
    restored.load_state_dict(model.state_dict(), strict=True)
    assert torch.equal(restored(toy_context.example), model(toy_context.example))


def test_layers_that_only_train_are_named(toy_context):
    class Auxiliary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Conv2d(3, 4, 3)
            self.aside = nn.Conv2d(4, 2, 1)
            self.head = nn.Conv2d(4, 2, 1)

        def forward(self, x):
            x = self.body(x)
            return self.head(x) + self.aside(x) if self.training else self.head(x)

    _, (change,) = Recipe((plain(ratio=0.5),)).apply(Auxiliary(), toy_context)
    assert "does not run in evaluation mode" in change.untouched["aside"]


@pytest.mark.gpu
def test_another_device_gives_the_same_network(residual_net, toy_context):
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    _, (expected,) = Recipe((plain(ratio=0.5),)).apply(residual_net, toy_context)
    context = replace(toy_context, device=torch.device("cuda"))
    there, (got,) = Recipe((plain(ratio=0.5),)).apply(residual_net, context)
    assert got.layers == expected.layers
    assert all(p.is_cuda for p in there.parameters())


def test_random_channels_depend_on_the_stream_only(residual_net, toy_context):
    step = plain(ratio=0.5, criterion="random")
    one, _ = Recipe((step,)).apply(residual_net, toy_context)
    two, _ = Recipe((step,)).apply(residual_net, toy_context)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_hidden_units_of_linear_layers_are_channels(toy_context):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(144, 10),
            nn.ReLU(),
            nn.Linear(10, 3),
        )
    pruned, (change,) = Recipe((plain(ratio=0.5, scope="layer"),)).apply(model, toy_context)
    assert pruned[3].weight.shape == (5, 72)
    assert widths(change) == {"0": [4, 2], "3": [10, 5], "5": [3, 3]}


def test_a_network_with_no_channel_to_spare_is_an_error(toy_context):
    model = nn.Sequential(nn.Conv2d(3, 3, 8), nn.Flatten())
    with pytest.raises(CompressionError, match=r"must have channels that can go, got none \(0: "):
        Recipe((plain(ratio=0.5),)).apply(model, toy_context)


def test_without_any_convolution_there_is_nothing_to_do(toy_context):
    with pytest.raises(CompressionError, match="must have convolutions or fully connected"):
        Recipe((plain(ratio=0.5),)).apply(nn.Sequential(nn.Flatten()), toy_context)
