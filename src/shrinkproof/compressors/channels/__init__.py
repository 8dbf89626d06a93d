"""Structured pruning: whole channels leave the network, with everything that belongs to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import pydantic

from shrinkproof.compressors.channels.selection import Ranking
from shrinkproof.compressors.channels.target import Target
from shrinkproof.compressors.criteria import ChannelCriterionField
from shrinkproof.compressors.finetune import FineTuning
from shrinkproof.errors import ModelError
from shrinkproof.protocols import Compressor, Context, Needs, Role
from shrinkproof.records import Change
from shrinkproof.registry import Fraction, OpenFraction, Strings, component
from shrinkproof.training.settings import Training

if TYPE_CHECKING:
    from torch import nn

Count = Annotated[int, pydantic.Field(ge=1)]


@component
class ChannelPruning:
    """Remove the least important channels, so that the network is smaller and faster.

    Channels that are tied (by residual additions, depthwise convolutions, concatenations) go
    together; a class of tied channels scores the mean over the layers that make it, and counts as
    one channel. Units of hidden fully connected layers count as channels, too. Outputs, and
    channels that meet an operation which cannot lose them, stay; the change says which and why.
    After each cut the network is compared with the one whose channels are only set to zero.

    Attributes:
        ratio: fraction of the selected channels that go, 0 to 1, both excluded; or give `target`.
        target: what the network may cost afterwards; the largest network of the ranking that
            costs no more is taken.
        scope: ``global`` ranks the channels of all layers together, after dividing the scores by
            the mean of their layer unless the criterion makes them comparable; ``layer`` takes
            the ratio of each.
        include: patterns (``*`` for any text) of the convolutions and fully connected layers whose
            output channels may go. A channel goes only if all layers that make it are selected.
            A layer that is named without ``*`` must have channels that can go.
        exclude: patterns of layers that keep all their channels.
        criterion: what scores the channels: a registered name, or a name with its settings.
        round_to: the number of channels that a layer keeps is the nearest multiple of this, at
            least one multiple; narrower layers are not rounded. Runtimes are slow at odd widths.
        floor: fraction of the channels that each layer keeps in any case, and at least one.
        iterations: in how many equal steps the ratio is reached; or ``layers``: one group of
            tied layers after the other, in the order of the network.
        finetune: training after each iteration; none where it is left out.
        groups: number of iterations that ``layers`` makes, which the dense control has to know;
            required with `finetune` and ``layers``. A wrong number is an error that names the
            right one.
        rescore: compute the scores anew in each iteration; otherwise once, on the model as it
            enters the step.

    Raises:
        CompressionError: no channel can go, a target cannot be reached, a layer was clustered or
            quantized before, or the network does not work without the channels.

    Reference: Li et al. 2017, arXiv:1608.08710; Fang et al. 2023, arXiv:2301.12900 (tied layers).
    """

    name: ClassVar[str] = "prune.channels"
    version: ClassVar[int] = 1
    role: ClassVar[Role] = Role.COMPRESS
    destroys: ClassVar[frozenset[str]] = frozenset({"levels", "grid"})

    ratio: OpenFraction | None = None
    target: Target | None = None
    scope: Ranking = "global"
    include: Strings = ("*",)
    exclude: Strings = ()
    criterion: Annotated[ChannelCriterionField, pydantic.Field(validate_default=True)] = "l1"
    round_to: Count = 8
    floor: Fraction = 0.1
    iterations: Count | Literal["layers"] = 1
    finetune: Training | None = None
    groups: Count | None = None
    rescore: bool = True

    @pydantic.model_validator(mode="after")
    def _fits_together(self) -> ChannelPruning:
        if (self.ratio is None) == (self.target is None):
            raise ValueError(
                "exactly one of ratio and target must be given, got "
                f"{'none' if self.ratio is None else 'both'}; write for example ratio: 0.5"
            )
        if self.ratio is not None and self.ratio + self.floor > 1 + 1e-12:
            raise ValueError(
                f"ratio must leave the floor of each layer: at most {1 - self.floor:g}, got "
                f"{self.ratio:g}; lower the ratio, or the floor of {self.floor:g}"
            )
        if not self.include:
            raise ValueError("include must have at least one pattern, got none; leave it out")
        counted = self.iterations == "layers" and self.finetune is not None
        if counted != (self.groups is not None):
            raise ValueError(
                "groups must be given exactly where iterations is 'layers' and there is a "
                f"finetune, got {self.groups}; the dense control trains as often"
            )
        return self

    @property
    def needs(self) -> Needs:
        """What the criterion and the training need."""
        needs: Needs = self.criterion.needs
        return needs | self.finetune.needs if self.finetune is not None else needs

    @property
    def recovery(self) -> tuple[Compressor, ...]:
        """The training of all iterations, without the pruning."""
        if self.finetune is None:
            return ()
        return (FineTuning.of(self.finetune),) * (self.groups or int(self.iterations))

    def apply(self, model: nn.Module, context: Context) -> tuple[nn.Module, Change]:
        """Remove channels; return the smaller model and what was reached."""
        from shrinkproof.compressors.channels.run import Pruner

        return model, Pruner(self, model.eval(), context).run()

    def restore(self, model: nn.Module, change: Change) -> nn.Module:
        """Remove the recorded channels from a fresh model, without data.

        Raises:
            ModelError: the change does not belong to this model.
        """
        from shrinkproof.compressors.coupling import cut_again

        for account in _accounts(change):
            cut_again(model, account)
        return model


def _accounts(change: Change) -> list[Mapping[str, Any]]:
    """Return what each iteration cut, in order."""
    cuts = change.structure.get("cuts")
    if not isinstance(cuts, list):
        raise ModelError(
            f"{change.step}: the change must say in `structure.cuts` what was removed, got "
            f"{type(cuts).__name__}; run the study again"
        )
    return cuts
