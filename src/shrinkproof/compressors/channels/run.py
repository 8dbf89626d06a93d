"""One application of channel pruning: score, choose, cut, compare, train, and again."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.conv import _ConvNd

from shrinkproof.compressors.channels import check
from shrinkproof.compressors.channels.account import Ledger, Size, change_of
from shrinkproof.compressors.channels.candidates import (
    STEP,
    Candidates,
    Producers,
    candidates,
    cells,
)
from shrinkproof.compressors.channels.search import Goal, search_counted, search_measured
from shrinkproof.compressors.channels.selection import (
    CellKey,
    Family,
    channel_scores,
    relative,
)
from shrinkproof.compressors.constraint import (
    Codebook,
    Mask,
    constraints_of,
)
from shrinkproof.compressors.coupling import Coupling, couple, cut, silence
from shrinkproof.compressors.finetune import FineTuning
from shrinkproof.compressors.layers import matching
from shrinkproof.errors import CompressionError
from shrinkproof.protocols import Context
from shrinkproof.records import Change

if TYPE_CHECKING:
    from shrinkproof.compressors.channels import ChannelPruning

LATENCY_NOISE: Final = 0.03
"""Part by which two medians of one file's latency differ on a machine with other work."""

Scores = dict[str, NDArray[np.float64]]
Plan = Callable[[Family], Sequence[int]]
"""What one iteration removes: how many channels of each cell."""


