"""Channel coupling: what has to be removed together, and removing it.

A network runs once under observation (``couple``). Every position on the axes of its weights
belongs to a class that can only be removed as a whole: the output channel of a convolution, the
matching entries of batch norm and bias, and the input channels of everything that reads it.
``Coupling`` holds the classes, says which are locked and why, and counts multiply-accumulates and
parameters of any removal without making it. ``silence`` makes the masked model, ``cut`` the small
one; both compute the same outputs. ``cut_again`` repeats a cut on a fresh model without data.

    coupling = couple(model, example)
    removed = np.zeros(coupling.classes, dtype=bool)
    removed[...] = True
    coupling.macs(removed), coupling.parameters(removed)
    account = cut(model, coupling, removed)

After a cut the classes have changed: couple the model again before the next one.
"""

from shrinkproof.compressors.coupling.coupled import (
    Axis,
    Coupling,
    Group,
    LayerUse,
    PadSite,
)
from shrinkproof.compressors.coupling.surgery import cut, cut_again, silence
from shrinkproof.compressors.coupling.trace import couple

__all__ = [
    "Axis",
    "Coupling",
    "Group",
    "LayerUse",
    "PadSite",
    "couple",
    "cut",
    "cut_again",
    "silence",
]
