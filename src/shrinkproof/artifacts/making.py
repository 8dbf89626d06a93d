"""A candidate's files, and the sizes that are known once they are written."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from shrinkproof.artifacts.candidate import (
    NETWORK,
    PACKED,
    WEIGHTS,
    write_candidate,
    write_without_file,
)
from shrinkproof.artifacts.sizes import file_bytes, macs, parameter_counts, zip_bytes
from shrinkproof.errors import ExportError
from shrinkproof.models.onnx_network import OnnxNetwork
from shrinkproof.records import Candidate, Change, Json

if TYPE_CHECKING:
    from torch import Tensor, nn

UNDEFINED: Final = "undefined"
"""Fact of a candidate: metric -> why it has no value."""

_UNCOUNTED: Final = "operations are not counted in a file that was exported elsewhere"


def make_files(
    directory: Path,
    *,
    module: nn.Module,
    changes: Sequence[Change],
    candidate: Candidate,
    example: Tensor,
    needs_file: bool = True,
) -> Json:
    """Write a candidate, and return its sizes.

    Where it cannot be exported and nobody needs the file, it is written without one, and the sizes
    of the file are None.

    Args:
        directory: made where it is missing.
        module: the model after its recipe, baked, in evaluation mode.
        changes: what the recipe did, in order.
        candidate: who it is.
        example: (n, C, H, W) float32 input.
        needs_file: whether the exported file is what is measured.

    Returns:
        Name of each size -> its value or None; ``sha256`` of the file or None; ``undefined``, name
        of each size that is None -> the reason, where there is one.

    Raises:
        ExportError: a file cannot be written, or the model cannot be exported and must be.
    """
    reason = _write(directory, module, changes, candidate, example, needs_file=needs_file)
    parameters, nonzero = parameter_counts(module)
    file = directory / NETWORK
    facts: Json = {
        "cost.parameters": parameters,
        "cost.nonzero": nonzero,
        "cost.macs": None if isinstance(module, OnnxNetwork) else macs(module, example),
        "cost.bytes": None if reason else file_bytes(file),
        "cost.bytes_zip": None if reason else zip_bytes(file),
        "cost.bytes_dense": file_bytes(directory / WEIGHTS),
        "cost.bytes_packed": file_bytes(directory / PACKED),
        "sha256": None if reason else hashlib.sha256(file.read_bytes()).hexdigest(),
    }
    undefined = {
        metric: _UNCOUNTED if metric == "cost.macs" else reason
        for metric, value in facts.items()
        if value is None and metric != "sha256"
    }
    return facts | ({UNDEFINED: undefined} if undefined else {})


def _write(
    directory: Path,
    module: nn.Module,
    changes: Sequence[Change],
    candidate: Candidate,
    example: Tensor,
    *,
    needs_file: bool,
) -> str:
    """Write the files; return why there is no exported one, empty where there is."""
    try:
        write_candidate(
            directory, module=module, changes=changes, candidate=candidate, example=example
        )
    except ExportError as error:
        if needs_file:
            raise ExportError(
                f"{error}; to measure the PyTorch form alone, write 'measure: {{form: twin}}'"
            ) from error
        write_without_file(
            directory, module=module, changes=changes, candidate=candidate, example=example
        )
        return f"there is no exported file: {error}"
    return ""
