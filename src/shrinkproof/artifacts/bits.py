"""Unsigned integers of 1 to 16 bits without gaps between them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import ExportError

# Shape suffixes: N values, G groups of eight values, which fill a whole number of bytes.

WIDEST: Final = 16
CHUNK: Final = 1 << 14
"""Groups treated at once: their temporary arrays stay in the cache of one core."""


def bits_for(count: int) -> int:
    """Return how many bits tell ``count`` values apart: the logarithm to base 2, rounded up."""
    return max(count - 1, 0).bit_length()


def packed_bytes(count: int, bits: int) -> int:
    """Return how many bytes ``count`` integers of ``bits`` bits take."""
    return (count * bits + 7) // 8


def pack_bits(values: NDArray[np.unsignedinteger], bits: int) -> NDArray[np.uint8]:
    """Return integers as a stream of bits, the first value and the lowest bit of each first.

    Value ``i`` takes the bits ``i * bits`` to ``(i + 1) * bits - 1`` of the stream; bit ``b`` of
    the stream is bit ``b % 8`` of byte ``b // 8``. At 4 bits that is the order of ONNX. The last
    byte is filled with zeros.

    Args:
        values: any shape, 0 to ``2 ** bits - 1``; taken row by row.
        bits: of one integer, 1 to 16.

    Returns:
        ``packed_bytes(values.size, bits)`` bytes.

    Raises:
        ExportError: the width is not 1 to 16, or a value does not fit into it.
    """
    _check_width(bits)
    flat_N = values.reshape(-1)
    highest = int(flat_N.max(initial=0))
    if highest >> bits:
        raise ExportError(
            f"packing: values must be 0 to {2**bits - 1} to fit into {bits} bits, got {highest}"
        )
    packed = np.zeros((_groups(flat_N.size), bits), np.uint8)
    for groups, part_N in _chunks(flat_N.size):
        part_G8 = _whole_groups(flat_N[part_N]).astype(np.uint16)
        for byte in range(bits):
            for position, shift in _values_in(byte, bits):
                value_G = part_G8[:, position]
                moved_G = value_G << shift if shift >= 0 else value_G >> -shift
                packed[groups, byte] |= moved_G.astype(np.uint8)
    return packed.reshape(-1)[: packed_bytes(flat_N.size, bits)]


def unpack_bits(packed: NDArray[np.uint8], bits: int, count: int) -> NDArray[np.unsignedinteger]:
    """Return the integers that `pack_bits` made a stream of.

    Args:
        packed: ``packed_bytes(count, bits)`` bytes.
        bits: of one integer, 1 to 16.
        count: number of integers.

    Returns:
        (count,) uint8 for up to 8 bits, else uint16.

    Raises:
        ExportError: the width is not 1 to 16, or the number of bytes does not belong to it.
    """
    _check_width(bits)
    if packed.ndim != 1 or packed.size != packed_bytes(count, bits):
        raise ExportError(
            f"unpacking: {count} integers of {bits} bits must take {packed_bytes(count, bits)} "
            f"bytes, got an array of shape {packed.shape}"
        )
    values = np.empty((_groups(count), 8), np.uint8 if bits <= 8 else np.uint16)
    mask = 2**bits - 1
    for groups, _ in _chunks(count):
        part_GB = _padded(packed[groups.start * bits : groups.stop * bits], bits)
        for position in range(8):
            first, shift = divmod(position * bits, 8)
            wide_G = part_GB[:, first].astype(np.uint32)
            for further in range(1, (shift + bits + 7) // 8):
                wide_G |= part_GB[:, first + further].astype(np.uint32) << (8 * further)
            values[groups, position] = (wide_G >> shift) & mask
    return values.reshape(-1)[:count]


def _check_width(bits: int) -> None:
    if not 1 <= bits <= WIDEST:
        raise ExportError(f"packing: the width must be 1 to {WIDEST} bits, got {bits}")


def _groups(count: int) -> int:
    return (count + 7) // 8


def _chunks(count: int) -> Iterator[tuple[slice, slice]]:
    """Yield the groups of a chunk and the values in them."""
    for start in range(0, _groups(count), CHUNK):
        stop = min(start + CHUNK, _groups(count))
        yield slice(start, stop), slice(8 * start, 8 * stop)


def _values_in(byte: int, bits: int) -> Iterator[tuple[int, int]]:
    """Yield which of eight values reach into a byte, and how far to the left they are moved."""
    for position in range(8 * byte // bits, (8 * byte + 7) // bits + 1):
        yield position, position * bits - 8 * byte


def _whole_groups(values_N: NDArray[np.unsignedinteger]) -> NDArray[np.unsignedinteger]:
    missing = -values_N.size % 8
    return (np.pad(values_N, (0, missing)) if missing else values_N).reshape(-1, 8)


def _padded(packed: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    missing = -packed.size % bits
    return (np.pad(packed, (0, missing)) if missing else packed).reshape(-1, bits)
