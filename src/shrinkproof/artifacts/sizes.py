"""How big a model is: bytes of its file, parameters, multiply-accumulates."""

from __future__ import annotations

import contextlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from shrinkproof.errors import ExportError, ModelError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.flop_counter import FlopCounterMode


def file_bytes(path: Path) -> int:
    """Return the size of a file in bytes.

    Raises:
        ExportError: there is no such file.
    """
    if not path.is_file():
        raise ExportError(f"{path}: the size of a file was asked for, got no file; export it first")
    return path.stat().st_size


def zip_bytes(path: Path) -> int:
    """Return the size in bytes of a zip file that holds just this file.

    DEFLATE at level 6, container included; name and date are fixed, so that equal files give equal
    sizes. It is the measure of published clustering and pruning results (TensorFlow Model
    Optimization Toolkit).

    Raises:
        ExportError: there is no such file.
    """
    file_bytes(path)
    entry = zipfile.ZipInfo("model", date_time=(1980, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_DEFLATED
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED, compresslevel=6)
    return buffer.getbuffer().nbytes


def parameter_counts(module: nn.Module) -> tuple[int, int]:
    """Return the number of parameters of a baked model, and how many of them are not zero.

    A parameter that layers share counts once. Buffers (batch-norm statistics, scales) are no
    parameters.

    Raises:
        ModelError: constraints are still attached, so that parameters are not what is used.
    """
    refuse_constrained(module)
    parameters = list(module.parameters())
    return (
        sum(parameter.numel() for parameter in parameters),
        sum(int(parameter.detach().count_nonzero()) for parameter in parameters),
    )


def macs(module: nn.Module, example: Tensor) -> int:
    """Return the multiply-accumulates of one image: convolutions, linear layers, products.

    Zeros count: a dense kernel multiplies them, too. Biases, batch norms, activations and pooling
    do not count, as in published tables.

    Args:
        module: in evaluation mode.
        example: (n, C, H, W) float32; the result is for one of its images.

    Raises:
        ModelError: constraints are still attached.
    """
    refuse_constrained(module)
    with counted_operations() as counter:
        module(example)
    # The counter takes a multiplication and an addition for two operations.
    return int(counter.get_total_flops()) // (2 * len(example))


@contextlib.contextmanager
def counted_operations() -> Iterator[FlopCounterMode]:
    """Count the operations of everything that runs inside, without gradients.

    Attention runs as plain products meanwhile: PyTorch has no count for its fused operators on the
    CPU, and would add nothing for them.
    """
    import torch
    from torch.backends import mha
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    is_fused = mha.get_fastpath_enabled()
    mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
            yield counter
    finally:
        mha.set_fastpath_enabled(is_fused)


def refuse_constrained(module: nn.Module) -> None:
    """Refuse a model whose parameters are not the numbers that it uses.

    Raises:
        ModelError: constraints are still attached.
    """
    from torch.nn.utils import parametrize

    for name, layer in module.named_modules():
        if parametrize.is_parametrized(layer):
            raise ModelError(
                f"layer {name!r} must be baked before a model is measured or exported, got "
                "constraints that are still attached; call `bake` first"
            )
