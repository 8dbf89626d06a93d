"""From raw random words to numbers: no bit twice, right distributions, one stream per image."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from shrinkproof.corruptions import draws as drawing
from shrinkproof.corruptions.draws import bits, lookup, normal, unit
from shrinkproof.randomness import Streams


class CountingWords:
    """Streams whose bytes are 0, 1, 2, ... so that each can be recognized."""

    def __len__(self) -> int:
        return 1

    def words(self, count: int) -> np.ndarray:
        return np.arange(8 * count, dtype=np.uint8).view("<u8")[None]


def test_each_random_bit_is_used_once() -> None:
    wanted = {"a": (np.uint16, (3, 5)), "b": (np.uint8, (9,)), "c": (np.uint32, (7, 1, 2))}
    found = bits(CountingWords(), **wanted)
    used = np.concatenate([found[name].reshape(-1).view(np.uint8) for name in wanted])
    assert len(used) == 30 + 9 + 56
    assert len(np.unique(used)) == len(used)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.uint64])
@pytest.mark.parametrize("shape", [(), (1,), (5,), (3, 7, 3)])
def test_types_and_shapes(dtype: type, shape: tuple[int, ...]) -> None:
    for count in (0, 1, 4):
        streams = Streams((0, "x"), np.arange(count))
        found = bits(streams, one=(dtype, shape), two=(np.uint16, (2,)))
        assert found["one"].shape == (count, *shape)
        assert found["one"].dtype == dtype
        assert found["two"].shape == (count, 2)


def test_numbers_are_uniform() -> None:
    values = bits(Streams((3, "uniform"), np.arange(50)), u=(np.uint16, (2000,)))["u"].ravel()
    for part in (values >> 8, values & 255):
        # Fails by chance once in 10,000 seeds; this seed is fixed.
        assert stats.chisquare(np.bincount(part, minlength=256)).pvalue > 1e-4
    wide = bits(Streams((3, "uniform"), np.arange(50)), u=(np.uint32, (2000,)))["u"]
    assert stats.kstest(unit(wide).ravel(), "uniform").pvalue > 1e-4


def test_images_and_purposes_have_streams_of_their_own() -> None:
    wanted = {"u": (np.uint16, (4000,))}
    first = bits(Streams((0, "x"), np.arange(2)), **wanted)["u"].astype(float)
    other = bits(Streams((1, "x"), np.arange(2)), **wanted)["u"].astype(float)
    for a, b in ((first[0], first[1]), (first[0], other[0]), (first[0, 1:], first[0, :-1])):
        assert abs(np.corrcoef(a, b)[0, 1]) < 4 / len(a) ** 0.5


def test_the_draws_of_an_image_do_not_depend_on_the_batch() -> None:
    index = np.array([9, 0, 2**40, 3, 5])
    wanted = {"a": (np.uint16, (11,)), "b": (np.uint32, (4, 3))}
    whole = bits(Streams((0, "x"), index), **wanted)
    for some in ([0], [4, 2], [3, 1, 0, 2, 4]):
        part = bits(Streams((0, "x"), index[some]), **wanted)
        for name, values in part.items():
            np.testing.assert_array_equal(values, whole[name][some])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_unit_is_from_0_to_below_1(dtype: type) -> None:
    size = 8 * np.dtype(dtype).itemsize
    ends = unit(np.array([0, 1, 2 ** (size - 1), 2**size - 1], dtype=dtype))
    assert ends.dtype == np.float64
    assert ends.tolist() == [0.0, 0.5**size, 0.5, 1 - 0.5**size]


def test_normal_numbers() -> None:
    numbers = normal(np.arange(2**16, dtype=np.uint16))
    assert numbers.dtype == np.float32
    assert (np.diff(numbers) > 0).all()
    np.testing.assert_array_equal(numbers, -numbers[::-1])
    assert numbers.max() < 4.4
    exact = numbers.astype(np.float64)
    assert abs(exact.mean()) < 1e-6
    assert abs((exact**2).mean() - 1) < 1e-6
    assert abs((exact**3).mean()) < 1e-6
    assert abs((exact**4).mean() - 3) < 2e-4
    steps = np.arange(2**16 + 1) / 2**16
    reached = stats.norm.cdf(exact)
    assert max(np.abs(reached - steps[:-1]).max(), np.abs(reached - steps[1:]).max()) < 1e-5


@pytest.mark.parametrize("shape", [(2**16,), (256, 256), (2, 64, 512), (4, 4096, 4), (0,), (0, 3)])
@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_lookup_with_and_without_opencv(
    shape: tuple[int, ...], dtype: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    table = rng.integers(-(2**31), 2**31, 2**16).astype(dtype)
    values = np.resize(rng.permutation(2**16).astype(np.uint16), shape)
    expected = table[values]
    drawing._opencv_looks_up_16_bits.cache_clear()
    np.testing.assert_array_equal(lookup(table, values), expected)
    monkeypatch.setattr(drawing, "_opencv_looks_up_16_bits", lambda: False)
    np.testing.assert_array_equal(lookup(table, values), expected)
    assert lookup(table, values).dtype == dtype
