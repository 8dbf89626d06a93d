"""Recipes: sweeps over a grid, and the steps they are made of."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pydantic
from pydantic import Field

from shrinkproof.compressors import COMPRESSORS
from shrinkproof.compressors.order import order_problem
from shrinkproof.errors import ShrinkproofError
from shrinkproof.protocols import Needs
from shrinkproof.records import Json
from shrinkproof.registry import Strings, component
from shrinkproof.spec.document import MISSING, Path
from shrinkproof.spec.problems import Problems, shown, unknown
from shrinkproof.spec.recipe_sets import RECIPE_SETS

Scalar = bool | int | float | str

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=-]*")
"""Names of studies, models and recipes: they become labels and names of folders."""

NAME_RULE: Final = "must start with a letter or digit and hold only letters, digits and . _ + = -"

VARIANT: Final = "variant"
"""Slot in the name of a named set of recipes."""

_SLOT: Final = re.compile(r"\{([^{}]*)\}")

_NEEDED: Final = {
    Needs.CALIBRATION: ("calibrate", "calibration images", "{use: ..., count: 512}"),
    Needs.TRAINING: ("train", "training images", "{use: ...}"),
    Needs.VALIDATION: ("select", "validation images", "{use: ...}"),
}


@component
class RecipeSpec:
    """One recipe, a sweep of recipes over a grid, or a named set of recipes.

    Attributes:
        grid: name -> values; one recipe for each combination, in order.
        steps: each a name, or a one-key mapping of a name to its settings; a setting that is
            exactly ``"{name}"`` takes the value of the grid with its type.
        use: a named set of recipes instead of steps; ``{variant}`` in the name takes the name of
            each of them.
        settings: of the named set; values of the grid as in steps.
        models: names of the models it is for; all of them where it is left out.
    """

    grid: dict[str, tuple[Scalar, ...]] = Field(default_factory=dict)
    steps: tuple[str | dict[str, Any], ...] = ()
    use: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    models: Strings = ()

    def is_for(self, model: str) -> bool:
        """Return whether it is for a model."""
        return not self.models or model in self.models

    def combinations(self) -> Iterator[dict[str, Scalar]]:
        """Yield every combination of the grid, the last name varying fastest."""
        for values in itertools.product(*self.grid.values()):
            yield dict(zip(self.grid, values, strict=True))

    def members(self) -> Iterator[tuple[dict[str, Scalar], tuple[str | dict[str, Any], ...]]]:
        """Yield what fills the name of each recipe, and its steps.

        Raises:
            pydantic.ValidationError: the settings of a named set are wrong.
        """
        for chosen in self.combinations():
            if self.use is None:
                yield chosen, self.steps
                continue
            settings = json.dumps(_filled(self.settings, chosen))
            known = pydantic.TypeAdapter(RECIPE_SETS[self.use]).validate_json(settings)
            for variant, steps in known.recipes().items():
                yield {**chosen, VARIANT: variant}, steps


def full_name(name: str, chosen: Mapping[str, Scalar]) -> str:
    """Return the name of one recipe of a sweep: ``prune{ratio}`` -> ``prune0.5``."""
    return _SLOT.sub(lambda slot: _spelled(chosen[slot[1]]), name)


def settings_of(step: str | Mapping[str, Any], chosen: Mapping[str, Scalar]) -> tuple[str, Json]:
    """Return name and settings of one step, with the values of the grid filled in."""
    if isinstance(step, str):
        return step, {}
    ((name, settings),) = step.items()
    return name, {key: _filled(value, chosen) for key, value in (settings or {}).items()}


def _filled(value: Any, chosen: Mapping[str, Scalar]) -> Any:
    if isinstance(value, str):
        slot = _SLOT.fullmatch(value)
        return chosen[slot[1]] if slot else value
    if isinstance(value, list):
        return [_filled(item, chosen) for item in value]
    if isinstance(value, dict):
        return {key: _filled(item, chosen) for key, item in value.items()}
    return value


def _spelled(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def build_recipes(recipes: Mapping[str, RecipeSpec]) -> dict[str, tuple[Any, ...]]:
    """Return the steps of every recipe by its full name, in the order of the study file.

    Raises:
        ShrinkproofError: a step is not registered or its plugin is broken.
        pydantic.ValidationError: a setting is wrong.
    """
    return {
        full_name(name, chosen): tuple(
            COMPRESSORS.create(*settings_of(step, chosen)) for step in steps
        )
        for name, recipe in recipes.items()
        for chosen, steps in recipe.members()
    }


def sweeps_of(
    recipes: Mapping[str, RecipeSpec],
) -> Iterator[tuple[str, str, tuple[tuple[float, str], ...]]]:
    """Yield the recipes that differ in one number: name, parameter, (value, full name) ascending.

    A grid over several names gives one sweep for each combination of the others.
    """
    for name, recipe in recipes.items():
        for parameter, values in recipe.grid.items():
            if len(values) < 2 or any(isinstance(v, bool | str) for v in values):
                continue
            groups: dict[str, list[tuple[float, str]]] = {}
            for chosen, _ in recipe.members():
                others = {**chosen, parameter: f"{{{parameter}}}"}
                member = (float(chosen[parameter]), full_name(name, chosen))
                groups.setdefault(full_name(name, others), []).append(member)
            for group, members in groups.items():
                yield group, parameter, tuple(sorted(members))


@dataclass(frozen=True)
class RecipeCheck:
    """Finds everything that is wrong with the recipes of a study.

    Attributes:
        problems: where the findings go.
        splits: names of the splits that the study's data give; None where that is unknown.
    """

    problems: Problems
    splits: frozenset[str] | None

    def check(self, recipes: Mapping[str, RecipeSpec]) -> None:
        """Note the problems of all recipes and of their names."""
        owners: dict[str, str] = {}
        for name, recipe in recipes.items():
            path: Path = ("recipes", name)
            is_fillable = self._check_grid(path, name, recipe)
            if recipe.use is not None:
                if self._check_use(path, recipe) and is_fillable:
                    self._check_members(path, name, recipe, owners)
                continue
            if recipe.settings:
                self.problems.add((*path, "settings"), "must be left out without use")
            if not recipe.steps:
                is_missing = self.problems.document.at((*path, "steps")) is MISSING
                rule = "is required" if is_missing else "must have at least 1 entry, got []"
                self.problems.add((*path, "steps"), rule)
            sound = [
                (position, step)
                for position, step in enumerate(recipe.steps)
                if self._check_form((*path, "steps", position), step)
            ]
            for chosen in recipe.combinations() if is_fillable else ():
                self._check_name(path, full_name(name, chosen), owners)
                built = [
                    (position, self._check_step((*path, "steps", position), step, chosen))
                    for position, step in sound
                ]
                self._check_order(path, recipe, {n: s for n, s in built if s is not None})

    def _check_use(self, path: Path, recipe: RecipeSpec) -> bool:
        """Note problems of a named set; return whether its recipes can be built."""
        if recipe.use not in RECIPE_SETS:
            rule = unknown(f"unknown set of recipes {recipe.use!r}", str(recipe.use), RECIPE_SETS)
            self.problems.add((*path, "use"), rule)
            return False
        if recipe.steps:
            self.problems.add((*path, "steps"), "must be left out beside use")
        if f"{{{VARIANT}}}" not in str(path[-1]):
            rule = f"the name must use {{{VARIANT}}}, or the recipes of the set get the same name"
            self.problems.add(path, rule, is_key=True)
            return False
        return not recipe.steps

    def _check_members(
        self, path: Path, name: str, recipe: RecipeSpec, owners: dict[str, str]
    ) -> None:
        try:
            members = list(recipe.members())
        except pydantic.ValidationError as error:
            cls = RECIPE_SETS[str(recipe.use)]
            self.problems.add_validation((*path, "settings"), error, cls)
            return
        needs = Needs.NOTHING
        for chosen, steps in members:
            self._check_name(path, full_name(name, chosen), owners)
            built = [COMPRESSORS.create(*settings_of(step, chosen)) for step in steps]
            for step in built:
                needs |= step.needs
            problem = order_problem(built)
            if problem is not None:
                self.problems.add(path, f"{full_name(name, chosen)}: {problem[1]}", is_key=True)
        self._check_needs(path, needs, is_key=True)

    def _check_order(self, path: Path, recipe: RecipeSpec, steps: Mapping[int, Any]) -> None:
        problem = order_problem(list(steps.values()))
        if problem is None:
            return
        position = list(steps)[problem[0]]
        step = recipe.steps[position]
        below: Path = (*path, "steps", position)
        is_key = not isinstance(step, str)
        self.problems.add((*below, *step) if is_key else below, problem[1], is_key=is_key)

    def _check_grid(self, path: Path, name: str, recipe: RecipeSpec) -> bool:
        """Note problems of the grid; return whether every ``{name}`` can be filled in."""
        used = set(_SLOT.findall(name))
        if recipe.use is not None:
            used -= {VARIANT}
        missing = sorted(used - set(recipe.grid))
        for slot in missing:
            rule = unknown(f"the name uses {{{slot}}}, which is not in grid", slot, recipe.grid)
            self.problems.add(path, rule, is_key=True)
        for key, values in recipe.grid.items():
            below = (*path, "grid", key)
            if key not in used:
                rule = f"the recipe's name must use {{{key}}}, or its recipes get the same name"
                self.problems.add(below, rule, is_key=True)
            if not values:
                self.problems.add(below, "must have at least 1 value")
            if len({_spelled(value) for value in values}) < len(values):
                self.problems.add(below, f"must not repeat a value, got {shown(values)}")
        is_filled = self._check_slots((*path, "steps"), list(recipe.steps), recipe.grid)
        is_filled &= self._check_slots((*path, "settings"), recipe.settings, recipe.grid)
        return is_filled and not missing

    def _check_slots(self, path: Path, value: Any, grid: Mapping[str, Any]) -> bool:
        if isinstance(value, dict):
            return all([self._check_slots((*path, k), item, grid) for k, item in value.items()])
        if isinstance(value, list):
            return all([self._check_slots((*path, i), item, grid) for i, item in enumerate(value)])
        slots = _SLOT.findall(value) if isinstance(value, str) else []
        missing = [slot for slot in slots if slot not in grid]
        if missing:
            self.problems.add(path, unknown(f"{missing[0]!r} is not in grid", missing[0], grid))
        elif slots and not _SLOT.fullmatch(value):
            rule = f"a grid value must stand alone, as '{{{slots[0]}}}', got {shown(value)}"
            self.problems.add(path, rule)
        return not missing

    def _check_form(self, path: Path, step: str | Mapping[str, Any]) -> bool:
        if isinstance(step, str):
            return True
        if len(step) != 1:
            rule = (
                "a step must be a name or a one-key mapping of a name to its settings, got "
                f"{len(step)} keys ({', '.join(step)}); start each step with its own '-', and "
                "indent its settings below its name"
            )
            self.problems.add(path, rule)
            return False
        ((name, settings),) = step.items()
        if settings is not None and not isinstance(settings, dict):
            rule = f"settings must be a mapping of fields, got {shown(settings)}"
            self.problems.add((*path, name), rule)
            return False
        return True

    def _check_name(self, path: Path, full: str, owners: dict[str, str]) -> None:
        name = str(path[-1])
        if not NAME.fullmatch(full):
            self.problems.add(path, f"{NAME_RULE}, got {full!r}", is_key=True)
        if full == "baseline" or full.startswith("control."):
            rule = (
                f"{full!r} is reserved: the uncompressed model is always measured as "
                "'baseline', and names starting with 'control.' belong to the controls"
            )
            self.problems.add(path, rule, is_key=True)
        if owners.setdefault(full, name) != name:
            rule = f"also makes a recipe {full!r}, like {owners[full]!r}; rename one"
            self.problems.add(path, rule, is_key=True)

    def _check_step(
        self, path: Path, step: str | Mapping[str, Any], chosen: Mapping[str, Scalar]
    ) -> Any:
        """Note what is wrong with a step on its own; return it where nothing is, else None."""
        name, settings = settings_of(step, chosen)
        is_key = not isinstance(step, str)
        below = (*path, name) if is_key else path
        if name not in COMPRESSORS:
            rule = unknown(f"unknown compressor {name!r}", name, COMPRESSORS)
            place = self.problems.document.place(below, is_key=is_key)
            self.problems.add(path, rule, place=place)
            return None
        try:
            built = COMPRESSORS.create(name, settings)
        except pydantic.ValidationError as error:
            self.problems.add_validation(below, error, COMPRESSORS.get(name))
        except (ShrinkproofError, TypeError) as error:
            self.problems.add(below, str(error), is_key=is_key)
        else:
            self._check_needs(below, built.needs, is_key=is_key)
            return built
        return None

    def _check_needs(self, path: Path, needs: Needs, *, is_key: bool) -> None:
        for need, (split, what, example) in _NEEDED.items():
            if need in needs and self.splits is not None and split not in self.splits:
                rule = (
                    f"needs {what}; add data.{split}: {example}, or give data.split a size for "
                    f"{split!r}"
                )
                self.problems.add(path, rule, is_key=is_key)
