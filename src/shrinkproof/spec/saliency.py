"""The part of a study file about heat maps, and its checks."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Final

import pydantic
from pydantic import Field

from shrinkproof.attributions import ATTRIBUTIONS, BOX_ATTRIBUTIONS
from shrinkproof.errors import PluginError
from shrinkproof.records import CLEAN, Condition
from shrinkproof.registry import Fraction, OpenFraction, Registry, Strings, component
from shrinkproof.spec.document import Path
from shrinkproof.spec.problems import Problems, shown, unknown

AUTO: Final = "auto"

METHODS: Final[dict[str, Registry]] = {
    "classification": ATTRIBUTIONS,
    "detection": BOX_ATTRIBUTIONS,
}
"""What makes the heat maps of each task."""

_OF_BOXES: Final = ("boxes", "score", "overlap")


@component
class SaliencySpec:
    """Whether candidates look at the same places as their baseline.

    Attributes:
        methods: what makes the heat maps, each a name or a one-key mapping of a name to its
            settings: ``gradcam``, ``rise`` and others of classes, ``gradcam``, ``hirescam`` and
            ``drise`` of detected boxes. The first one gives the numbers without a method in their
            name.
        images: how many images of the split that is printed, with the classes in proportion
            where images have one.
        layer: name of the layer to look at, or model -> name; ``auto`` takes the last one with at
            least 8x8 places.
        conditions: under which conditions of the study, ``clean`` or ``fog:3``.
        twin: a model of this study that was trained independently, as a control of the others; or
            model -> its twin.
        boxes: how many boxes of an image are explained, at most; only for detection.
        score: boxes of the baseline below this score are not explained; only for detection.
        overlap: intersection over union of a box of the baseline and its counterpart, at least;
            only for detection.
    """

    methods: Annotated[tuple[str | dict[str, Any], ...], Field(min_length=1, strict=False)] = (
        "gradcam",
    )
    images: Annotated[int, Field(ge=1)] = 256
    layer: str | dict[str, str] = AUTO
    conditions: Annotated[Strings, Field(min_length=1)] = ("clean",)
    twin: str | dict[str, str] | None = None
    boxes: Annotated[int, Field(ge=1)] = 3
    score: Fraction = 0.5
    overlap: OpenFraction = 0.5

    def methods_with_settings(self) -> tuple[tuple[str, dict[str, Any]], ...]:
        """Return name and settings of every method."""
        return tuple(_method(entry) for entry in self.methods)

    def conditions_list(self) -> tuple[Condition, ...]:
        """Return the conditions under which heat maps are made.

        Raises:
            ValueError: one of them is not spelled as a condition.
        """
        return tuple(dict.fromkeys(Condition.parse(text) for text in self.conditions))

    def layer_of(self, model: str) -> str:
        """Return the name of the layer to look at in a model, or ``auto``."""
        return self.layer if isinstance(self.layer, str) else self.layer.get(model, AUTO)

    def twin_of(self, model: str) -> str | None:
        """Return the independently trained model beside a model; None where there is none."""
        found = self.twin.get(model) if isinstance(self.twin, dict) else self.twin
        return None if found == model else found


def _method(entry: str | dict[str, Any]) -> tuple[str, dict[str, Any]]:
    if isinstance(entry, str):
        return entry, {}
    ((name, settings),) = entry.items()
    return name, settings or {}


class SaliencyCheck:
    """Finds everything that is wrong with the ``saliency`` block of a study.

    Args:
        problems: where the findings go.
        models: names of the study's models.
        conditions: what the study measures under; None where that is itself wrong.
        task: ``classification`` or ``detection``.
    """

    def __init__(
        self,
        problems: Problems,
        models: Collection[str],
        conditions: Collection[Condition] | None,
        task: str = "classification",
    ) -> None:
        self.problems = problems
        self.models = models
        self.measured = conditions
        self.task = task
        self.path: Path = ("measure", "saliency")

    def check(self, spec: SaliencySpec) -> None:
        """Note the problems of a block whose types are right."""
        names: set[str] = set()
        for position, entry in enumerate(spec.methods):
            path: Path = (*self.path, "methods", position)
            if isinstance(entry, dict) and (
                len(entry) != 1 or not isinstance(next(iter(entry.values())), dict | None)
            ):
                rule = f"must be a name, or one name with its settings, got {shown(entry)}"
                self.problems.add(path, rule)
                continue
            name, settings = _method(entry)
            if name in names:
                self.problems.add(path, f"is given twice: {name!r}; remove one")
            names.add(name)
            self._check_method(path, name, settings)
        for position, text in enumerate(spec.conditions):
            self._check_condition((*self.path, "conditions", position), text)
        for word in ("layer", "twin"):
            value = getattr(spec, word)
            for model in value if isinstance(value, dict) else ():
                self._check_model((*self.path, word, model), model)
        twins = spec.twin if isinstance(spec.twin, dict) else {"": spec.twin}
        for model, twin in twins.items():
            path = (*self.path, "twin", *([model] if model else []))
            self._check_twin(path, model, twin)
        for word in _OF_BOXES if self.task == "classification" else ():
            value = getattr(spec, word)
            if value != getattr(SaliencySpec, word):
                rule = f"must be left out for task {self.task}, which has no boxes, got {value}"
                self.problems.add((*self.path, word), rule, is_key=True)

    def _check_method(self, path: Path, name: str, settings: dict[str, Any]) -> None:
        methods = METHODS[self.task]
        if name not in methods:
            what = f"unknown attribution {name!r}"
            what += "" if self.task == "classification" else " of boxes"
            self.problems.add(path, unknown(what, name, methods))
            return
        try:
            methods.create(name, settings)
        except PluginError as error:
            self.problems.add(path, str(error))
        except pydantic.ValidationError as error:
            self.problems.add_validation((*path, name), error, methods.get(name))

    def _check_condition(self, path: Path, text: str) -> None:
        try:
            condition = Condition.parse(text)
        except ValueError as error:
            self.problems.add(path, str(error))
            return
        if self.measured is None or condition == CLEAN or condition in self.measured:
            return
        self.problems.add(path, f"{condition} is not measured by this study; add it to conditions")

    def _check_model(self, path: Path, model: str) -> None:
        if model not in self.models:
            rule = unknown(f"unknown model {model!r}", model, self.models)
            self.problems.add(path, rule, is_key=True)

    def _check_twin(self, path: Path, model: str, twin: str | None) -> None:
        if twin is None:
            return
        if twin not in self.models:
            self.problems.add(path, unknown(f"unknown model {twin!r}", twin, self.models))
        elif twin == model or len(self.models) == 1:
            rule = f"must be another model than the one it stands beside, got {twin!r}"
            self.problems.add(path, f"{rule}; add an independently trained model or remove twin")
