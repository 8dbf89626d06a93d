"""What a model costs once it is exported, for steps that work towards a target."""

from __future__ import annotations

import copy
import functools
import tempfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from shrinkproof.artifacts.candidate import NETWORK
from shrinkproof.artifacts.export import export_onnx
from shrinkproof.artifacts.session import Session
from shrinkproof.artifacts.stopwatch import take_turns
from shrinkproof.compressors.constraint import bake
from shrinkproof.randomness import stream
from shrinkproof.records import Change

if TYPE_CHECKING:
    from torch import Tensor, nn

_WARMUP: Final = 5
_REPEATS: Final = 30


class FileProbe:
    """Measures exported files: their size, and their time in turns with the original's.

    It exports a private, baked copy of the model, so the model itself stays as it is and may still
    obey constraints. Times are those of ONNX Runtime in this process, one image, one thread: good
    for a search, while the numbers of a study come from fresh processes.

    Args:
        original: the model before all steps; its file is made at the first call of `latency`.
        example: (n, C, H, W) float32 input.
    """

    def __init__(self, original: nn.Module, example: Tensor) -> None:
        self._original = original
        self._example = example.cpu()

    def bytes(self, model: nn.Module, changes: Sequence[Change]) -> int:
        """Return the size of the model's exported file in bytes.

        Raises:
            ExportError: the model cannot be exported.
        """
        with tempfile.TemporaryDirectory() as folder:
            return self._export(model, changes, folder).stat().st_size

    def latency(self, model: nn.Module, changes: Sequence[Change]) -> float:
        """Return the median time of one inference, divided by the original's.

        Raises:
            ExportError: the model cannot be exported.
        """
        inputs = self._example[:1].numpy()
        runs = {
            name: functools.partial(session, inputs)
            for name, session in (("own", self._session(model, changes)), ("original", self._first))
        }
        for run in runs.values():
            for _ in range(_WARMUP):
                run()
        seconds = take_turns(runs, repeats=_REPEATS, order=stream("probe"))
        return float(np.median(seconds["own"]) / np.median(seconds["original"]))

    @cached_property
    def _first(self) -> Session:
        return self._session(self._original, ())

    def _session(self, model: nn.Module, changes: Sequence[Change]) -> Session:
        with tempfile.TemporaryDirectory() as folder:
            return Session(self._export(model, changes, folder))

    def _export(self, model: nn.Module, changes: Sequence[Change], folder: str) -> Path:
        path = Path(folder) / NETWORK
        baked = copy.deepcopy(model).cpu().eval()
        bake(baked)
        return export_onnx(baked, self._example, path, changes=changes).path
