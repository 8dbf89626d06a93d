"""Rules that a weight keeps through training: mask, codebook, number format; and baking them.

All are parametrizations (``torch.nn.utils.parametrize``), so they compose, survive ``deepcopy``
and training, and need no hooks in the training loop. Their one order on a tensor is mask, then
codebook, then number format (fake quantization to integers, or a short floating-point format).
Parametrized modules cannot be pickled or exported;
``bake`` turns them into plain parameters again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from shrinkproof.errors import CompressionError


class WeightConstraint(nn.Module):
    """A rule that a weight tensor keeps through training."""

    rank: ClassVar[int]
    label: str


class Mask(WeightConstraint):
    """Hold some weights at exactly zero.

    Args:
        mask: bool, shape of the weight; True where a weight is kept.
    """

    rank = 0
    label = "mask"
    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        if mask.dtype != torch.bool:
            raise TypeError(f"mask: must be bool, got {mask.dtype}")
        self.register_buffer("mask", mask.detach().clone())

    def forward(self, w: Tensor) -> Tensor:
        """Return the weight with zeros where the mask is False."""
        # `where` and not a product: a product would make -0.0, and NaN out of infinity.
        return torch.where(self.mask, w, 0.0)


class Codebook(WeightConstraint):
    """Let all weights of a tensor share a few trainable values.

    The gradient of a level is the sum of the gradients of its weights (Han et al. 2016,
    arXiv:1510.00149, section 3). The weight underneath is ignored and gets no gradient.

    Args:
        levels: (k,) floating point, the shared values.
        index: uint8 or int64, shape of the weight; the level of each weight, 0 to k - 1.
        pinned_zero: keep the level that is exactly zero at zero through training.
    """

    rank = 1
    label = "codebook"
    index: Tensor
    free: Tensor

    def __init__(self, levels: Tensor, index: Tensor, pinned_zero: bool = False) -> None:  # noqa: FBT001, FBT002
        super().__init__()
        if levels.ndim != 1 or not levels.numel() or not bool(torch.isfinite(levels).all()):
            raise ValueError(
                f"codebook: levels must be (k,) finite, got shape {tuple(levels.shape)}"
            )
        if index.dtype not in (torch.uint8, torch.int64):
            raise TypeError(f"codebook: index must be uint8 or int64, got {index.dtype}")
        if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < levels.numel():
            raise ValueError(
                f"codebook: index must be 0 to {levels.numel() - 1}, got "
                f"{int(index.min())} to {int(index.max())}"
            )
        if pinned_zero and not bool((levels == 0).any()):
            raise ValueError("codebook: a pinned zero needs a level that is exactly 0, got none")
        self.pinned_zero = pinned_zero
        # Set by `constrain`: whether the weight was trainable before this codebook froze it.
        self.trainable_before: bool | None = None
        self.levels = nn.Parameter(levels.detach().clone())
        self.register_buffer("index", index.detach().clone())
        free = levels != 0 if pinned_zero else torch.ones_like(levels, dtype=torch.bool)
        self.register_buffer("free", free.detach().clone())

    def forward(self, w: Tensor) -> Tensor:  # noqa: ARG002
        """Return the level of each weight, shape of the weight."""
        levels_K = torch.where(self.free, self.levels, 0.0)
        index = self.index.reshape(-1).to(torch.int32)
        return levels_K.index_select(0, index).view(self.index.shape)


class _RoundToGrid(torch.autograd.Function):
    """Symmetric fake quantization with a straight-through gradient inside the range."""

    @staticmethod
    def forward(ctx: Any, w: Tensor, scale: Tensor, limit: int) -> Tensor:
        """Return ``scale * clamp(round(w / scale))``; halves go to the even neighbor."""
        steps = torch.round(w / scale)
        ctx.save_for_backward(steps.abs() <= limit)
        # Adding zero turns -0.0 into 0.0, so that equal values have equal bits.
        return steps.clamp(-limit, limit) * scale + 0.0

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Pass the gradient where the weight was inside the range, zero elsewhere."""
        (inside,) = ctx.saved_tensors
        return torch.where(inside, gradients[0], 0.0), None, None


