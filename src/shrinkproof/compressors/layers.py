"""Which layers a step treats, and why it leaves the others alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, Literal

from shrinkproof.errors import CompressionError

if TYPE_CHECKING:
    from torch import nn

Scope = Literal["conv", "conv+linear", "full-conv", "full-conv+linear"]
"""Convolutions only, or fully connected layers too; ``full-`` leaves depthwise ones alone."""

NOT_SELECTED: Final = "not selected by include and exclude"
"""Reason of a layer that the patterns of a step leave out."""


@dataclass(slots=True)
class Layers:
    """The layers of a model from a step's point of view.

    Attributes:
        treated: qualified name -> every module that holds this weight; more than one where
            layers share it.
        untouched: qualified name -> reason.
    """

    treated: dict[str, list[nn.Module]] = field(default_factory=dict)
    untouched: dict[str, str] = field(default_factory=dict)


def select_layers(
    model: nn.Module,
    scope: Scope,
    *,
    step: str,
    include: Sequence[str] = ("*",),
    exclude: Sequence[str] = (),
) -> Layers:
    """Return the convolutions (and fully connected layers) whose weight can be constrained.

    Layers that share one weight appear once, under the first name.

    Args:
        model: the network.
        scope: which kinds of layers.
        step: who asks, for messages.
        include: patterns of names to treat.
        exclude: patterns of names to leave alone.

    Raises:
        CompressionError: there is nothing to treat, or a pattern matches nothing.
    """
    from torch import nn
    from torch.nn.modules.conv import _ConvNd

    from shrinkproof.compressors.constraint import why_not_constrainable

    layers = Layers()
    owner: dict[int, str] = {}
    for name, module in model.named_modules():
        if not isinstance(module, (_ConvNd, nn.Linear)):
            continue
        if isinstance(module, nn.Linear) and not scope.endswith("+linear"):
            layers.untouched[name] = f"fully connected; the setting is {scope!r}"
            continue
        if scope.startswith("full-") and is_depthwise(module):
            layers.untouched[name] = f"depthwise; the setting is {scope!r}"
            continue
        reason = why_not_constrainable(module)
        if reason:
            layers.untouched[name] = f"its weight cannot be constrained: {reason}"
            continue
        first = owner.setdefault(id(_storage(module)), name)
        layers.treated.setdefault(first, []).append(module)
        if first != name:
            layers.untouched[name] = f"shares its weight with {first}, where it is treated"
    if not layers.treated:
        kinds = ["convolution"] + ["fully connected layer"] * scope.endswith("+linear")
        wanted = " or ".join(kinds)
        skipped = "; ".join(f"{n}: {r}" for n, r in layers.untouched.items())
        raise CompressionError(
            f"{step}: the model must have at least one {wanted} to treat, got none"
            + (f" ({skipped})" if skipped else "")
        )
    chosen = frozenset(matching(layers.treated, include, exclude, step=step))
    for name in [name for name in layers.treated if name not in chosen]:
        layers.untouched[name] = NOT_SELECTED
        del layers.treated[name]
    return layers


def is_depthwise(module: nn.Module) -> bool:
    """Return whether a layer is a convolution with filters of one input channel each."""
    groups = getattr(module, "groups", 1)
    return bool(groups > 1 and groups == getattr(module, "in_channels", 0))


def matching(
    names: Iterable[str], include: Sequence[str], exclude: Sequence[str], *, step: str
) -> tuple[str, ...]:
    """Return the names that a pattern of ``include`` matches and none of ``exclude``, in order.

    Patterns are those of a shell: ``*`` stands for any text, dots included.

    Raises:
        CompressionError: a pattern matches no name, or nothing is left.
    """
    names = tuple(names)
    for pattern in (*include, *exclude):
        if not any(fnmatchcase(name, pattern) for name in names):
            raise CompressionError(
                f"{step}: each pattern must match a layer, got {pattern!r}, which matches none; "
                f"the layers are {', '.join(names)}"
            )
    left = tuple(
        name
        for name in names
        if any(fnmatchcase(name, pattern) for pattern in include)
        and not any(fnmatchcase(name, pattern) for pattern in exclude)
    )
    if not left:
        raise CompressionError(
            f"{step}: at least one layer must be left to treat, got none: {', '.join(exclude)} "
            f"takes away all that {', '.join(include)} selects"
        )
    return left


def _storage(module: nn.Module) -> object:
    """Return the parameter behind a weight, constrained or not."""
    from shrinkproof.compressors.constraint import is_constrained

    if is_constrained(module):
        return module.parametrizations["weight"].original  # type: ignore[index, union-attr]
    return module._parameters["weight"]
