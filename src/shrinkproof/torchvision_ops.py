"""Make torchvision importable beside a torch that its compiled operators do not fit.

The torchvision wheel of the package index is built for CUDA. Beside a CPU-only torch its extension
does not load, and then ``import torchvision`` fails with "operator torchvision::nms does not
exist" (pytorch/vision issues 8985, 9077). Only in that case this module defines the operators that
the import needs, in PyTorch. It becomes unnecessary when torchvision imports without its extension.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, FileFinder
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from torch import Tensor

Mode = Literal["compiled", "python", "absent"]

_SCHEMAS: Final = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_STATE: Final[dict[str, Any]] = {}
"""``status`` of the first call, and ``library``, which torch forgets when nobody holds it."""


@dataclass(frozen=True, slots=True)
class Status:
    """How torchvision's operators are provided in this process.

    Attributes:
        mode: ``compiled``: by torchvision's own extension; ``python``: by this module (nms) and
            torchvision's own Python version (roi_align); ``absent``: torchvision cannot be used.
        detail: one sentence for the user: which file, or why not.
    """

    mode: Mode
    detail: str


def ensure() -> Status:
    """Return how torchvision works here, after making it importable if it can be.

    Call it before importing torchvision, timm, or code that may import them. It does nothing where
    the compiled operators load, and only the first call of a process does anything. A torchvision
    whose import has already failed is cleaned up, so that it can be imported again.

    In mode ``python`` non-maximum suppression runs on the CPU in PyTorch (same results, slower).
    Operators without a Python version (deformable convolution, position-sensitive pooling) keep
    failing with torchvision's own message.
    """
    if "status" not in _STATE:
        _STATE["status"] = _provide()
    status: Status = _STATE["status"]
    return status


def _provide() -> Status:
    spec = importlib.util.find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations:
        return Status("absent", "torchvision is not installed")
    problem = _load_compiled(spec.submodule_search_locations[0])
    if not problem:
        return _imported("compiled", "the compiled operators load")
    _forget_failed_import()
    _define()
    return _imported("python", f"{problem}; nms is provided in PyTorch, on the CPU, slower")


def _load_compiled(folder: str) -> str:
    """Load the compiled operators; return why they do not work, empty where they do."""
    import torch

    if _is_defined("nms"):
        return ""
    finder = FileFinder(folder, (ExtensionFileLoader, EXTENSION_SUFFIXES))
    spec = finder.find_spec("_C")
    if spec is None or spec.origin is None:
        return "torchvision has no compiled operators"
    try:
        torch.ops.load_library(spec.origin)
    except (OSError, ImportError, RuntimeError) as error:
        cause = error.__cause__ or error
        reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
        return f"torchvision's compiled operators do not load beside this torch ({reason})"
    return "" if _is_defined("nms") else "torchvision's compiled operators define no nms"


def _is_defined(operator: str) -> bool:
    import torch

    return hasattr(torch.ops.torchvision, operator)


def _forget_failed_import() -> None:
    """Remove the parts that a failed import has left behind; a finished import stays."""
    if "torchvision" in sys.modules:
        return
    for name in [name for name in sys.modules if name.startswith("torchvision.")]:
        del sys.modules[name]


def _define() -> None:
    import torch

    missing = [name for name in _SCHEMAS if not _is_defined(name)]
    if not missing:
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in missing:
        library.define(_SCHEMAS[name])
        library.impl(name, nms if name == "nms" else quantized_nms, "CPU")
    _STATE["library"] = library


def _imported(mode: Mode, detail: str) -> Status:
    """Return the status, after letting the check pass before the operators that now exist."""
    if mode == "compiled":
        return Status(mode, detail)
    try:
        boxes = importlib.import_module("torchvision.ops.boxes")
    # A torchvision that does not fit its torch fails in any way; the reason is reported.
    except Exception as error:
        _forget_failed_import()
        return Status("absent", f"torchvision does not import: {type(error).__name__}: {error}")
    # Only here: elsewhere torchvision's own message about missing operators stays true.
    boxes._assert_has_ops = _operators_exist  # type: ignore[attr-defined]
    return Status(mode, detail)


def _operators_exist() -> None:
    """Stand in for torchvision's check; a module-level function so that TorchScript accepts it."""


def nms(dets: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Return the boxes that survive non-maximum suppression.

    Boxes are taken in order of falling score, equal scores in their given order; each removes
    the later ones whose intersection over union with it is above the threshold. Same arithmetic
    as torchvision's CPU operator: areas (x2 - x1)(y2 - y1), no extra pixel, in the boxes' type.

    Args:
        dets: (N, 4) floating point, boxes as x1, y1, x2, y2.
        scores: (N,) floating point.
        iou_threshold: 0 to 1; a box is removed only above it.

    Returns:
        (K,) int64, positions of the surviving boxes, best first.

    Raises:
        RuntimeError: the shapes or types do not fit; torchvision raises the same.
    """
    import torch

    torch._check(dets.dim() == 2, lambda: f"boxes should be a 2d tensor, got {dets.dim()}D")
    torch._check(
        dets.size(1) == 4,
        lambda: f"boxes should have 4 elements in dimension 1, got {dets.size(1)}",
    )
    torch._check(scores.dim() == 1, lambda: f"scores should be a 1d tensor, got {scores.dim()}D")
    torch._check(
        dets.size(0) == scores.size(0),
        lambda: (
            "boxes and scores should have same number of elements in dimension 0, got "
            f"{dets.size(0)} and {scores.size(0)}"
        ),
    )
    torch._check(
        dets.dtype == scores.dtype,
        lambda: f"dets should have the same type as scores, got {dets.dtype} and {scores.dtype}",
    )
    order = torch.sort(scores, descending=True, stable=True).indices
    left, top, right, bottom = dets.detach()[order].unbind(1)
    area = (right - left) * (bottom - top)
    alive = torch.ones(len(order), dtype=torch.bool)
    for i in range(len(order)):
        if not alive[i]:
            continue
        rest = slice(i + 1, None)
        width = (torch.minimum(right[i], right[rest]) - torch.maximum(left[i], left[rest])).clamp(0)
        height = (torch.minimum(bottom[i], bottom[rest]) - torch.maximum(top[i], top[rest])).clamp(
            0
        )
        shared = width * height
        # NaN (two boxes without area) is not above any threshold, as in the compiled operator.
        overlap = shared / (area[i] + area[rest] - shared)
        # The compiled operator compares with the threshold in double precision.
        alive[rest] &= ~(overlap.double() > iou_threshold)
    return order[alive]


def quantized_nms(dets: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Return the boxes that survive non-maximum suppression, for quantized integer boxes.

    Args:
        dets: (N, 4) integers, boxes as x1, y1, x2, y2 on one scale.
        scores: (N,) integers.
        iou_threshold: 0 to 1; a box is removed only above it.

    Returns:
        (K,) int64, positions of the surviving boxes, best first.
    """
    return nms(dets.float(), scores.float(), iou_threshold)
