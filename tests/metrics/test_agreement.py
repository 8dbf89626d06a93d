"""Numbers about heat maps: by hand, in parts, with controls, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from shrinkproof.errors import DataError
from shrinkproof.metrics.agreement import METRICS, Agreement, of_other_images
from shrinkproof.metrics.heatmaps import HeatMaps
from shrinkproof.metrics.similarity import pearson
from shrinkproof.protocols import Measurement

COUNT = 60


def heat_maps(own: np.ndarray, **changes) -> HeatMaps:
    count = len(own)
    values = {
        "method": "gradcam",
        "layer": "layer3",
        "resolution": (8, 8),
        "maps": {"own": own},
        "index": np.arange(count),
        "explained": np.arange(count) % 3,
        "target": np.zeros(count, dtype=np.int64),
    }
    return HeatMaps(**{**values, **changes})


def random_maps(seed: int, count: int = COUNT) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 8, 8)).astype(np.float32)


def found(numbers: list[Measurement], metric: str, part: str = "") -> Measurement:
    (hit,) = [m for m in numbers if (m.metric, m.slice) == (metric, part)]
    return hit


def test_numbers_are_those_of_the_defined_images() -> None:
    own, base = random_maps(0), random_maps(1)
    own[:6] = 0
    numbers = Agreement().numbers(heat_maps(own), heat_maps(base))
    r = pearson(own, base)
    assert np.isnan(r).sum() == 6
    hcc = found(numbers, "saliency.hcc")
    assert hcc.value == pytest.approx(np.nanmean(r))
    assert (hcc.count, hcc.interval) == (54, "bootstrap-percentile")
    assert hcc.low < hcc.value < hcc.high
    assert "6 of 60 images undefined: a map is constant" in hcc.reason
    assert "gradcam at layer layer3, 8x8 places" in hcc.reason
    assert found(numbers, "saliency.hcc_spread").value == pytest.approx(np.nanstd(r, ddof=1))
    assert found(numbers, "saliency.hcc_zero").value == pytest.approx(np.nan_to_num(r).mean())
    undefined = found(numbers, "saliency.undefined")
    assert (undefined.value, undefined.count, undefined.interval) == (0.1, 60, "clopper-pearson")


def test_parts_are_about_the_images_that_the_baseline_gets_right_and_wrong() -> None:
    own, base = random_maps(0), random_maps(1)
    numbers = Agreement().numbers(heat_maps(own), heat_maps(base))
    r = pearson(own, base)
    right = np.arange(COUNT) % 3 == 0
    for part, chosen in (("baseline=right", right), ("baseline=wrong", ~right)):
        hcc = found(numbers, "saliency.hcc", part)
        assert hcc.value == pytest.approx(r[chosen].mean())
        assert hcc.count == chosen.sum()


def test_maps_that_are_all_constant_leave_no_number_and_say_why() -> None:
    numbers = Agreement().numbers(
        heat_maps(np.zeros((COUNT, 8, 8), np.float32)), heat_maps(random_maps(1))
    )
    for metric in METRICS:
        number = found(numbers, metric)
        if metric in ("saliency.undefined", "saliency.hcc_zero"):
            assert number.value == (metric == "saliency.undefined")
        else:
            assert number.value is None
            assert "undefined for all images: in each pair a map is constant" in number.reason


def test_a_baseline_beside_itself_is_wholly_alike_and_has_its_controls() -> None:
    maps = random_maps(0)
    baseline = heat_maps(
        maps,
        maps={"own": maps, "randomized": random_maps(1), "twin": 0.5 * maps + random_maps(2)},
        twin="other/baseline",
    )
    numbers = Agreement().numbers(baseline, baseline)
    hcc = found(numbers, "saliency.hcc")
    assert hcc.value == 1
    assert hcc.low is None
    assert "every image has the same value" in hcc.reason
    assert abs(found(numbers, "saliency.hcc", "control=randomized").value) < 0.1
    assert abs(found(numbers, "saliency.hcc", "control=other-image").value) < 0.1
    twin = found(numbers, "saliency.hcc", "control=twin")
    assert 0.3 < twin.value < 0.6
    assert "other/baseline, trained independently" in twin.reason


def test_only_the_baseline_has_the_control_of_other_images() -> None:
    numbers = Agreement().numbers(heat_maps(random_maps(0)), heat_maps(random_maps(0)))
    assert not [m for m in numbers if m.slice.startswith("control=")]


def test_halves_of_the_masks_tell_how_reliable_a_map_is() -> None:
    shape = random_maps(0)
    halves = {f"half{k}": shape + 0.1 * random_maps(k + 1) for k in (0, 1)}
    maps = heat_maps(shape, maps={"own": shape, **halves})
    numbers = Agreement().numbers(maps, heat_maps(random_maps(9)))
    expected = pearson(halves["half0"], halves["half1"]).mean()
    assert found(numbers, "saliency.hcc", "control=split-half").value == pytest.approx(expected)


def test_a_control_that_could_not_be_made_says_why() -> None:
    maps = heat_maps(random_maps(0), missing={"twin": "its maps are 4x4 and the baseline's 8x8"})
    number = found(Agreement().numbers(maps, maps), "saliency.hcc", "control=twin")
    assert number.value is None
    assert "no twin control: its maps are 4x4" in number.reason


def test_every_image_is_paired_with_another_one() -> None:
    maps = random_maps(0, 7)
    others = of_other_images(maps, np.arange(7))
    assert not any(np.array_equal(a, b) for a, b in zip(maps, others, strict=True))
    assert sorted(others[:, 0, 0].tolist()) == sorted(maps[:, 0, 0].tolist())


def test_methods_after_the_first_stand_in_the_names() -> None:
    maps = heat_maps(random_maps(0), method="rise", layer="")
    numbers = Agreement(label="rise").numbers(maps, maps)
    assert {m.metric.partition("[")[2] for m in numbers} == {"method=rise]"}
    assert Agreement(label="rise").versions() != Agreement().versions()


def test_groups_are_resampled_whole() -> None:
    groups = np.repeat([f"scene{k}" for k in range(3)], COUNT // 3)
    maps = heat_maps(random_maps(0), groups=groups)
    hcc = found(Agreement().numbers(maps, heat_maps(random_maps(1))), "saliency.hcc")
    assert hcc.low is None
    assert "needs at least 30 groups, got 3" in hcc.reason


def test_small_maps_without_a_layer_carry_a_warning() -> None:
    maps = heat_maps(random_maps(0), layer="", resolution=(7, 7))
    assert "below 8x8 places" in found(Agreement().numbers(maps, maps), "saliency.hcc").reason


def test_the_common_number_is_about_images_that_all_have() -> None:
    own, base = random_maps(0), random_maps(1)
    r, other = pearson(own, base), pearson(random_maps(2), base)
    other[:10] = np.nan
    about = heat_maps(own).about
    number = Agreement().common(r, [r, other], heat_maps(base), about)
    assert number.value == pytest.approx(r[10:].mean())
    assert (number.metric, number.count, number.basis) == ("saliency.hcc_common", 50, "derived")
    assert "50 of 60 images are defined for all 2 candidates" in number.reason
    assert "gradcam at layer layer3" in number.reason
    none = Agreement().common(r, [r, np.full(COUNT, np.nan)], heat_maps(base), about)
    assert none.value is None
    assert "0 of 60 images are defined for all 2 candidates" in none.reason


def test_maps_too_small_for_a_window_say_so_and_not_that_they_are_constant() -> None:
    own, base = (random_maps(seed)[:, :3, :3] for seed in (0, 1))
    numbers = Agreement().numbers(heat_maps(own), heat_maps(base))
    assert found(numbers, "saliency.hcc").value is not None
    ssim = found(numbers, "saliency.ssim")
    assert ssim.value is None
    assert "fewer than 4 rows or columns" in ssim.reason
    assert "constant" not in ssim.reason


def test_a_part_without_images_says_so() -> None:
    maps = heat_maps(random_maps(0), explained=np.zeros(COUNT, dtype=np.int64))
    numbers = Agreement().numbers(maps, heat_maps(random_maps(1), explained=maps.explained))
    wrong = found(numbers, "saliency.hcc", "baseline=wrong")
    assert (wrong.value, wrong.count) == (None, 0)
    assert "there is no image that the baseline gets wrong" in wrong.reason


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"index": np.arange(COUNT) + 1}, "the same images in the same order"),
        ({"explained": np.zeros(COUNT, np.int64)}, "the same class of each image"),
        ({"method": "rise"}, "made by one method"),
        ({"maps": {"own": random_maps(0)[:, :4, :4]}}, "same resolution"),
    ],
)
def test_maps_that_do_not_belong_together_are_refused(change, message: str) -> None:
    maps = heat_maps(random_maps(0))
    with pytest.raises(DataError, match=message):
        Agreement().numbers(replace(maps, **change), maps)


def test_columns_of_other_lengths_are_refused() -> None:
    with pytest.raises(DataError, match="target must have one entry per image"):
        heat_maps(random_maps(0), target=np.zeros(3, np.int64))
    with pytest.raises(DataError, match="must have the candidate's own"):
        heat_maps(random_maps(0), maps={})
