from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shrinkproof.compressors.channels.candidates import Producers, candidates, cells
from shrinkproof.compressors.channels.search import Goal, search_counted, search_measured
from shrinkproof.compressors.channels.selection import Cell, Family, channel_scores, relative
from shrinkproof.compressors.coupling import Axis, Coupling, LayerUse
from shrinkproof.errors import CompressionError


def coupled(layers, *, depthwise=(), locked=None):
    """Return a coupling of layers that make the given classes."""
    uses, axes = {}, {}
    for name, classes in layers.items():
        axis = Axis(f"{name}.weight", 0)
        axes[axis] = np.array(classes, dtype=np.int64)
        uses[name] = LayerUse(
            weight=axis.tensor,
            out_axis=axis,
            in_axis=None,
            kernel=1,
            groups=1,
            positions=1,
            depthwise=name in depthwise,
        )
    count = 1 + max(c for classes in layers.values() for c in classes)
    return Coupling(axes=axes, classes=count, locked=locked or {}, layers=uses, shapes={})


def found(coupling, include=("*",), exclude=()):
    return candidates(Producers.of(coupling), include, exclude)


def cell(scores, *, width=None, step=1, least=1, before=None, first=0):
    """Return a cell whose channels carry the numbers from ``first`` on."""
    scores = np.array(scores, dtype=np.float64)
    order = np.argsort(scores, kind="stable")
    return Cell(
        key=((f"layer{first}",), 1),
        group=first,
        classes=first + order.astype(np.int64),
        scores=scores[order],
        width=width or scores.size,
        step=step,
        least=least,
        before=before or scores.size,
    )


def family(*cells_, scope="global"):
    return Family(cells=cells_, scope=scope, classes=1 + max(int(c.classes.max()) for c in cells_))


def gone(fam, ratio):
    return np.flatnonzero(fam.removed(fam.counts(fam.member(ratio)))).tolist()


def test_score_of_a_tied_channel_is_the_mean_of_normalized_scores():
    axes = {"a": np.array([0, 1, 2]), "b": np.array([2, 1])}
    scores = {"a": np.array([1.0, 2.0, 3.0]), "b": np.array([30.0, 10.0])}
    scaled = {layer: relative(values) for layer, values in scores.items()}
    means = channel_scores(["a", "b"], axes, scaled, 4)
    # a / 2 = (0.5, 1, 1.5) and b / 20 = (1.5, 0.5)
    assert means[:3].tolist() == [0.5, 0.75, 1.5]
    assert np.isnan(means[3])
    plain = channel_scores(["a", "b"], axes, scores, 4)
    assert plain[:3].tolist() == [1.0, 6.0, 16.5]


def test_missing_layers_and_repeated_channels_count_with_their_mean():
    axes = {"a": np.array([0, 1]), "grouped": np.array([0, 1, 0, 1])}
    scores = {"grouped": np.array([1.0, 2.0, 3.0, 6.0])}
    means = channel_scores(["a", "grouped"], axes, scores, 2)
    assert means.tolist() == [2.0, 4.0]


def test_a_layer_of_zeros_scores_zero():
    means = channel_scores(["a"], {"a": np.array([0, 1])}, {"a": relative(np.zeros(2))}, 2)
    assert means.tolist() == [0.0, 0.0]


def test_global_ranking_mixes_layers_and_layer_ranking_does_not():
    low, high = cell([0.1, 0.2, 0.3, 0.4]), cell([1.0, 2.0, 3.0, 0.35], first=4)
    assert gone(family(low, high), 0.5) == [0, 1, 2, 7]
    assert gone(family(low, high, scope="layer"), 0.5) == [0, 1, 4, 7]


def test_ties_go_to_the_earlier_channel():
    assert gone(family(cell([1.0] * 4), cell([1.0] * 4, first=4)), 0.5) == [0, 1, 2, 4]


@pytest.mark.parametrize(
    ("width", "count", "step", "expected"),
    [
        (16, 8, 8, 8),
        (16, 3, 8, 0),  # 13 of 16 is nearer to 16
        (16, 4, 8, 0),  # 12 lies in the middle: more is kept
        (16, 5, 8, 8),
        (16, 15, 8, 8),  # never less than one multiple
        (8, 7, 8, 0),
        (7, 6, 8, 6),  # narrower than a multiple: not rounded
        (20, 0, 8, 0),  # nothing asked, nothing taken
        (20, 1, 8, 4),  # 19 is nearer to 16 than to 24
        (23, 1, 8, 0),  # 22 is nearer to 24, which there is not
    ],
)
def test_kept_channels_are_rounded_to_the_nearest_multiple(width, count, step, expected):
    assert cell(np.arange(width), step=step).rounded(count) == expected