class FakeQuantWeight(WeightConstraint):
    """Round a weight to the grid of a symmetric signed integer, still as floating point.

    Integers run from ``-(2**(bits-1) - 1)`` to ``2**(bits-1) - 1``, zero is exact, halves round
    to the even neighbor (as ONNX QuantizeLinear does), and the gradient is straight-through
    inside the range (Jacob et al. 2018, arXiv:1712.05877).

    Args:
        scale: (out,) or (1,) floating point, > 0; the size of one step.
        bits: width of the integer, 2 to 16.
        axis: dimension of the weight that ``scale`` runs along; 0 is the output channel.

    Attributes:
        following: choose the scale anew for the weight of each forward pass, by `weight_scale`;
            for training.
    """

    rank = 2
    label = "fake quantization"
    scale: Tensor

    def __init__(self, scale: Tensor, bits: int = 8, axis: int = 0) -> None:
        super().__init__()
        if scale.ndim != 1 or not bool((torch.isfinite(scale) & (scale > 0)).all()):
            raise ValueError(
                f"fake quantization: scale must be (n,), finite and > 0, got shape "
                f"{tuple(scale.shape)}, minimum {float(scale.min()) if scale.numel() else None}"
            )
        if not 2 <= bits <= 16:
            raise ValueError(f"fake quantization: bits must be 2 to 16, got {bits}")
        self.bits = bits
        self.axis = axis
        self.following = False
        self.register_buffer("scale", scale.detach().clone())

    @property
    def limit(self) -> int:
        """Largest integer; the smallest is its negative."""
        return int(2 ** (self.bits - 1)) - 1

    def forward(self, w: Tensor) -> Tensor:
        """Return the weight on the grid, same shape and dtype."""
        if self.following:
            per_tensor = self.scale.numel() == 1
            self.scale.copy_(weight_scale(w.detach(), bits=self.bits, per_tensor=per_tensor))
        shape = [1] * w.ndim
        shape[self.axis] = -1
        return _rounded(w, self.scale.view(shape), self.limit)


def _rounded(w: Tensor, scale: Tensor, limit: int) -> Tensor:
    rounded: Tensor = _RoundToGrid.apply(w, scale, limit)  # type: ignore[no-untyped-call]
    return rounded


def weight_scale(weight: Tensor, *, bits: int, per_tensor: bool) -> Tensor:
    """Return ``max|w| / (2 ** (bits - 1) - 1)`` per output channel (out,), or per tensor (1,).

    A channel of nothing but zeros, or of numbers that are none beside the others (a part of 1e-12
    of the largest), takes the scale of the whole tensor: its bias needs one. A tensor of nothing
    but zeros, or of numbers too small for a scale with all its digits, takes that of numbers up
    to 1.
    """
    highest = float(2 ** (bits - 1) - 1)
    smallest = torch.finfo(weight.dtype).tiny
    overall = weight.abs().max() / highest
    overall = overall.where(overall >= smallest, 1.0 / highest)
    if per_tensor:
        return overall.reshape(1).clone()
    scale = weight.abs().flatten(1).amax(dim=1) / highest
    return scale.where(scale > (overall * 1e-12).clamp(min=smallest), overall)


class _RoundToFloat(torch.autograd.Function):
    """Rounding to a shorter floating-point format with a straight-through gradient.

    The gradient of a plain conversion would be rounded to the short format, too.
    """

    @staticmethod
    def forward(ctx: Any, w: Tensor, dtype: torch.dtype) -> Tensor:  # noqa: ARG004
        """Return the nearest numbers of the format, in the dtype of the weight."""
        # Adding zero turns -0.0 into 0.0, so that equal values have equal bits.
        return w.to(dtype).to(w.dtype) + 0.0

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # noqa: ARG004
        """Pass the gradient."""
        return gradients[0], None


class ShortFloat(WeightConstraint):
    """Round a weight to a floating-point format of 16 bits, still as numbers of its own dtype.

    Halves go to the even neighbor (IEEE 754), zero is exact, the gradient is straight-through.

    Args:
        dtype: ``torch.float16`` or ``torch.bfloat16``.
    """

    rank = 2

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        if dtype not in (torch.float16, torch.bfloat16):
            raise TypeError(f"short float: must be float16 or bfloat16, got {dtype}")
        self.dtype = dtype
        self.label = str(dtype).removeprefix("torch.")

    def forward(self, w: Tensor) -> Tensor:
        """Return the weight in the format, same shape and dtype."""
        rounded: Tensor = _RoundToFloat.apply(w, self.dtype)  # type: ignore[no-untyped-call]
        return rounded


def constraints_of(module: nn.Module, tensor: str = "weight") -> tuple[WeightConstraint, ...]:
    """Return the constraints on a tensor of a module, in the order they act; foreign ones not."""
    if not parametrize.is_parametrized(module, tensor):
        return ()
    chain = module.parametrizations[tensor]  # type: ignore[index]
    return tuple(c for c in chain if isinstance(c, WeightConstraint))


