"""Which candidates are which compression method, by their steps and not by their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shrinkproof.records import Candidate, Form, Json
from shrinkproof.results.imported import read_imported

if TYPE_CHECKING:
    from shrinkproof.results import Results

INT8: Final = "+int8"
"""End of the names of methods whose files have 8-bit integers."""

_COMBINATIONS: Final[Mapping[str, frozenset[str]]] = {
    "int8": frozenset({"int8"}),
    "prune": frozenset({"weights"}),
    "cluster": frozenset({"cluster"}),
    "prune+cluster": frozenset({"weights", "cluster"}),
    "prune+int8": frozenset({"weights", "int8"}),
    "cluster+int8": frozenset({"cluster", "int8"}),
    "prune+cluster+int8": frozenset({"weights", "cluster", "int8"}),
}
"""Variants of da Silva et al. 2025 whose float and 8-bit forms are candidates of their own."""

_AWARE: Final[Mapping[str, frozenset[str]]] = {
    "qat": frozenset({"qat"}),
    "pqat": frozenset({"weights", "qat"}),
    "cqat": frozenset({"cluster", "qat"}),
    "pcqat": frozenset({"weights", "cluster", "qat"}),
}
"""Their variants whose float form is the twin of the 8-bit file."""

_CRITERIA: Final[Mapping[str, str]] = {"l1": "filters", "bn_scale": "slimming", "hrank": "hrank"}
"""Criterion of channel pruning -> method."""

METHODS: Final[Mapping[str, str]] = {
    "weights": "unstructured pruning",
    "filters": "filter pruning by L1 norm",
    "slimming": "channel pruning by batch-norm scale",
    "hrank": "H-Rank",
    "structured": "channel pruning, any criterion",
    "pruning": "pruning, structured or not",
    "any": "any compression",
    **{name: name for name in _COMBINATIONS},
    **{name: f"{name}, simulated in floating point" for name in _AWARE},
    **{f"{name}{INT8}": f"{name}, 8-bit file" for name in _AWARE},
}
"""Method -> what it is, in a few words."""

_KINDS: Final[Mapping[str, str]] = {
    "prune.weights": "weights",
    "prune.channels": "channels",
    "cluster": "cluster",
    "quantize.static": "int8",
    "quantize.qat": "qat",
}
RECOVERY: Final = frozenset({"finetune", "recalibrate", "fold"})
"""Steps that compress nothing."""

_SHORT: Final[Mapping[str, str]] = {"p50": "prune", "c16": "cluster"}
"""How publications call parts of a combination."""

_PUBLISHED_LEVEL: Final = 0.5


@dataclass(frozen=True, slots=True)
class Treatment:
    """One recipe of a network, seen in one form.

    Attributes:
        recipe: its name in the study.
        methods: names of the methods that it belongs to.
        level: nominal ratio of the pruning, 0 to 1; 0 where nothing is pruned, None where pruning
            had another goal than a ratio.
        form: in which its numbers are those of the methods.
        repeats: its candidates, one for each training.
        is_trained: whether anything is trained after the original, so that repeats differ.
    """

    recipe: str
    methods: frozenset[str]
    level: float | None
    form: Form
    repeats: tuple[Candidate, ...]
    is_trained: bool = True

    def in_training(self, repeat: int) -> Candidate | None:
        """Return its candidate of one training; what trains nothing is the same in all."""
        if not self.is_trained:
            return self.repeats[0]
        return next((c for c in self.repeats if c.repeat == repeat), None)

    def is_of(self, method: str, levels: tuple[float, float]) -> bool:
        """Return whether it counts as a method at some levels, both ends included."""
        if method not in self.methods:
            return False
        if self.level is None:
            return levels == (0.0, 1.0)
        return levels[0] <= self.level <= levels[1]


def treatments_of(results: Results, model: str) -> tuple[Treatment, ...]:
    """Return all recipes of a network; those with two forms that are methods come twice."""
    recipes: dict[str, list[Candidate]] = {}
    elsewhere = {candidate.key for candidate in predicted_elsewhere(results)}
    for candidate in results.candidates:
        is_own = candidate.key not in elsewhere
        if candidate.model == model and candidate.role == "recipe" and is_own:
            recipes.setdefault(candidate.recipe, []).append(candidate)
    own: Form = "twin" if results.form == "twin" else "artifact"
    found = []
    for recipe, members in recipes.items():
        repeats = tuple(sorted(members, key=lambda candidate: candidate.repeat))
        if is_published(results):
            found.append(_published(recipe, repeats))
        else:
            found += _measured(recipe, repeats, own)
    return tuple(found)


def predicted_elsewhere(results: Results) -> tuple[Candidate, ...]:
    """Return what other engines predicted for a run: recipes of its own a second time."""
    return read_imported(results.store, *results.store.read_plan()).candidates


def is_published(results: Results) -> bool:
    """Return whether the numbers of a run were measured elsewhere, all of them."""
    return all(model.scheme == "foreign" for model in results.spec.models.values())


def _measured(recipe: str, repeats: tuple[Candidate, ...], own: Form) -> list[Treatment]:
    steps = repeats[0].steps
    kinds = frozenset(_kinds(steps))
    level = _level(steps)
    aware = next((name for name, parts in _AWARE.items() if parts == kinds), "")
    forms: dict[Form, set[str]] = {own: {"any", *_families(kinds, steps)}}
    if aware:
        forms.setdefault("twin", set()).add(aware)
        forms.setdefault("artifact", set()).add(aware + INT8)
    return [
        Treatment(recipe, frozenset(names), level, form, repeats, trains(steps))
        for form, names in forms.items()
    ]


def trains(steps: Sequence[Json]) -> bool:
    """Return whether steps train anything."""
    return any(step["name"] == "finetune" or step["fields"].get("finetune") for step in steps)


def _families(kinds: frozenset[str], steps: Sequence[Json]) -> set[str]:
    """Return the methods of steps, those with quantization-aware training aside."""
    found = {name for name, parts in _COMBINATIONS.items() if parts == kinds}
    if kinds == {"weights"}:
        found |= {"weights", "pruning"}
    if kinds == {"channels"}:
        found |= {"structured", "pruning"}
        criteria = {_criterion(s) for s in steps if s["name"] == "prune.channels"}
        found |= {_CRITERIA[c] for c in criteria if len(criteria) == 1 and c in _CRITERIA}
    return found


def _kinds(steps: Sequence[Json]) -> list[str]:
    """Return what compresses; a step that nobody here knows stands for itself."""
    names = [step["name"] for step in steps if step["name"] not in RECOVERY]
    return [_KINDS.get(name, name) for name in names]


def _criterion(step: Json) -> str:
    criterion = step["fields"].get("criterion", "")
    return criterion if isinstance(criterion, str) else next(iter(criterion), "")


def _level(steps: Sequence[Json]) -> float | None:
    """Return the ratio of the last step that prunes."""
    pruning = [step for step in steps if step["name"].startswith("prune.")]
    return pruning[-1]["fields"].get("ratio") if pruning else 0.0


def _published(recipe: str, repeats: tuple[Candidate, ...]) -> Treatment:
    """Return a candidate that was imported without steps, by its published name."""
    name = "+".join(_SHORT.get(part, part) for part in recipe.split("+"))
    base = name.removesuffix(INT8)
    methods = {"any"}
    if base in _AWARE or name in _COMBINATIONS:
        methods |= {name}
    if name == "prune":
        methods |= {"weights", "pruning"}
    is_pruned = "prune" in base or base in ("pqat", "pcqat")
    level = _PUBLISHED_LEVEL if is_pruned else 0.0
    return Treatment(recipe, frozenset(methods), level, "artifact", repeats)
