"""The PyTorch form of a candidate, ready to predict: device, precision, memory format, compiled."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import ModelError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

_COMPILERS: Final = ("torch._dynamo", "torch._inductor")
"""Modules whose errors say that a network cannot be compiled."""

_VIEWED: Final = ("view size is not compatible", "Cannot view a tensor")
"""What PyTorch and its compiler say where a network's code takes images for contiguous ones."""

_SHAPES: Final = 64
"""Shapes of batches that one network may be compiled for; one more is an error."""


class Forward:
    """A network that is given batches of preprocessed images.

    In ``bfloat16`` and ``float16`` convolutions and matrix products take rounded inputs and
    weights, as ``torch.autocast`` chooses; normalizations, losses of precision by summing, and the
    stored weights stay float32, so that no coordinate or running statistic is rounded. On a GPU
    float32 means float32: its TensorFloat-32 is off.

    Args:
        module: the network, in evaluation mode; it is moved and laid out in place.
        device: ``cpu`` or ``cuda``.
        precision: ``float32``, ``bfloat16`` or ``float16``.
        memory_format: ``contiguous`` or ``channels_last``; ``auto`` is ``channels_last``, or
            ``contiguous`` for a network whose code only works on that (``x.view(n, -1)``).
        is_compiled: compile it at the first batch; smaller ones are filled up with zeros to what
            `begin` says, which costs less than compiling it for another shape.

    Raises:
        ModelError: the device is not there.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        device: str = "cpu",
        precision: str = "float32",
        memory_format: str = "contiguous",
        is_compiled: bool = False,
    ) -> None:
        import torch

        check_device(device)
        self.device = torch.device(device)
        self._module = module.to(self.device)
        self._is_free = memory_format == "auto"
        self._dtype = None if precision == "float32" else getattr(torch, precision)
        self._is_compiled = is_compiled
        self._batch = 0
        self._lay_out(
            torch.contiguous_format if memory_format == "contiguous" else torch.channels_last
        )

    def _lay_out(self, layout: torch.memory_format) -> None:
        """Let weights and images lie in memory in this way from now on."""
        import torch

        self._layout = layout
        for tensor in (*self._module.parameters(), *self._module.buffers()):
            if tensor.ndim == 4:
                tensor.data = tensor.data.contiguous(memory_format=layout)
        # Networks of one class share their code: without isolation, each counts as a recompilation
        # of the others, and after the eighth torch goes on uncompiled.
        apart: Any = {"isolate_recompiles": True, "recompile_limit": _SHAPES}
        self._network: Any = self._module
        if self._is_compiled:
            self._network = torch.compile(self._module, fullgraph=True, dynamic=False, **apart)

    def begin(self, batch: int) -> None:
        """Fill up smaller batches to so many images from now on, where the network is compiled.

        What a network is compiled for then depends on the pass alone, not on the ones before it.
        """
        self._batch = batch

    def __call__(self, inputs: NDArray[np.float32] | Tensor) -> NDArray[np.float32]:
        """Return the outputs (n, ...) float32 of inputs (n, C, H, W) float32, on any device.

        Raises:
            ModelError: the network cannot be compiled.
        """
        import torch

        given = torch.from_numpy(inputs) if isinstance(inputs, np.ndarray) else inputs
        given = given.to(self.device)
        try:
            outputs = self._run(given)
        except (RuntimeError, ModelError) as error:
            if self._layout is torch.contiguous_format or not _views(error):
                raise
            if not self._is_free:
                raise ModelError(
                    "measure.inference.memory_format: channels_last must be for networks without "
                    "'view' on images, got one with it; write 'memory_format: contiguous', or "
                    "'reshape' in the network"
                ) from error
            self._lay_out(torch.contiguous_format)
            outputs = self._run(given)
        found: NDArray[np.float32] = outputs.float().cpu().numpy()
        return found

    def _run(self, given: Tensor) -> Tensor:
        import torch

        count = len(given)
        given = given.contiguous(memory_format=self._layout)
        with torch.inference_mode(), self._arithmetic():
            if self._is_compiled:
                return self._compiled(given)[:count]
            outputs: Tensor = self._network(given)
            return outputs

    def _compiled(self, given: Tensor) -> Tensor:
        """Return the outputs of a whole batch that begins with these images."""
        import torch

        missing = self._batch - len(given)
        if missing > 0:
            given = torch.cat([given, given.new_zeros((missing, *given.shape[1:]))])
            given = given.contiguous(memory_format=self._layout)
        try:
            outputs: Tensor = self._network(given)
        except Exception as error:
            # What does not fit into memory is given again in smaller batches, without filling up.
            self._batch = 0
            if not type(error).__module__.startswith(_COMPILERS):
                raise
            raise ModelError(
                "measure.inference.compile: the network must be one that torch.compile takes "
                f"whole, got {type(error).__name__}: {_first_line(error)}; write 'compile: false'"
            ) from error
        return outputs

    @contextlib.contextmanager
    def _arithmetic(self) -> Iterator[None]:
        """Use the precision that was asked for, and nothing less."""
        import torch

        with contextlib.ExitStack() as stack:
            if self.device.type == "cuda":
                stack.enter_context(
                    torch.backends.cudnn.flags(
                        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
                    )
                )
            if self._dtype is not None:
                stack.enter_context(torch.autocast(self.device.type, dtype=self._dtype))
            yield


def check_device(device: str, setting: str = "measure.inference.device") -> None:
    """Refuse a GPU that is not there.

    Args:
        device: ``cpu`` or ``cuda``.
        setting: where the device was chosen.

    Raises:
        ModelError: PyTorch sees none; what it was built for is told.
    """
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
        raise ModelError(
            f"{setting}: cuda must be a GPU that PyTorch sees, got none; PyTorch "
            f"{torch.__version__} is built {built}: install a build for the driver of this "
            "machine, or choose cpu"
        )


def on_gpu(inputs: NDArray[np.float32]) -> NDArray[np.float32] | Tensor:
    """Return preprocessed images on the GPU, on their way there while the caller goes on.

    Where they do not fit beside the batch that is predicted, they stay where they are: `Forward`
    takes them from there, all or in parts.
    """
    import torch

    try:
        return torch.from_numpy(inputs).pin_memory().to("cuda", non_blocking=True)
    except torch.OutOfMemoryError:
        return inputs


def _views(error: Exception) -> bool:
    """Return whether a network's code takes images for contiguous ones."""
    told = f"{error} {error.__cause__}"
    return any(phrase in told for phrase in _VIEWED)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "no message"
