"""Observe one run of a network and find out what has to be removed together."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from shrinkproof.compressors.constraint import bake
from shrinkproof.compressors.coupling.coupled import Axis, Coupling, PadSite
from shrinkproof.compressors.coupling.mixing import pointwise
from shrinkproof.compressors.coupling.moving import (
    along_dim,
    expand,
    first_output,
    joined,
    moving,
    permuted,
    reduced,
    repeat,
    selected,
    sliced,
    spatial,
    split,
    stacked,
    unbound,
    unchanged,
    view,
)
from shrinkproof.compressors.coupling.pads import padded
from shrinkproof.compressors.coupling.state import Call, State, tensors_in
from shrinkproof.compressors.coupling.weighted import batch_norm, convolution, linear
from shrinkproof.errors import CompressionError, UnsupportedLayerError

Rule = Callable[[State, Call], None]

_view = moving(view, "splits channels into several axes")
_spatial = moving(spatial, "works over an axis into which channels were moved")
_along = moving(along_dim, "works across channels")


def _named(rule: Rule, *names: str) -> dict[str, Rule]:
    return {f"aten::{name}": rule for name in names}


RULES: Final[Mapping[str, Rule]] = {
    **_named(convolution, "convolution"),
    **_named(linear, "mm", "addmm"),
    **_named(
        batch_norm,
        *("native_batch_norm", "_native_batch_norm_legit", "cudnn_batch_norm"),
        *("_native_batch_norm_legit_no_training", "_batch_norm_with_update", "miopen_batch_norm"),
    ),
    **_named(
        unchanged,
        *("clone", "detach", "alias", "_to_copy", "contiguous", "lift_fresh", "zero_", "fill_"),
        *("zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like"),
    ),
    **_named(permuted, "t", "transpose", "permute"),
    **_named(
        _view,
        *("view", "_unsafe_view", "_reshape_alias", "reshape", "unsqueeze", "squeeze"),
    ),
    **_named(moving(expand, "repeats channels"), "expand"),
    **_named(moving(repeat, "repeats channels"), "repeat"),
    **_named(
        _spatial,
        *("avg_pool2d", "avg_pool3d", "avg_pool1d", "_adaptive_avg_pool2d"),
        *("_adaptive_avg_pool3d", "adaptive_avg_pool1d"),
        *("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d"),
        *("_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d"),
        *("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d"),
        *("upsample_bicubic2d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"),
        *("reflection_pad1d", "reflection_pad2d", "reflection_pad3d"),
        *("replication_pad1d", "replication_pad2d", "replication_pad3d"),
        "grid_sampler_2d",
    ),
    **_named(
        first_output(_spatial),
        *("max_pool2d_with_indices", "max_pool3d_with_indices"),
        *("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d"),
    ),
    **_named(_along, "_softmax", "_log_softmax", "flip", "cumsum", "index_select"),
    **_named(
        reduced,
        *("mean", "sum", "amax", "amin", "max", "min", "var", "std", "var_mean", "std_mean"),
        *("prod", "any", "all", "logsumexp"),
    ),
    **_named(sliced, "slice"),
    **_named(selected, "select"),
    **_named(unbound, "unbind"),
    **_named(split, "split", "split_with_sizes", "unsafe_split", "unsafe_split_with_sizes"),
    **_named(joined, "cat"),
    **_named(stacked, "stack"),
    **_named(padded, "constant_pad_nd"),
    **_named(
        pointwise,
        *("copy_", "_prelu_kernel", "hardswish", "hardswish_", "prelu", "bernoulli"),
        *("rrelu_with_noise", "celu", "selu", "log_sigmoid_forward"),
    ),
}
"""What each operation does to labels; anything with torch's pointwise tag is pointwise too."""

_KEEP_WEIGHTS: Final = frozenset({convolution, linear, unchanged, permuted})
"""Rules that know what to do with a weight; elsewhere its channels become fixed."""

_NORMS: Final = frozenset(
    {"native_layer_norm", "native_group_norm", "_fused_rms_norm", "linalg_vector_norm"}
)

_IGNORE_INPUTS: Final = frozenset(
    f"aten::{name}" for name in ("new_zeros", "new_ones", "new_empty", "new_full", "is_same_size")
)


