"""Read a pickle of plain values and numpy arrays without running anything it names."""

from __future__ import annotations

import io
import math
import pickle
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import DataError


def load_plain_pickle(path: Path) -> dict[Any, Any]:
    """Return a pickled dictionary of plain values and arrays of numbers.

    A pickle can name any function to be called on loading. Here the only names admitted are those
    that such dictionaries are made of, as Python 2 and 3 and numpy 1 and 2 spell them, and even
    these are answered by stand-ins of ours, so damage cannot reach numpy's own code. Texts of
    Python 2 come as bytes.

    Raises:
        DataError: the file cannot be read, is damaged, holds something else, or names anything
            else.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    try:
        # First of all, lest a name that is cut short look like a forbidden one.
        if not content.endswith(pickle.STOP):
            raise EOFError("no end mark")
        value = _PlainUnpickler(io.BytesIO(content), path).load()
        if not isinstance(value, dict):
            raise DataError(f"{path}: must hold a dictionary, got {type(value).__name__}")
        return {key: v.array() if isinstance(v, _Array) else v for key, v in value.items()}
    except _BROKEN as error:
        raise DataError(
            f"{path}: must be a complete pickle of arrays and labels, got {len(content)} bytes "
            f"that break off or make no sense ({type(error).__name__}: {error}); "
            f"copy or download the file again"
        ) from error


_BROKEN: Final = (
    pickle.UnpicklingError,
    struct.error,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    TypeError,
    ValueError,
)
"""What the unpickler raises on damaged input."""

_NUMBERS: Final = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")


class _Type:
    """Stand in for ``numpy.dtype``: the type of plain numbers, nothing else."""

    def __init__(self, code: str | bytes, *_: object) -> None:
        text = code.decode("ascii") if isinstance(code, bytes) else code
        if not _NUMBERS.fullmatch(text):
            raise ValueError(f"{text!r} is no type of plain numbers")
        self.dtype = np.dtype(text)

    def fill(self, state: Any) -> None:
        order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
        if order not in ("<", ">", "|", "="):
            raise ValueError(f"{order!r} is no order of bytes")
        if order in ("<", ">"):
            self.dtype = self.dtype.newbyteorder("<" if order == "<" else ">")


class _Array:
    """Stand in for ``numpy.ndarray``: shape, type and bytes, checked before use."""

    def __init__(self) -> None:
        self._array: NDArray[Any] | None = None

    def fill(self, state: Any) -> None:
        _, shape, kind, is_fortran, content = state
        if not isinstance(content, bytes) or any(side < 0 for side in shape):
            raise ValueError("an array must have sides and bytes")
        if len(content) != math.prod(shape) * kind.dtype.itemsize:
            raise ValueError(f"an array of {shape} {kind.dtype} cannot have {len(content)} bytes")
        flat = np.frombuffer(content, dtype=kind.dtype)
        self._array = flat.reshape(shape, order="F" if is_fortran else "C")

    def array(self) -> NDArray[Any]:
        if self._array is None:
            raise ValueError("an array has no content")
        return self._array


def _reconstruct(kind: object, *_: object) -> _Array:
    """Stand in for numpy's function: the empty array that its state then fills."""
    if kind is not _Array:
        raise ValueError(f"an array cannot be a {kind!r}")
    return _Array()


def _scalar(kind: _Type, content: bytes) -> Any:
    """Stand in for numpy's function: one number from its bytes."""
    (number,) = np.frombuffer(content, dtype=kind.dtype)
    return number


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Stand in for ``_codecs.encode``, by which Python 3 writes bytes into old protocols."""
    if encoding != "latin1":
        raise ValueError(f"encoding {encoding!r} has no place here")
    return text.encode("latin1")


def _empty_bytes() -> bytes:
    """Stand in for ``bytes``, by which Python 3 writes empty bytes into old protocols."""
    return b""


_ADMITTED: Final[dict[tuple[str, str], Callable[..., Any]]] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _empty_bytes,
    ("builtins", "bytes"): _empty_bytes,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
}


class _PlainUnpickler(pickle._Unpickler):
    # Not the C unpickler: that allocates gigabytes where damage makes a memo index large.

    dispatch = dict(pickle._Unpickler.dispatch)
    stack: list[Any]

    def __init__(self, file: io.BytesIO, path: Path) -> None:
        super().__init__(file, encoding="bytes")
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        """Return a stand-in for an admitted name; a pickle may use no other."""
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise DataError(
                f"{self._path}: must hold only arrays and plain values, but it names "
                f"{module}.{name}, which would run code; it is not loaded"
            ) from None

    def persistent_load(self, pid: Any) -> Any:
        """Refuse references to objects outside the file."""
        raise DataError(f"{self._path}: must be complete, but it refers to an outside object {pid}")

    def load_build(self) -> None:
        """Fill a stand-in; nothing else has a state to be set."""
        state = self.stack.pop()
        target = self.stack[-1]
        if not isinstance(target, _Array | _Type):
            raise pickle.UnpicklingError(f"a {type(target).__name__} has no state")
        target.fill(state)

    dispatch[pickle.BUILD[0]] = load_build  # type: ignore[assignment]  # takes any unpickler