def test_floor_is_never_rounded_away():
    # 60 % of 32 must stay: 20 channels, so 24 and not 16.
    assert cell(np.arange(32), step=8, least=20).rounded(12) == 8
    # 18 of 24 channels are locked.
    assert cell(np.arange(6), width=24, step=8).rounded(6) == 0


@given(
    width=st.integers(1, 70),
    step=st.sampled_from([1, 2, 4, 8, 16]),
    floor=st.floats(0, 1),
    locked=st.integers(0, 20),
)
def test_rounding_is_monotonic_and_keeps_its_promises(width, step, floor, locked):
    least = max(1, int(np.ceil(floor * width)))
    free = max(1, width - locked)
    c = cell(np.arange(free), width=width, step=step, least=least)
    counts = [c.rounded(n) for n in range(c.limit + 1)]
    assert counts == sorted(counts)
    assert counts[0] == 0
    for count in counts:
        kept = width - count
        assert kept >= least
        assert count <= free
        if width >= step and count:
            assert kept % step == 0


@settings(max_examples=60, deadline=None)
@given(
    widths=st.lists(st.integers(1, 20), min_size=1, max_size=5),
    scope=st.sampled_from(["global", "layer"]),
    step=st.sampled_from([1, 4]),
    seed=st.integers(0, 5),
    ratios=st.tuples(st.floats(0.01, 0.99), st.floats(0.01, 0.99)),
)
def test_removals_nest_with_growing_ratio(widths, scope, step, seed, ratios):
    rng = np.random.default_rng(seed)
    made, first = [], 0
    for width in widths:
        made.append(cell(rng.integers(0, 4, width), step=step, first=first))
        first += width
    fam = family(*made, scope=scope)
    low, high = (set(gone(fam, ratio)) for ratio in sorted(ratios))
    assert low <= high
    members = [set(np.flatnonzero(fam.removed(fam.counts(m)))) for m in range(len(fam))]
    assert all(a <= b for a, b in pairwise(members))
    if step == 1 and scope == "global":
        room = sum(c.limit for c in made)
        assert len(high) == min(room, int(max(ratios) * first + 0.5))


def test_every_cell_keeps_at_least_one_channel():
    fam = family(cell([0.0, 0.0]), cell([5.0, 6.0, 7.0], first=2))
    assert gone(fam, 0.99) == [0, 2, 3]


def test_earlier_iterations_count_towards_the_ratio():
    # 4 of 8 are gone already; 75 % of 8 are 6.
    fam = family(cell([3.0, 1.0, 2.0, 4.0], before=8))
    assert fam.gone == 4
    assert gone(fam, 0.75) == [1, 2]
    assert gone(fam, 0.4) == []
    assert gone(family(cell([3.0, 1.0, 2.0, 4.0], before=8), scope="layer"), 0.75) == [1, 2]


def test_channels_of_a_padded_stream_form_one_cell_for_each_set_of_producers():
    stream = {"stage1": [0, 1], "stage2": [2, 0, 1, 3], "stage3": [4, 5, 2, 0, 1, 3, 6, 7]}
    coupling = coupled(stream)
    scores = np.array([5.0, 1.0, 2.0, 3.0, 9.0, 8.0, 7.0, 6.0])
    made = cells(found(coupling), scores, round_to=2, floor=0.5, before={})
    assert [c.key[0] for c in made] == [
        ("stage1", "stage2", "stage3"),
        ("stage2", "stage3"),
        ("stage3",),
    ]
    assert [c.classes.tolist() for c in made] == [[1, 0], [2, 3], [7, 6, 5, 4]]
    assert [(c.width, c.least, c.step, c.group) for c in made] == [
        (2, 1, 2, 0),
        (2, 1, 2, 0),
        (4, 2, 2, 0),
    ]


def test_grouped_channels_are_rounded_by_what_the_layer_keeps():
    coupling = coupled({"grouped": [0, 1, 2, 0, 1, 2]})
    (made,) = cells(found(coupling), np.arange(3.0), round_to=8, floor=0, before={})
    assert made.step == 4
    assert made.key == (("grouped",), 2)


def test_floor_counts_from_the_first_iteration():
    coupling = coupled({"a": [0, 1, 2, 3]})
    (made,) = cells(
        found(coupling), np.arange(4.0), round_to=1, floor=0.25, before={(("a",), 1): (12, 12)}
    )
    assert (made.least, made.gone, made.limit) == (3, 8, 1)


