"""Which share of a study's work each of several launchers takes, without asking the others."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from shrinkproof.errors import UsageError
from shrinkproof.evaluators.fidelity import Fidelity
from shrinkproof.evaluators.saliency import Saliency
from shrinkproof.evaluators.scores import Scores
from shrinkproof.protocols import Needs
from shrinkproof.records import Candidate, Cell, Condition
from shrinkproof.study.inputs import Inputs
from shrinkproof.study.plan import recipe_of
from shrinkproof.study.work.preparing import training_key

T = TypeVar("T")

_FORM: Final = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")


@dataclass(frozen=True, slots=True)
class Share:
    """One of several equal shares of some work.

    Attributes:
        index: which one, from 1.
        count: how many there are.
    """

    index: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Share:
        """Return the share of a text such as ``3/16``.

        Raises:
            UsageError: the text says something else.
        """
        found = _FORM.fullmatch(text)
        share = cls(int(found[1]), int(found[2])) if found else cls(0, 0)
        if not 1 <= share.index <= share.count:
            raise UsageError(
                f"--shard: must be I/N with I from 1 to N, got {text!r}; the third of 16 is 3/16"
            )
        return share

    def __str__(self) -> str:
        """Return the text that `parse` reads."""
        return f"{self.index}/{self.count}"

    def takes(self, position: int) -> bool:
        """Return whether the unit at a position, from 0, belongs to this share."""
        return position % self.count == self.index - 1

    def of(self, units: Sequence[T]) -> tuple[T, ...]:
        """Return the units that belong to this share: they are dealt like cards."""
        return tuple(unit for position, unit in enumerate(units) if self.takes(position))


class Unit(NamedTuple):
    """What the stage `measure` never divides between shares.

    A pass shows the images of one split under one condition to all candidates; heat maps are made
    of all candidates of one model, beside its baseline's. A pass over very many images has parts.

    Attributes:
        evaluator: what is measured.
        split: whose images.
        condition: what the world does to them.
        model: name of the model in the study; empty for all models.
        part: which part of the images, from 0.
    """

    evaluator: str
    split: str
    condition: Condition
    model: str = ""
    part: int = 0


def groups_of(inputs: Inputs, candidates: Iterable[Candidate]) -> list[tuple[Candidate, ...]]:
    """Return the candidates in groups that one share prepares, those that train first.

    Dense checkpoints along a control's training and the control are one group: each goes on from
    the last. With the groups that train first, dealing them out balances the training.

    Args:
        inputs: the study.
        candidates: all that it wants, in the order of the plan.
    """
    groups: dict[str, list[Candidate]] = {}
    trains: dict[str, bool] = {}
    for candidate in candidates:
        recipe = recipe_of(candidate)
        key = training_key(inputs, candidate, recipe)
        groups.setdefault(key, []).append(candidate)
        trains[key] = Needs.TRAINING in recipe.needs
    return [tuple(groups[key]) for key in sorted(groups, key=lambda key: not trains[key])]


def units_of(
    candidates: Iterable[Candidate], cells: Iterable[Cell], parts: Mapping[str, int] | None = None
) -> dict[Unit, list[Cell]]:
    """Return what the stage `measure` consists of, with the cells that each unit is needed for.

    Sizes and latency are no part of it: they belong to the machine of the run that ends a study.

    Args:
        candidates: all that the study wants.
        cells: all that it wants measured, in the order of the plan.
        parts: how many parts a pass over a split has; 1 for splits that are not named.
    """
    models = {candidate.key: candidate.model for candidate in candidates}
    found: dict[Unit, list[Cell]] = {}
    for cell in cells:
        place = (cell.evaluator, cell.split, cell.condition)
        if cell.evaluator == Scores.name:
            units = [Unit(*place, part=k) for k in range((parts or {}).get(cell.split, 1))]
        elif cell.evaluator == Saliency.name:
            units = [Unit(*place, model=models[cell.candidate])]
        else:
            units = [Unit(*place)] if cell.evaluator == Fidelity.name else []
        for unit in units:
            found.setdefault(unit, []).append(cell)
    return found
