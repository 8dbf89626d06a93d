"""Torch's own randomness (dropout, initialization) from a stream, the global state untouched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


@contextmanager
def private_seed(rng: np.random.Generator, device: torch.device) -> Iterator[None]:
    """Seed torch from a generator for a while; its global random state is put back afterwards.

    Args:
        rng: gives the seed.
        device: where random numbers are drawn besides the CPU.
    """
    import torch

    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(int(rng.integers(2**63)))
        yield
