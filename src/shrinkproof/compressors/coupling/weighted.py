"""Rules for convolutions, linear layers and batch norms: where channels are made and used."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
from torch import Tensor
from torch.nn.modules.conv import _ConvNd

from shrinkproof.compressors.coupling.atoms import FREE, Labels
from shrinkproof.compressors.coupling.coupled import Axis, LayerUse
from shrinkproof.compressors.coupling.shadow import along
from shrinkproof.compressors.coupling.state import Call, State, WeightView


@dataclass(frozen=True, slots=True)
class _Weight:
    """A weight in one call: its view, and which axes of the view face output and input."""

    state: State
    view: WeightView
    out: int
    into: int
    source: str

    def axis(self, place: int) -> Axis:
        return Axis(self.view.owned.name, self.view.dims[place])

    def atoms(self, place: int) -> Labels:
        axis = self.axis(place)
        return self.state.atoms.axis(*axis, self.view.owned.tensor.shape[axis.dim])

    def tie(self, first: Labels, second: Labels) -> None:
        self.state.atoms.tie(first, second, f"{self.view.owned.layer} reads {self.source}")

    def use(self, groups: int, positions: int, *, depthwise: bool = False) -> None:
        """Count the call as one of a layer."""
        out, into = self.axis(self.out), self.axis(self.into)
        shape = self.view.owned.tensor.shape
        # A depthwise weight has its channels on axis 0 whichever way it is applied.
        axes = (0,) if depthwise else (0, 1)
        use = LayerUse(
            weight=self.view.owned.name,
            out_axis=Axis(out.tensor, 0) if depthwise else out,
            in_axis=None if depthwise else into,
            kernel=prod(n for d, n in enumerate(shape) if d not in axes),
            groups=groups,
            positions=positions,
            depthwise=depthwise,
            repeats=shape[1] if depthwise else 1,
        )
        self.state.use_layer(use, self.view.owned.layer)


def convolution(state: State, call: Call) -> None:
    """Tie the input to the weight's input channels; the output has its output channels."""
    x, weight, bias = call.args[:3]
    transposed, groups = bool(call.args[6]), int(call.args[8])
    view = state.weight(weight)
    if view is None or view.dims != tuple(range(weight.ndim)):
        _lock_computed(state, call)
        return
    used = _Weight(state, view, int(transposed), 1 - int(transposed), state.source(x))
    inputs = _channels(state, x, 1, view.owned.layer)
    depthwise = groups > 1 and groups == x.shape[1]
    if depthwise:
        outputs = _depthwise(used, inputs, transposed=transposed)
    elif groups > 1:
        outputs = _grouped(used, inputs, groups, transposed=transposed)
    else:
        used.tie(inputs, used.atoms(used.into))
        outputs = used.atoms(used.out)
    if bias is not None:
        _tie_vector(state, bias, outputs)
    # A transposed convolution applies its kernel once per position of the input.
    applied: Tensor = x if transposed else call.out
    used.use(groups, applied.numel() // applied.shape[1], depthwise=depthwise)
    state.give(call.out, along(outputs, 1, call.out.shape))


def _depthwise(used: _Weight, inputs: Labels, *, transposed: bool) -> Labels:
    """Each input channel has outputs of its own: all of them are one class."""
    owned = used.view.owned
    atoms = used.state.atoms.axis(owned.name, 0, owned.tensor.shape[0])
    if not isinstance(owned.module, _ConvNd):
        reason = f"the number of groups of {owned.layer} stands in Python code"
        used.state.atoms.lock(atoms, reason)
    if transposed:
        used.tie(atoms, inputs)
        return np.repeat(atoms, owned.tensor.shape[1])
    used.tie(atoms, np.repeat(inputs, atoms.size // inputs.size))
    return atoms


def _grouped(used: _Weight, inputs: Labels, groups: int, *, transposed: bool) -> Labels:
    """Equal positions of all groups are one class, so that groups stay equally wide."""
    outs, ins = used.atoms(used.out), used.atoms(used.into)
    used.tie(inputs.reshape(groups, -1), ins.reshape(groups if transposed else 1, -1))
    shared = (ins if transposed else outs).reshape(groups, -1)
    used.tie(shared, shared[:1])
    return np.tile(outs, groups) if transposed else outs


def linear(state: State, call: Call) -> None:
    """Tie the last axis of the input to the weight's input channels (``mm``, ``addmm``)."""
    *bias, x, weight = call.args[:3]
    view = state.weight(weight)
    if view is None or len(view.dims) != 2 or state.weight(x) is not None:
        _lock_computed(state, call)
        return
    used = _Weight(state, view, out=1, into=0, source=state.source(x))
    inputs = _channels(state, x, -1, view.owned.layer)
    used.tie(inputs, used.atoms(used.into))
    outputs = used.atoms(used.out)
    if bias:
        _tie_vector(state, bias[0], outputs)
    used.use(1, x.numel() // x.shape[-1])
    state.give(call.out, along(outputs, call.out.ndim - 1, call.out.shape))


def batch_norm(state: State, call: Call) -> None:
    """Tie the parameters and statistics to the channels of the input."""
    x = call.args[0]
    vectors = [t for t in call.args[1:5] if isinstance(t, Tensor) and t.numel()]
    shadow = state.shadow(x)
    if shadow is None or not shadow.only_varies(1):
        reason = f"{state.where(call)} normalizes a tensor whose channels cannot be followed"
        state.lock([x, *vectors], reason)
        return
    channels = shadow.along(1)
    for vector in vectors:
        _tie_vector(state, vector, channels)
    state.give(call.out[0], shadow)


def _channels(state: State, x: Tensor, dim: int, layer: str) -> Labels:
    """Return the atoms of the input along its channels, free where there are none."""
    shadow = state.shadow(x)
    dim %= x.ndim
    if shadow is None:
        return np.full(x.shape[dim], FREE, dtype=np.int64)
    if not shadow.only_varies(dim):
        reason = f"{layer} reads a tensor in which channels were moved into space"
        state.atoms.lock(shadow.labels, reason)
        return np.full(x.shape[dim], FREE, dtype=np.int64)
    return shadow.along(dim)


def _tie_vector(state: State, vector: Tensor, channels: Labels) -> None:
    """Tie a bias, scale or statistic to the channels that it belongs to."""
    shadow = state.shadow(vector)
    reason = "a bias, scale or statistic of these channels is computed from other tensors"
    if shadow is None or shadow.shape != (channels.size,):
        state.atoms.lock(channels, reason)
        state.lock([vector], reason)
        return
    state.atoms.tie(shadow.along(0), channels, reason)


def _lock_computed(state: State, call: Call) -> None:
    tensors = [t for t in call.args if isinstance(t, Tensor)]
    state.lock(tensors, f"the weight of {state.where(call)} is computed from other tensors")
