"""How much memory the candidates of a pass may fill."""

from __future__ import annotations

from typing import Final

from shrinkproof.environment import available_memory
from shrinkproof.spec.inference import Device

_SHARE: Final = 0.5
"""Part of the memory of a worker that loaded candidates may fill; the rest is for the batches."""


def room(workers: int, device: Device = "cpu") -> float:
    """Return the bytes that the loaded candidates of one piece of work may fill.

    It is a share of the memory that is free now, on this machine or in this container, divided by
    the pieces of work that share it; infinite where nobody tells how much that is.

    Args:
        workers: pieces of work that share the machine, >= 1.
        device: where candidates are loaded; on a GPU its own memory counts.
    """
    free = _on_gpu() if device == "cuda" else available_memory()
    return float("inf") if free is None else _SHARE * free / workers


def _on_gpu() -> int | None:
    import torch

    if not torch.cuda.is_available():
        return None
    # What PyTorch keeps for its next tensors is free for candidates, too.
    kept = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    return torch.cuda.mem_get_info()[0] + kept
