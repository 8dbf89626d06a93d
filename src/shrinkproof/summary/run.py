"""A run as the families of derived numbers see it: who is compared with whom."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from shrinkproof.metrics.references import Reference
from shrinkproof.metrics.temperature import Temperature, fit_temperature
from shrinkproof.protocols import Undefined
from shrinkproof.records import CLEAN, Candidate
from shrinkproof.summary.maps import Maps
from shrinkproof.summary.split import Split
from shrinkproof.summary.values import Settings

_TRAINING: Final = ("finetune", "finetune.until")
"""Steps that leave a network dense and of the same training."""


@dataclass(eq=False)
class Run:
    """Candidates and splits of a run.

    Attributes:
        candidates: baselines, controls and recipes, in the order of the study.
        splits: what was measured, by split.
        settings: what derived numbers depend on.
        reference: gives what errors are divided by where that is a network of another run.
        maps: the stored heat maps; None where there are none.
    """

    candidates: Sequence[Candidate]
    splits: dict[str, Split]
    settings: Settings
    reference: Callable[[Split], Reference | Undefined] | None = None
    maps: Maps | None = None
    _temperatures: dict[str, Temperature | Undefined] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Index the candidates."""
        self.by_key = {c.key: c for c in self.candidates}
        self._baselines = {c.model: c for c in self.candidates if c.role == "baseline"}

    def baseline(self, candidate: Candidate) -> Candidate:
        """Return the uncompressed model of a candidate; a baseline is its own."""
        return self._baselines[candidate.model]

    def control(self, candidate: Candidate) -> Candidate | None:
        """Return the dense control of equal training; None where that is the baseline itself."""
        found = self.by_key.get(candidate.control)
        return None if found is None or found.role != "control" else found

    @cached_property
    def references(self) -> frozenset[str]:
        """Keys of everybody that others are compared with."""
        controls = {c.control for c in self.candidates}
        return frozenset(
            c.key for c in self.candidates if c.role == "baseline" or c.key in controls
        )

    @cached_property
    def dense(self) -> frozenset[str]:
        """Keys of the uncompressed networks: baselines, and controls that only train."""
        return frozenset(
            c.key
            for c in self.candidates
            if c.role == "baseline"
            or (c.role == "control" and all(s["name"] in _TRAINING for s in c.steps))
        )

    @property
    def printing(self) -> str:
        """Split whose numbers are printed."""
        return self.settings.printing or ("report" if "report" in self.splits else "select")

    def temperature(self, candidate: str) -> Temperature | Undefined:
        """Return the temperature that fits a candidate's clean images of the select split."""
        if candidate not in self._temperatures:
            self._temperatures[candidate] = self._fit(candidate)
        return self._temperatures[candidate]

    def _fit(self, candidate: str) -> Temperature | Undefined:
        split = self.splits.get("select")
        if split is None:
            return Undefined(
                "a temperature is fitted on the select split, and nothing was measured there; on "
                "the images that judge it, it would look too good"
            )
        chosen_on = split.predictions(candidate, CLEAN)
        if chosen_on is None:
            return Undefined(
                "a temperature is fitted on clean images of the select split; there are no "
                f"predictions of {self.by_key[candidate].label}"
            )
        return fit_temperature(chosen_on.logits, chosen_on.target)