class _Observer(TorchDispatchMode):
    """Runs every operation and keeps the record."""

    def __init__(self, state: State) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.state = state

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run one operation, then move labels from its inputs to its outputs."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        self.state.is_counted = False
        self._follow(func, Call(func._schema.name, args, kwargs, out))
        count = None if self.state.is_counted else flop_registry.get(func.overloadpacket)
        if count is not None:
            # A multiplication and an addition count for two operations there.
            self.state.other_macs += int(count(*args, **kwargs, out_val=out)) // 2
        return out

    def _follow(self, func: Any, call: Call) -> None:
        state = self.state
        if call.name in _IGNORE_INPUTS:
            return
        inputs = list(tensors_in([*call.args, call.kwargs]))
        rule = RULES.get(call.name)
        if rule is None and torch.Tag.pointwise in func.tags and isinstance(call.out, Tensor):
            rule = pointwise
        if rule not in _KEEP_WEIGHTS:
            for tensor in inputs:
                weight = state.weight(tensor)
                if weight is not None and state.shadow(tensor) is None:
                    state.lock([tensor], f"{state.where(call)} computes with this weight")
        known = [t for t in inputs if state.shadow(t) is not None or state.weight(t) is not None]
        if rule is not None and known:
            rule(state, call)
        elif known:
            _fixed(state, call, known)
        state.lose(call, inputs)


def _fixed(state: State, call: Call, known: list[Tensor]) -> None:
    """An operation without a rule: its inputs keep all their channels."""
    problem = "is an operation through which channels are not followed"
    if call.name.removeprefix("aten::") in _NORMS:
        problem = "makes every channel depend on all others"
    state.lock(known, f"{state.where(call)} {problem}")
    shadow = state.shadow(known[0])
    for out in tensors_in(call.out):
        if shadow is not None and tuple(out.shape) == shadow.shape:
            # The labels are locked; passing them on locks what reads them, for the same reason.
            state.give(out, shadow)


def couple(model: nn.Module, example: Tensor) -> Coupling:
    """Return which positions of which axes of a network have to be removed together.

    A private copy runs once, in evaluation mode, on the example plus fixed noise (an example of
    zeros could hide a path). Every activation carries the positions of the weights that made it;
    where two meet they are tied, and where an operation cannot follow a smaller number of
    channels they are locked, with the reason. Nothing is guessed.

    Args:
        model: any network; constraints on its weights count with their present values.
        example: one input, (1, C, H, W).

    Raises:
        CompressionError: the network does not run on the example.
        UnsupportedLayerError: it has no convolution or linear layer that ran.
    """
    private = copy.deepcopy(model)
    bake(private)
    private.eval()
    state = State(private)
    outputs = _run(state, _with_noise(example))
    state.lock(list(tensors_in(outputs)), "reaches the model's output")
    if not state.layers:
        raise UnsupportedLayerError(
            f"{type(model).__name__}: the model must have a convolution or linear layer whose "
            "channels can be removed, got none that ran on the example"
        )
    return _coupling(state)


def _with_noise(example: Tensor) -> Tensor:
    if not example.is_floating_point():
        return example
    noise = torch.randn(example.shape, generator=torch.Generator().manual_seed(0))
    return example + noise.to(example)


def _run(state: State, x: Tensor) -> Any:
    with torch.no_grad(), state.following_modules(), _Observer(state):
        try:
            return state.model(x)
        # Foreign code fails in any way; the place is what the reader needs.
        except Exception as error:
            place = f"in {state.frame.name!r}" if state.frame.name else "in the model"
            text = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise CompressionError(
                f"coupled layers: the model must run on an input of shape {tuple(x.shape)}, got "
                f"{type(error).__name__} {place}: {text}; check the example or the input shape"
            ) from error


def _coupling(state: State) -> Coupling:
    found, count, locked = state.atoms.solve()
    # Atoms of axes and pads are all atoms there are, so class numbers stay dense.
    axes = {axis: found[atoms] for axis, atoms in state.atoms.axes.items()}
    pads = tuple(
        PadSite(p.module, p.pair, p.ordinal, found[p.before], found[p.after])
        for p in state.pads.values()
    )
    shapes = {name: tuple(p.shape) for name, p in state.model.named_parameters()}
    seen = {axis.tensor for axis in axes}
    weights = {
        name: f"{name}.weight"
        for name, module in state.model.named_modules()
        if isinstance(module, (_ConvNd, nn.Linear))
    }
    fixed: dict[str, str] = {}
    for name in weights.keys() - state.layers.keys():
        layer: Any = state.model.get_submodule(name)
        owned = state.owned(layer.weight)
        if owned is None:
            fixed[name] = "its weight is computed from other tensors"
        elif owned.name == weights[name] and owned.name in seen:
            fixed[name] = locked[int(axes[Axis(owned.name, 0)][0])]
    return Coupling(
        axes=axes,
        classes=count,
        locked=locked,
        layers=dict(state.layers),
        shapes=shapes,
        pads=pads,
        unused=tuple(n for n, weight in weights.items() if weight in shapes and weight not in seen),
        fixed=dict(sorted(fixed.items())),
        other_macs=state.other_macs,
    )