def is_constrained(module: nn.Module, tensor: str = "weight") -> bool:
    """Return whether a tensor of a module obeys at least one of our constraints."""
    return bool(constraints_of(module, tensor))


def weight_of(module: nn.Module, tensor: str = "weight") -> Tensor:
    """Return a tensor of a module as the network uses it, constraints applied, detached."""
    value: Tensor = getattr(module, tensor)
    return value.detach()


def constrain(
    module: nn.Module, tensor: str, constraint: WeightConstraint, *, layer: str = ""
) -> None:
    """Make a tensor of a module obey one more constraint, in place.

    A second mask is merged into the first, so no zero ever comes back. Under a codebook the
    weight itself is frozen and the levels learn instead (unless the weight was frozen before).

    Args:
        module: owner of the tensor.
        tensor: name of the parameter, for example ``weight``.
        constraint: the rule.
        layer: qualified name of the module, for messages.

    Raises:
        CompressionError: the tensor is not a parameter, has a parametrization of its own, or has
            a constraint that must come after the new one.
    """
    label = f"{layer or type(module).__name__}.{tensor}"
    present = constraints_of(module, tensor)
    if not present:
        _refuse_foreign(module, tensor, label)
    last = present[-1] if present else None
    if last is not None and last.rank == constraint.rank == Mask.rank:
        _merge(last, constraint)
        return
    if last is not None and last.rank >= constraint.rank:
        raise CompressionError(
            f"{label}: constraints go in the order mask, codebook, number format, each once; "
            f"got {constraint.label} after {last.label}. Change the order of the steps."
        )
    order = tuple(module._parameters)
    weight = getattr(module, tensor)
    constraint.to(weight.device)
    trainable = was_trainable(module, tensor)
    if isinstance(constraint, Codebook):
        # Of layers that share a weight, the first one has frozen it already.
        if constraint.trainable_before is None:
            constraint.trainable_before = trainable
        trainable = constraint.trainable_before
    if parametrize.is_parametrized(module):
        _give_own_class(module)
    parametrize.register_parametrization(module, tensor, constraint)
    chain: Any = module.parametrizations[tensor]  # type: ignore[index]
    if not present:
        # Kept for `bake`: removing a parametrization re-registers the parameter at the end.
        chain.order_before = order
        chain.trainable_before = trainable
    if isinstance(constraint, Codebook):
        constraint.levels.requires_grad_(trainable)
        chain.original.requires_grad_(requires_grad=False)


def was_trainable(module: nn.Module, tensor: str) -> bool:
    """Return whether the tensor was trainable before any constraint was put on it."""
    if is_constrained(module, tensor):
        return bool(module.parametrizations[tensor].trainable_before)  # type: ignore[index, union-attr]
    return bool(getattr(module, tensor).requires_grad)


def _refuse_foreign(module: nn.Module, tensor: str, label: str) -> None:
    reason = why_not_constrainable(module, tensor)
    if reason:
        raise CompressionError(f"{label}: must be a plain parameter; {reason}")


def why_not_constrainable(module: nn.Module, tensor: str = "weight") -> str:
    """Return why a tensor cannot be constrained, or an empty text if it can."""
    if is_constrained(module, tensor):
        return ""
    if parametrize.is_parametrized(module, tensor):
        kinds = ", ".join(type(c).__name__ for c in module.parametrizations[tensor])  # type: ignore[index]
        return f"it has a parametrization of its own ({kinds})"
    if not isinstance(module._parameters.get(tensor), nn.Parameter):
        return "it is computed from other tensors"
    if not module._parameters[tensor].is_floating_point():  # type: ignore[union-attr]
        return "it does not hold floating-point numbers"
    return ""


def _merge(first: WeightConstraint, second: WeightConstraint) -> None:
    if not (isinstance(first, Mask) and isinstance(second, Mask)):
        raise TypeError("only masks can be merged")
    first.mask &= second.mask.to(first.mask.device)


def bake(model: nn.Module) -> None:
    """Make all constrained tensors plain parameters again, in place, with their present values.

    Afterwards the state-dict keys and their order equal those before the first constraint, except
    that fake quantization leaves its scale as the persistent buffer ``<tensor>_scale`` on the
    owning module.
    """
    for module in list(model.modules()):
        if not parametrize.is_parametrized(module):
            continue
        for tensor in list(module.parametrizations):  # type: ignore[arg-type]
            if is_constrained(module, tensor):
                _bake_one(module, tensor)


