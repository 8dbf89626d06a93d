"""Starting over: the compressed shape with weights drawn anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from shrinkproof.errors import CompressionError, ModelError
from shrinkproof.protocols import Context, Needs, Role
from shrinkproof.records import Change
from shrinkproof.registry import component, fields_of
from shrinkproof.training.seeding import private_seed

if TYPE_CHECKING:
    from torch import nn


@component
class Reinitialization:
    """Draw all weights anew and keep the structure and the masks.

    What remains of an earlier pruning is its shape: trained from here with the budget of the
    original, it is the control of every pruning (Liu et al. 2019, arXiv:1810.05270). Each layer
    draws by its own ``reset_parameters``, which is its type's default initialization and not one
    that the network's constructor put in its place; batch normalization forgets its statistics.
    Frozen parameters stay as they are.

    Raises:
        CompressionError: the model was clustered or quantized before, or everything is frozen.
        ModelError: a layer has parameters that it cannot draw anew.
    """

    name: ClassVar[str] = "reinitialize"
    version: ClassVar[int] = 1
    role: ClassVar[Role] = Role.RECOVER
    destroys: ClassVar[frozenset[str]] = frozenset({"levels", "grid"})

    @property
    def needs(self) -> Needs:
        """Nothing besides the model."""
        return Needs.NOTHING

    def apply(self, model: nn.Module, context: Context) -> tuple[nn.Module, Change]:
        """Draw the weights; return the model and how many there are."""
        import torch

        from shrinkproof.compressors.constraint import bake, constrain

        masks = list(_masks(model))
        bake(model)
        frozen = {n: p.detach().clone() for n, p in model.named_parameters() if not p.requires_grad}
        drawn = {n: p for n, p in model.named_parameters() if p.requires_grad}
        if not drawn:
            raise CompressionError(
                f"{self.name}: at least one parameter must not be frozen, got none; there is "
                "nothing to draw"
            )
        with torch.no_grad():
            for parameter in drawn.values():
                # What a layer forgets to draw stays visible.
                parameter.fill_(torch.nan)
            layers = _draw(model, context)
            _check_drawn(model, drawn)
            for name, value in frozen.items():
                model.get_parameter(name).copy_(value)
        for layer, mask in masks:
            constrain(model.get_submodule(layer), "weight", mask, layer=layer)
        return model, Change(
            step=self.name,
            version=self.version,
            fields=fields_of(self),
            achieved={"layers": layers, "parameters": sum(p.numel() for p in drawn.values())},
            untouched=dict.fromkeys(frozen, "frozen"),
        )

    def restore(self, model: nn.Module, change: Change) -> nn.Module:  # noqa: ARG002
        """Return the model as it is: what was drawn comes with the weights."""
        return model


def _masks(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield every layer under a mask, with the mask.

    Raises:
        CompressionError: a layer was clustered or quantized.
    """
    from shrinkproof.compressors.constraint import Mask, constraints_of

    for layer, module in model.named_modules():
        for constraint in constraints_of(module):
            if not isinstance(constraint, Mask):
                raise CompressionError(
                    f"{Reinitialization.name}: {layer} must not be clustered or quantized yet, got "
                    f"a {constraint.label}; put {Reinitialization.name} before that step"
                )
            yield layer, constraint


def _draw(model: nn.Module, context: Context) -> int:
    """Let every layer draw from a stream of its own name; return how many did."""
    import torch

    count = 0
    for name, module in model.named_modules():
        reset: Callable[[], None] | None = getattr(module, "reset_parameters", None)
        own = [p for p in module._parameters.values() if p is not None]
        if reset is None or (own and not any(p.requires_grad for p in own)):
            continue
        device = own[0].device if own else torch.device("cpu")
        with private_seed(context.stream("layer", name), device):
            reset()
        count += 1
    return count


def _check_drawn(model: nn.Module, drawn: dict[str, nn.Parameter]) -> None:
    left = [name for name, parameter in drawn.items() if bool(parameter.isnan().any())]
    if left:
        owner, _, _ = left[0].rpartition(".")
        kind = type(model.get_submodule(owner)).__name__
        raise ModelError(
            f"{Reinitialization.name}: every layer with parameters must have a reset_parameters "
            f"that draws them, got none for {', '.join(left)} ({kind}); give the class such a "
            "method, or freeze these parameters"
        )
