"""Smaller batches where a whole one does not fit into memory."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_NAMES: Final = ("OutOfMemoryError", "MemoryError", "_ArrayMemoryError")
"""Classes of errors that say it by their name: those of Python, NumPy and PyTorch."""

_PHRASES: Final = (
    "not enough memory",  # PyTorch on a CPU, of Windows
    "out of memory",
    "failed to allocate memory",  # ONNX Runtime
    "bad_alloc",  # C++, through any of them
    "can't allocate memory",  # PyTorch on a CPU
    "cannot allocate memory",
    "could not create a memory object",  # oneDNN below PyTorch
    "alloc_failed",  # cuBLAS and cuDNN
)
"""What other errors say, in lower case."""


def is_out_of_memory(error: BaseException | None) -> bool:
    """Return whether an error, or what it came from, says that there was too little memory."""
    while error is not None:
        if type(error).__name__ in _NAMES:
            return True
        if any(phrase in str(error).lower() for phrase in _PHRASES):
            return True
        error = error.__cause__ or error.__context__
    return False


class Halving:
    """Predicts in batches as large as memory allows.

    A batch that does not fit is halved until it does, and later batches begin at the size that
    worked. Outputs then differ in their last bits from those of whole batches, so `note` says it.

    Args:
        predict: (n, C, H, W) -> (n, ...) float32.
    """

    def __init__(self, predict: Callable[[Any], NDArray[np.float32]]) -> None:
        self._predict = predict
        self._largest: int | None = None
        self._first = 0

    @property
    def note(self) -> str:
        """What a reader must know; empty where every batch was predicted as a whole."""
        if self._largest is None:
            return ""
        return (
            f"batch halved to {self._largest} after out of memory; differs in the last bits from "
            f"batches of {self._first}"
        )

    def __call__(self, inputs: Any) -> NDArray[np.float32]:
        """Return the outputs (n, ...) of inputs (n, C, H, W), in one or several batches.

        Raises:
            Exception: what ``predict`` raises, also where a single image needs too much memory.
        """
        if self._largest is None or self._largest >= len(inputs):
            whole = self._attempt(inputs)
            if whole is not None:
                return whole
        return np.concatenate(list(self._parts(inputs)))

    def _parts(self, inputs: Any) -> Iterator[NDArray[np.float32]]:
        start = 0
        while start < len(inputs):
            assert self._largest is not None, "only too large a batch is taken in parts"
            part = inputs[start : start + self._largest]
            found = self._attempt(part)
            if found is not None:
                yield found
                start += len(part)

    def _attempt(self, inputs: Any) -> NDArray[np.float32] | None:
        """Return the outputs of a batch, or None after making batches smaller."""
        try:
            return self._predict(inputs)
        except Exception as error:
            if len(inputs) <= 1 or not is_out_of_memory(error):
                raise
        # Only here, where the error is gone with the arrays of its frames, is memory given back.
        self._first = self._first or len(inputs)
        self._largest = len(inputs) // 2
        _free()
        return None


def _free() -> None:
    """Give back what caches hold."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