def _bake_one(module: nn.Module, tensor: str) -> None:
    chains: Any = module.parametrizations
    chain = chains[tensor]
    with torch.no_grad():
        value = getattr(module, tensor).detach().clone()
    parameter = chain.original
    with torch.no_grad():
        parameter.copy_(value)
    parameter.grad = None
    parameter.requires_grad_(chain.trainable_before)
    quantizers = [c for c in chain if isinstance(c, FakeQuantWeight)]
    _detach(module, tensor)
    module.register_parameter(tensor, parameter)
    for name in chain.order_before:
        if name in module._parameters:
            module._parameters[name] = module._parameters.pop(name)
    for quantizer in quantizers:
        module.register_buffer(f"{tensor}_scale", quantizer.scale.detach().clone())


def _detach(module: nn.Module, tensor: str) -> None:
    """Remove the parametrization of a tensor from this module alone.

    ``torch.nn.utils.parametrize.remove_parametrizations`` (torch 2.13) deletes the property from
    the generated class, which a deep copy shares with its original: baking the copy would break
    the original. Here the class is left alone.
    """
    chains: Any = module.parametrizations
    del chains[tensor]
    if len(chains):
        _give_own_class(module, without=tensor)
    else:
        del module.parametrizations
        module.__class__ = type(module).__bases__[0]


def _give_own_class(module: nn.Module, *, without: str = "") -> None:
    """Replace a parametrized module's generated class by an equal one of its own."""
    cls = type(module)
    members = {
        name: value
        for name, value in vars(cls).items()
        if name not in (without, "__dict__", "__weakref__")
    }
    module.__class__ = type(cls.__name__, cls.__bases__, members)


@dataclass(frozen=True, slots=True)
class TensorProperties:
    """What is measured on a weight tensor as the network uses it.

    Attributes:
        size: number of weights.
        zeros: fraction of weights that are exactly zero.
        distinct: number of distinct values.
    """

    size: int
    zeros: float
    distinct: int


def effective_parameters(model: nn.Module) -> Iterator[Tensor]:
    """Yield every parameter of a model once, with the value that the network uses."""
    seen: set[int] = set()
    inner = {id(m) for m in model.modules() if isinstance(m, parametrize.ParametrizationList)}
    inner |= {id(m) for m in model.modules() if isinstance(m, WeightConstraint)}
    for module in model.modules():
        if id(module) in inner:
            continue
        for name, parameter in module._parameters.items():
            if parameter is not None and id(parameter) not in seen:
                seen.add(id(parameter))
                yield getattr(module, name).detach()
        if parametrize.is_parametrized(module):
            for name, chain in module.parametrizations.items():  # type: ignore[union-attr, operator]
                original = getattr(chain, "original", chain)
                if id(original) not in seen:
                    seen.add(id(original))
                    yield getattr(module, name).detach()


def check_constraints(model: nn.Module) -> dict[str, TensorProperties]:
    """Return the measured properties of every constrained tensor, by qualified name."""
    measured = {}
    for layer, module in model.named_modules():
        if not parametrize.is_parametrized(module):
            continue
        for tensor in module.parametrizations:
            if is_constrained(module, tensor):
                name = f"{layer}.{tensor}" if layer else tensor
                measured[name] = properties_of(getattr(module, tensor))
    return measured


def properties_of(weight: Tensor) -> TensorProperties:
    """Return the measured properties of one tensor."""
    weight = weight.detach()
    size = weight.numel()
    zeros = int((weight == 0).sum())
    return TensorProperties(
        size=size, zeros=zeros / size if size else 0.0, distinct=int(torch.unique(weight).numel())
    )


def average_level_gradients(model: nn.Module) -> Callable[[], None] | None:
    """Return what divides each level's gradient by the number of its weights.

    A step along the averaged gradient is the orthogonal projection of the dense gradient step
    onto the tensors that the codebook can express, so one learning rate means the same for dense
    and clustered layers. Along the sum, a level with n weights would learn n times as fast.
    Returns None where the model has no codebook.
    """
    seen: dict[int, tuple[Codebook, Tensor]] = {}
    for module in model.modules():
        if isinstance(module, Codebook):
            count_K = torch.bincount(module.index.flatten().long(), minlength=len(module.levels))
            seen[id(module)] = (module, count_K.clamp(min=1).to(module.levels.dtype))
    if not seen:
        return None

    def average() -> None:
        for codebook, count_K in seen.values():
            if codebook.levels.grad is not None:
                codebook.levels.grad.div_(count_K)

    return average
