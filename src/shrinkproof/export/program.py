"""A candidate as a ``torch.export`` program, which a plain PyTorch loads without this package."""

from __future__ import annotations

import contextlib
import copy
import logging
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import ExportError

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

Predict = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""(n, C, H, W) float32 -> (n, classes) float32 logits."""

_REFUSALS: Final = (
    *(AssertionError, AttributeError, LookupError, OSError),
    *(RuntimeError, TypeError, ValueError),
)
"""What the tracer raises, which runs the network's own code, and what writing raises."""

_PLAIN: Final = frozenset({"aten", "prim"})
"""Families of operators that every PyTorch has."""


def write_program(module: nn.Module, shape: tuple[int, int, int], path: Path) -> None:
    """Write a network as a program with a free batch size.

    It has PyTorch's own operators only: imitated 8-bit activations are spelled out. Traces of the
    machine that exported it, and the example it was traced with, are left out.

    Args:
        module: baked, in evaluation mode, on the CPU; not edited.
        shape: (C, H, W) of one input.
        path: the file.

    Raises:
        ExportError: PyTorch cannot express the network, or only with operators of others.
    """
    import torch

    name = type(module).__name__
    # A batch of one would be taken for a constant.
    example = torch.zeros((2, *shape))
    try:
        with _silence():
            program = torch.export.export(
                _spelled_out(module),
                (example,),
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            )
            _forget_the_machine(program)
            foreign = _foreign_operators(program)
            if not foreign:
                torch.export.save(program, path)
    except _REFUSALS as error:
        lines = str(error).strip().splitlines()
        raise ExportError(
            f"{name}: must be expressible as a program of torch.export, got "
            f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
        ) from error
    if foreign:
        raise ExportError(
            f"{name}: must consist of PyTorch's own operators, got {', '.join(foreign)}, which a "
            "plain PyTorch does not have"
        )


def load_program(path: Path) -> Predict:
    """Return what a written program computes.

    Raises:
        ExportError: the file is missing or damaged.
    """
    import torch

    try:
        with _silence():
            module = torch.export.load(path).module()
    except (OSError, RuntimeError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ExportError(
            f"{path}: must be a program of torch.export, got {type(error).__name__}: {error}; "
            "export the candidate again"
        ) from error
    return predict_with(module)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep the exporter's remarks, and traces of what is raised anyway, off the terminal."""
    logger = logging.getLogger("torch.export")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def predict_with(module: nn.Module) -> Predict:
    """Return what a PyTorch network computes, from arrays to arrays."""
    import torch

    def predict(inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            outputs: NDArray[np.float32] = module(torch.from_numpy(inputs)).numpy()
        return outputs

    return predict


def _spelled_out(module: nn.Module) -> nn.Module:
    """Return a copy in which our own operator stands as PyTorch's own ones, bit for bit."""
    from torch import Tensor, nn

    from shrinkproof.compressors.activation import ActivationQuantizer
    from shrinkproof.compressors.observers import HIGHEST, LOWEST

    class Grid(nn.Module):
        """Values on the grid of an unsigned 8-bit integer."""

        scale: Tensor
        zero: Tensor

        def __init__(self, place: ActivationQuantizer) -> None:
            super().__init__()
            self.register_buffer("scale", place.scale.detach().clone())
            self.register_buffer("zero", place.zero_point.detach().to(place.scale.dtype))

        def forward(self, inputs: Tensor) -> Tensor:
            levels = inputs.div(self.scale).round().add(self.zero).clamp(LOWEST, HIGHEST)
            return levels.sub(self.zero).mul(self.scale)

    found = copy.deepcopy(module)
    for name, layer in list(found.named_modules()):
        if isinstance(layer, ActivationQuantizer):
            found.set_submodule(name, Grid(layer))
    return found.eval()


def _forget_the_machine(program: ExportedProgram) -> None:
    """Remove paths of source files, and the blank example."""
    for part in program.graph_module.modules():
        for node in getattr(getattr(part, "graph", None), "nodes", ()):
            node.meta.pop("stack_trace", None)
    program.example_inputs = None


def _foreign_operators(program: ExportedProgram) -> list[str]:
    called: set[Any] = {
        node.target
        for node in program.graph.nodes
        if node.op == "call_function" and hasattr(node.target, "namespace")
    }
    return sorted(str(target) for target in called if target.namespace not in _PLAIN)