def test_a_channel_goes_only_if_all_its_producers_are_selected():
    layers = {"conv1": [0, 1], "block.conv1": [2, 3], "block.conv2": [0, 1]}
    inner = found(coupled(layers), ["block.*"])
    assert inner.layers == ("block.conv1",)
    assert inner.open.tolist() == [False, False, True, True]
    assert inner.untouched == {
        "block.conv2": "tied to the channels of conv1, which is not selected"
    }
    assert found(coupled(layers), ["*"], ["block.conv1"]).layers == ("conv1", "block.conv2")


def test_a_depthwise_layer_is_no_producer_but_can_be_excluded():
    coupling = coupled({"a": [0, 1], "dw": [0, 1], "b": [2, 3]}, depthwise=("dw",))
    assert found(coupling).layers == ("a", "b")
    assert found(coupling, ["a", "b"]).layers == ("a", "b")
    assert found(coupling, ["*"], ["dw"]).layers == ("b",)
    with pytest.raises(CompressionError, match=r"got 'dw': tied to the channels of a, which"):
        found(coupling, ["dw"])


def test_locked_channels_stay_and_the_reason_is_told():
    coupling = coupled(
        {"a": [0, 1], "b": [2, 3], "head": [4, 5]},
        locked={1: "softmax over channels", 4: "model output", 5: "model output"},
    )
    open_ = found(coupling)
    assert open_.layers == ("a", "b")
    assert open_.untouched == {
        "a": "1 of 2 channels: softmax over channels",
        "head": "model output",
    }


def test_a_locked_layer_that_is_named_is_an_error():
    coupling = coupled({"a": [0], "head": [1]}, locked={1: "its channels are the model's outputs"})
    with pytest.raises(CompressionError, match=r"got 'head': its channels are the model's out"):
        found(coupling, ["a", "head"])
    with pytest.raises(CompressionError, match=r"channels that can go, got none \(head: its"):
        found(coupling, ["h*"])
    with pytest.raises(CompressionError, match=r"got 'x\.', which matches none"):
        found(coupling, ["x."])


def test_counted_targets_are_met_by_the_largest_network():
    fam = family(cell(np.arange(10)))
    goal = Goal("macs", 0.55, "raise it")
    assert search_counted(fam, lambda m: 1 - m / 10, goal) == 5
    with pytest.raises(CompressionError, match=r"target macs .* got 0\.05 .* has 0\.1; raise it"):
        search_counted(fam, lambda m: 1 - m / 10, Goal("macs", 0.05, "raise it"))


def measured(fam, value, limit):
    """Return what a search finds and which members it measured."""
    seen = []

    def measure(member):
        seen.append(member)
        return value(member)

    result = search_measured(
        fam, lambda m: 1 - m / len(fam), measure, Goal("bytes", limit, "raise it")
    )
    return result, seen


def test_a_linear_size_is_found_with_few_measurements():
    fam = family(cell(np.arange(1000)))
    (member, value), seen = measured(fam, lambda m: 5000 - 4 * m, 3001)
    assert (member, value) == (500, 3000)
    assert len(seen) <= 5


def test_a_measured_goal_is_met_within_the_noise():
    fam = family(cell(np.arange(1000)))
    seen = []

    def measure(member):
        seen.append(member)
        return (1 - member / 1000) ** 1.5

    goal = Goal("latency_ratio", 0.5, "raise it", noise=0.1)
    member, value = search_measured(fam, lambda m: 1 - m / 1000, measure, goal)
    assert 0.45 <= value == (1 - member / 1000) ** 1.5 <= 0.5
    assert len(seen) == 4


@settings(max_examples=40, deadline=None)
@given(limit=st.floats(0.25, 0.99), bend=st.floats(0.5, 3))
def test_a_bent_curve_is_met_and_nearly_exhausted(limit, bend):
    fam = family(cell(np.arange(200)))
    (member, value), seen = measured(fam, lambda m: (1 - m / 200) ** bend, limit)
    assert value <= limit
    assert len(seen) <= 10
    assert (1 - (member - 8) / 200) ** bend > limit or member <= 8


def test_a_model_that_meets_a_measured_target_is_left_alone():
    (member, value), seen = measured(family(cell(np.arange(9))), lambda m: 10, 20)
    assert (member, value, seen) == (0, 10, [0])


def test_an_unreachable_measured_target_names_the_smallest():
    with pytest.raises(CompressionError, match=r"got 1 where the smallest network has 92"):
        measured(family(cell(np.arange(9))), lambda m: 100 - m, 1)


def test_noise_cannot_make_a_search_endless():
    rng = np.random.default_rng(0)
    fam = family(cell(np.arange(500)))
    (_, value), seen = measured(fam, lambda m: 1 - m / 500 + rng.normal(0, 0.05), 0.5)
    assert value <= 0.5
    assert len(seen) <= 10
