"""Integers without gaps: laid out as stated, and exactly what went in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shrinkproof.artifacts.bits import CHUNK, bits_for, pack_bits, packed_bytes, unpack_bits
from shrinkproof.errors import ExportError


@pytest.mark.parametrize(
    ("count", "bits"), [(0, 0), (1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (16, 4), (17, 5), (256, 8)]
)
def test_bits_tell_so_many_values_apart(count, bits):
    assert bits_for(count) == bits


@pytest.mark.parametrize(
    ("values", "bits", "expected"),
    [
        ([1, 0, 1, 1], 1, [0b00001101]),
        ([1, 15, 9], 4, [0xF1, 0x09]),
        # 00011 | 11101 << 5 | 10000 << 10: bits 0 to 14.
        ([3, 29, 16], 5, [0b10100011, 0b01000011]),
        ([0x123, 0xABC], 12, [0x23, 0xC1, 0xAB]),
        ([0x1234], 16, [0x34, 0x12]),
    ],
)
def test_layout_by_hand(values, bits, expected):
    packed = pack_bits(np.array(values, np.uint16), bits)
    assert packed.dtype == np.uint8
    assert packed.tolist() == expected


@given(
    bits=st.integers(1, 16),
    count=st.sampled_from([0, 1, 7, 8, 9, 63, 1000]),
    seed=st.integers(0, 100),
)
def test_what_went_in_comes_out(bits, count, seed):
    values = np.random.default_rng(seed).integers(0, 2**bits, count).astype(np.uint16)
    packed = pack_bits(values, bits)
    assert packed.size == packed_bytes(count, bits) == -(-count * bits // 8)
    back = unpack_bits(packed, bits, count)
    assert back.dtype == (np.uint8 if bits <= 8 else np.uint16)
    np.testing.assert_array_equal(back, values)


@given(bits=st.integers(1, 16), seed=st.integers(0, 100))
def test_stream_is_that_of_numpy_bit_by_bit(bits, seed):
    values = np.random.default_rng(seed).integers(0, 2**bits, 100).astype(np.uint16)
    stream = (values[:, None] >> np.arange(bits)) & 1
    expected = np.packbits(stream.astype(np.uint8).ravel(), bitorder="little")
    np.testing.assert_array_equal(pack_bits(values, bits), expected)


@pytest.mark.parametrize("bits", [3, 8, 11])
def test_several_chunks_join_without_a_seam(bits):
    values = np.random.default_rng(0).integers(0, 2**bits, 8 * CHUNK + 5).astype(np.uint16)
    packed = pack_bits(values.reshape(-1, 1), bits)
    np.testing.assert_array_equal(unpack_bits(packed, bits, values.size), values)


@pytest.mark.parametrize("bits", [0, 17])
def test_other_widths_are_refused(bits):
    with pytest.raises(ExportError, match=f"1 to 16 bits, got {bits}"):
        pack_bits(np.zeros(3, np.uint8), bits)
    with pytest.raises(ExportError, match=f"1 to 16 bits, got {bits}"):
        unpack_bits(np.zeros(3, np.uint8), bits, 1)


def test_value_that_does_not_fit_is_refused():
    with pytest.raises(ExportError, match="0 to 7 to fit into 3 bits, got 8"):
        pack_bits(np.array([1, 8], np.uint8), 3)


def test_wrong_number_of_bytes_is_refused():
    with pytest.raises(ExportError, match=r"10 integers of 5 bits must take 7 bytes.*\(6,\)"):
        unpack_bits(np.zeros(6, np.uint8), 5, 10)
