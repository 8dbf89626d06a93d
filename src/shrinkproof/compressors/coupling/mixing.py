"""Rules for operations that combine tensors position by position."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor

from shrinkproof.compressors.coupling.atoms import FREE, Labels
from shrinkproof.compressors.coupling.shadow import Shadow
from shrinkproof.compressors.coupling.state import Call, State, tensors_in


class _Operand(NamedTuple):
    """One input, brought to the number of axes of the output."""

    tensor: Tensor
    shape: tuple[int, ...]
    labels: Labels | None


def pointwise(state: State, call: Call) -> None:
    """Tie the labels of all inputs position by position; numbers and single values are free."""
    ndim = call.out.ndim
    operands = [_operand(state, t, ndim) for t in tensors_in([*call.args, call.kwargs])]
    present = [o.labels for o in operands if o.labels is not None]
    if not present:
        return
    varies = [any(known.shape[d] > 1 for known in present) for d in range(ndim)]
    kept = []
    for operand in operands:
        size = [n for d, n in enumerate(operand.shape) if varies[d]]
        full = [n for d, n in enumerate(call.out.shape) if varies[d]]
        if operand.labels is None:
            if any(n > 1 for n in size):
                reason = f"{state.where(call)} combines it with a tensor of fixed size"
                for known in present:
                    state.atoms.lock(known, reason)
                state.lock([operand.tensor], reason)
        elif size != full:
            reason = f"{state.where(call)} applies one channel to all channels of another tensor"
            state.atoms.lock(operand.labels, reason)
        else:
            kept.append(operand.labels)
    if not kept:
        return
    labels = kept[0]
    for other in kept[1:]:
        reason = f"{state.where(call)} combines it with a tensor without removable channels"
        state.atoms.tie(labels, other, reason)
        labels = np.where(labels == FREE, other, labels)
    state.give(call.out, Shadow(tuple(call.out.shape), labels))


def _operand(state: State, tensor: Tensor, ndim: int) -> _Operand:
    shadow = state.shadow(tensor)
    missing = (1,) * (ndim - tensor.ndim)
    labels = None if shadow is None else shadow.labels.reshape(*missing, *shadow.labels.shape)
    return _Operand(tensor, (*missing, *tensor.shape), labels)
