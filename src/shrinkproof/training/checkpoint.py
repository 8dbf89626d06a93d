"""The state of a training on disk, so that it goes on after a kill as if nothing had happened."""

from __future__ import annotations

import hashlib
import io
import pickle
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from shrinkproof.atomic import explained, replace_file
from shrinkproof.records import Json, key_of

if TYPE_CHECKING:
    from torch import nn

INTERVAL: Final = 20.0
"""Seconds that must have passed since the last checkpoint before an epoch is followed by one."""

NAME: Final = "training.checkpoint"

_DIGEST: Final = hashlib.sha256().digest_size


class Checkpoint:
    """One file in a step's folder, always whole: a SHA-256, then what `torch.save` writes.

    It holds tensors and plain values only and is read without running code. A file that is
    damaged, or of another training, is told in a note and written over.

    Args:
        folder: where the file lies, made when it is needed; None to keep nothing.
        fingerprint: identity of the training.
        note: receives ``message`` where a file is ignored.
    """

    def __init__(
        self, folder: Path | None, fingerprint: str, note: Callable[[Mapping[str, Any]], None]
    ) -> None:
        self.path = folder and folder / NAME
        self.fingerprint = fingerprint
        self.note = note
        self._written = time.monotonic()

    def read(self) -> dict[str, Any] | None:
        """Return the state that was written last, on the CPU; None where there is none to use."""
        if self.path is None or not self.path.exists():
            return None
        state = _parse(self.path)
        if state is None:
            self._ignore("is damaged")
        elif state["fingerprint"] != self.fingerprint:
            self._ignore("belongs to another training")
        else:
            return dict(state["state"])
        return None

    def write(self, state: Mapping[str, Any], *, finished: bool) -> None:
        """Write the state if the training is finished, or the last checkpoint is old enough.

        Raises:
            StoreError: the file cannot be written.
        """
        due = finished or time.monotonic() - self._written >= INTERVAL
        if self.path is None or not due:
            return
        import torch

        memory = io.BytesIO()
        torch.save({"fingerprint": self.fingerprint, "state": dict(state)}, memory)
        content = memory.getbuffer()
        with explained(self.path.parent):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(
            self.path,
            lambda file: (file.write(hashlib.sha256(content).digest()), file.write(content)),
        )
        self._written = time.monotonic()

    def _ignore(self, reason: str) -> None:
        self.note({"message": f"{self.path} {reason}; the training starts from the beginning"})


def _parse(path: Path) -> dict[str, Any] | None:
    """Return the content of a checkpoint, or None if it is damaged."""
    import torch

    try:
        content = memoryview(path.read_bytes())
        if hashlib.sha256(content[_DIGEST:]).digest() != content[:_DIGEST]:
            return None
        state: dict[str, Any] = torch.load(
            io.BytesIO(content[_DIGEST:]), map_location="cpu", weights_only=True
        )
    except (OSError, RuntimeError, pickle.UnpicklingError):
        return None
    return state


def fingerprint(parts: Json, *models: nn.Module | None) -> str:
    """Return the identity of a training: its settings and the exact models that enter it."""
    digests = [None if model is None else _digest(model) for model in models]
    return key_of("training", {**parts, "models": digests})


def _digest(model: nn.Module) -> str:
    import torch

    found = hashlib.sha256()
    for name, value in model.state_dict().items():
        found.update(f"{name} {getattr(value, 'dtype', '')} {getattr(value, 'shape', '')}".encode())
        if isinstance(value, torch.Tensor):
            plain = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            found.update(plain.numpy().data)
    return found.hexdigest()