class Pruner:
    """Prunes one model in place, as its settings say.

    Args:
        step: the settings.
        model: a private copy in evaluation mode.
        context: images, streams, device.
    """

    def __init__(self, step: ChannelPruning, model: nn.Module, context: Context) -> None:
        self.step = step
        self.model = model
        self.context = context
        self.ledger = Ledger()
        self.probe = check.probe_of(context.example, context.device)
        self.coupling = self._couple()
        self.start = Size.of(model, self.coupling)

    def run(self) -> Change:
        """Remove the channels and return the account of it."""
        first = self.coupling
        self._check_order()
        family = self._family(0)
        self.ledger.before = {c.key: (c.width, c.before) for c in family.cells}
        plans = self._plans(family)
        for number, plan in enumerate(plans):
            if number:
                self.coupling = self._couple()
                family = self._family(number)
            self._cut(family.removed(plan(family)))
            self._train(number, len(plans))
        if not self.ledger.removed:
            raise self._nothing(family)
        end = Size.of(self.model, first)
        return change_of(self.step, self.ledger, self.start, end, len(plans))

    def _couple(self) -> Coupling:
        return couple(self.model, self.context.example[:1].to(self.context.device))

    def _check_order(self) -> None:
        """Refuse selected layers whose weights are clustered or quantized."""
        step = self.step
        for name in matching(self.coupling.layers, step.include, step.exclude, step=STEP):
            if not self._is_module(name):
                continue
            for constraint in constraints_of(self.model.get_submodule(name)):
                if not isinstance(constraint, Mask):
                    earlier = "cluster" if isinstance(constraint, Codebook) else "quantization"
                    raise CompressionError(
                        f"{STEP}: {name} must not be clustered or quantized yet, got a "
                        f"{constraint.label}; put {STEP} before the {earlier} step"
                    )

    def _family(self, number: int) -> Family:
        """Return the networks that the scores of an iteration lead to."""
        step = self.step
        found = candidates(Producers.of(self.coupling), step.include, step.exclude)
        scores = self._scores(found, number)
        classes = channel_scores(
            found.layers,
            found.producers.axes,
            scores,
            self.coupling.classes,
        )
        if not number:
            self._tell_untouched(found, classes)
        made = cells(
            found,
            classes,
            round_to=step.round_to,
            floor=step.floor,
            before=self.ledger.before,
        )
        self._check_cells(key for key in self.ledger.before if key not in {c.key for c in made})
        if not made:
            raise CompressionError(
                f"{STEP}: criterion {step.criterion.name!r} must be defined for some of the "
                f"selected layers, got none of {', '.join(found.layers)}; take another criterion"
            )
        return Family(cells=made, scope=step.scope, classes=self.coupling.classes)

    def _check_cells(self, lost: Iterable[CellKey]) -> None:
        """Refuse to go on where channels that could go are tied in another way than before."""
        names = ", ".join(dict.fromkeys(name for layers, _ in lost for name in layers))
        if names:
            raise CompressionError(
                f"{STEP}: the same channels must be tied after each iteration, got others for "
                f"{names}: a layer with groups has become a depthwise one. Raise `floor`, or take "
                "one iteration"
            )

    def _tell_untouched(self, found: Candidates, scores: NDArray[np.float64]) -> None:
        untouched = self.ledger.untouched
        untouched.update(found.untouched)
        unseen = "does not run in evaluation mode, so what it reads is not known"
        untouched.update(dict.fromkeys(self.coupling.unused, unseen))
        untouched.update(self.coupling.fixed)
        for layer in found.layers:
            if np.isnan(scores[found.producers.axes[layer]]).all():
                untouched[layer] = (
                    f"criterion {self.step.criterion.name!r} is not defined for it"
                    if self._is_module(layer)
                    else "its weight is not that of a convolution or fully connected layer"
                )

    def _scores(self, found: Candidates, number: int) -> Scores:
        """Return layer -> checked scores; computed once where that is asked for."""
        if number and not self.step.rescore:
            return self.ledger.scores
        criterion = self.step.criterion

        def note(values: Mapping[str, Any]) -> None:
            if values.get("criterion") == criterion.name:
                self.ledger.criteria.append(dict(values))
            self.context.note(values)

        context = replace(
            self.context,
            stream=partial(self.context.stream, "scores", number),
            scratch=None,
            note=note,
        )
        layers = tuple(layer for layer in found.layers if self._is_module(layer))
        given = criterion.scores(self.model, layers, context) if layers else {}
        scores = {
            layer: _checked(given[layer], self._width(layer), criterion.name, layer)
            for layer in layers
            if layer in given
        }
        if not criterion.comparable:
            scores = {layer: relative(values) for layer, values in scores.items()}
        self.ledger.scores = scores
        return scores

    def _is_module(self, layer: str) -> bool:
        """Return whether a weight belongs to a module that criteria know, not to Python code."""
        owner, _, name = self.coupling.layers[layer].weight.rpartition(".")
        module = self.model.get_submodule(owner)
        return name == "weight" and isinstance(module, (_ConvNd, nn.Linear))

    def _width(self, layer: str) -> int:
        """Return how many output channels a layer has now."""
        return int(self.coupling.outputs(layer).size)

    def _plans(self, family: Family) -> list[Plan]:
        """Return what each iteration removes.

        Raises:
            CompressionError: nothing can go, or the number of groups is not the stated one.
        """
        step = self.step
        last = self._search(family) if step.ratio is None else family.member(step.ratio)
        counts = family.counts(last)
        if not any(counts):
            raise self._nothing(family)
        if step.iterations == "layers":
            return self._group_plans(family, counts)
        final = family.ratio(last) if step.ratio is None else step.ratio
        plans: list[Plan] = [
            partial(_at_ratio, ratio=final * (number + 1) / step.iterations)
            for number in range(step.iterations)
        ]
        if step.iterations == 1:
            return [lambda family: counts]  # noqa: ARG005
        if step.target is not None:
            plans[-1] = lambda family: family.counts(self._search(family))
        return plans

    def _group_plans(self, family: Family, counts: Sequence[int]) -> list[Plan]:
        """Return one plan for each group of tied layers that loses channels."""
        left: dict[int, dict[CellKey, int]] = {}
        for cell, count in zip(family.cells, counts, strict=True):
            if count:
                left.setdefault(cell.group, {})[cell.key] = cell.width - count
        if self.step.groups not in (None, len(left)):
            raise CompressionError(
                f"{STEP}: groups must be {len(left)}, the number of groups of tied layers that "
                f"lose channels in this model, got {self.step.groups}; write groups: {len(left)}"
            )
        return [partial(_down_to, left=left[group]) for group in left]

    def _nothing(self, family: Family) -> CompressionError:
        step = self.step
        if step.target is not None and step.target.is_measured:
            return CompressionError(
                f"{STEP}: the target {step.target.kind} must ask for less than the model has, "
                f"got {step.target.value:g} where the model has "
                f"{self.ledger.reached[step.target.kind]:g}; lower it, or leave the step out"
            )
        widths = ", ".join(str(w) for w in sorted({cell.width for cell in family.cells}))
        return CompressionError(
            f"{STEP}: at least one channel must go, got none with round_to {step.round_to} and "
            f"floor {step.floor:g} in layers with {widths} channels; lower round_to or floor, or "
            "ask for more"
        )

    def _search(self, family: Family) -> int:
        """Return the largest member of a family that meets the target, and note what it reached."""
        target = self.step.target
        assert target is not None, "only called with a target"
        total = {"macs": self.start.total_macs, "params": self.start.params}
        count = {"macs": self.coupling.macs, "params": self.coupling.parameters}

        def cost(member: int, *, kind: str) -> float:
            return count[kind](family.removed(family.counts(member))) / total[kind]

        goal = Goal(
            name=target.kind,
            limit=target.value,
            smallest="raise it, lower `floor` or `round_to`, or select more layers",
            noise=LATENCY_NOISE if target.kind == "latency_ratio" else 0.0,
        )
        if not target.is_measured:
            return search_counted(family, partial(cost, kind=target.kind), goal)
        # Bytes follow the parameters, time follows the arithmetic.
        proxy = partial(cost, kind="params" if target.kind == "bytes" else "macs")
        member, value = search_measured(family, proxy, partial(self._measure, family), goal)
        self.ledger.reached = {target.kind: int(value) if target.kind == "bytes" else value}
        return member

    def _measure(self, family: Family, member: int) -> float:
        """Return what a member of a family measures as an exported file."""
        probe, target = self.context.probe, self.step.target
        if probe is None or target is None:
            raise CompressionError(
                f"{STEP}: the target {target.kind if target else ''} needs exported files to be "
                "measured, got nothing that measures them; run the step in a study or with "
                "`shrinkproof compress`, give the context a probe, or use macs or params"
            )
        model = self.model
        removed = family.removed(family.counts(member))
        if removed.any():
            model = copy.deepcopy(model)
            cut(model, self.coupling, removed)
        measure = probe.bytes if target.kind == "bytes" else probe.latency
        return float(measure(model, self.context.changes))

    def _cut(self, removed: NDArray[np.bool_]) -> None:
        """Remove channels and compare with the model in which they are silent."""
        if not removed.any():
            return
        coupling, ledger = self.coupling, self.ledger
        kept = {n: np.flatnonzero(~removed[coupling.outputs(n)]) for n in coupling.layers}
        silenced = copy.deepcopy(self.model)
        ledger.cuts.append(cut(self.model, coupling, removed))
        silence(silenced, coupling, removed)
        expected = check.run(silenced, coupling.layers, self.probe)
        got = check.run(self.model, coupling.layers, self.probe)
        ledger.difference = max(ledger.difference, check.difference(expected, got, kept))
        ledger.removed += int(removed.sum())
        ledger.scores = {layer: s[kept[layer]] for layer, s in ledger.scores.items()}

    def _train(self, number: int, count: int) -> None:
        """Train the model as the control is trained."""
        if self.step.finetune is None:
            return
        context, scratch = self.context, self.context.scratch

        def note(values: Mapping[str, Any]) -> None:
            context.note({"iteration": number + 1, "iterations": count, **values})

        inner = replace(
            context,
            stream=partial(context.stream, "finetune", number),
            trained=context.trained + number,
            scratch=scratch / f"{number + 1}-finetune" if scratch else None,
            note=note,
        )
        self.model, change = FineTuning.of(self.step.finetune).apply(self.model, inner)
        self.ledger.trainings.append(change.achieved)


def _at_ratio(family: Family, *, ratio: float) -> Sequence[int]:
    return family.counts(family.member(ratio))


def _down_to(family: Family, *, left: Mapping[CellKey, int]) -> Sequence[int]:
    return [cell.width - left.get(cell.key, cell.width) for cell in family.cells]


def _checked(scores: Any, width: int, criterion: str, layer: str) -> NDArray[np.float64]:
    """Return scores as numbers after checking them.

    Raises:
        CompressionError: they have another shape, or one is not finite or below 0.
    """
    what = f"criterion {criterion!r}: the scores of {layer}"
    values: NDArray[np.float64] = scores.detach().cpu().double().numpy()
    if values.shape != (width,):
        raise CompressionError(
            f"{what} must have the shape {(width,)}, got {values.shape}; repair the criterion"
        )
    bad = int((~np.isfinite(values) | (values < 0)).sum())
    if bad:
        raise CompressionError(
            f"{what} must be finite and at least 0, got {bad} of {width} that are not; repair "
            "the model or the criterion"
        )
    return values
