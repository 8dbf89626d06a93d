"""From the text of a study file to a checked `StudySpec`, or all problems at once."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from typing import Any, Final, get_type_hints

import pydantic

from shrinkproof.corruptions import CORRUPTIONS
from shrinkproof.corruptions.presets import PRESETS, SETS
from shrinkproof.data import DATA
from shrinkproof.data.splits import DataRef, DataSpec
from shrinkproof.errors import ShrinkproofError, SpecError
from shrinkproof.metrics import METRICS
from shrinkproof.metrics.names import METRIC_NAMES, bare_name
from shrinkproof.metrics.spelling import described, metric_of, name_of, spelled
from shrinkproof.models import MODELS
from shrinkproof.models.reference import ModelField, ModelSpec
from shrinkproof.protocols import Better
from shrinkproof.records import SPLITS
from shrinkproof.registry import Registry, Strings
from shrinkproof.spec.certify import CertifyCheck, CertifySpec
from shrinkproof.spec.document import MISSING, Document, Path, parse
from shrinkproof.spec.inference import InferenceSpec, check_inference
from shrinkproof.spec.problems import Problems, shown, unknown
from shrinkproof.spec.recipes import NAME, NAME_RULE, RecipeCheck, RecipeSpec
from shrinkproof.spec.saliency import SaliencyCheck, SaliencySpec
from shrinkproof.spec.scales import at_scale
from shrinkproof.spec.schema import (
    SCORES,
    ConditionSet,
    MeasureSpec,
    Severity,
    StudySpec,
    conditions_of,
)
from shrinkproof.spec.selection import SelectionCheck
from shrinkproof.spec.tolerance import check_tolerances

Conditions = dict[str, tuple[Severity, ...] | ConditionSet]


def load_study_spec(path_or_text: FilePath | str, *, filename: str | None = None) -> StudySpec:
    """Return the checked content of a study file.

    Args:
        path_or_text: the file, or its text (text has more than one line).
        filename: name in messages; the path itself, or ``study.yaml`` for text.

    Raises:
        SpecError: the file is wrong; ``problems`` has every finding, in the order of the file,
            each ``file:line:column: path: rule, got value``.
    """
    text = path_or_text
    if isinstance(text, FilePath) or "\n" not in text:
        filename = filename or str(text)
        text = _read(FilePath(text), filename)
    return _Loading(at_scale(parse(text, filename or "study.yaml"))).spec()


def _read(path: FilePath, filename: str) -> str:
    try:
        return path.read_text("utf-8-sig")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SpecError(
            [f"{filename}: cannot be read: {reason}; write a study file with: shrinkproof init"]
        ) from error
    except (UnicodeDecodeError, ValueError) as error:
        raise SpecError([f"{filename}: is no UTF-8 text: {error}"]) from error


_OWN_COLUMNS: Final = "arrays:"
"""Scheme of data that bring columns of their own."""


class _Loading:
    """One reading of one document: section by section, so that one problem hides no other."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems = Problems(document)

    def spec(self) -> StudySpec:
        content = self.document.content
        if not isinstance(content, dict):
            self.problems.add((), f"a study file must be a mapping, got {shown(content)}")
            self.problems.raise_if_any()
        fields: dict[str, Any] = {}
        self._check_fields(content)
        for name, annotation in get_type_hints(StudySpec, include_extras=True).items():
            if name in content and name not in ("models", "recipes", "conditions", "certify"):
                fields[name] = self.read((name,), annotation)
        fields["models"] = self._each("models", ModelField)
        fields["recipes"] = self._each("recipes", RecipeSpec)
        fields["conditions"] = self._conditions()
        self._check_names()
        self._check_models(fields["models"])
        self._check_data(fields.get("data"))
        self._check_recipes(fields["recipes"])
        scores = self._scores()
        measure = fields["measure"] if "measure" in fields else MeasureSpec()
        if measure is not None and scores is not None:
            fields["measure"] = dataclasses.replace(measure, scores=scores)
        self._check_margins(scores)
        self._check_inference(fields["models"])
        self._check_saliency(fields["conditions"])
        if isinstance(content.get("select"), dict):
            self._check_selection(fields["conditions"], scores)
        fields["certify"] = self._certify(fields["conditions"])
        self.problems.raise_if_any()
        return StudySpec(**fields)

    def read(self, path: Path, cls: Any) -> Any:
        """Return the validated value at a path, or None after noting what is wrong with it."""
        value = self.document.at(path)
        try:
            # JSON is the mode in which strict validation takes lists for tuples and mappings for
            # components, which is exactly what YAML holds.
            return pydantic.TypeAdapter(cls).validate_json(json.dumps(value), strict=True)
        except pydantic.ValidationError as error:
            self.problems.add_validation(path, error, cls)
            return None

    def _check_fields(self, content: dict[str, Any]) -> None:
        known = {field.name: field for field in dataclasses.fields(StudySpec)}
        for name in content:
            if name not in known:
                self.problems.add((name,), unknown("unknown field", name, known), is_key=True)
        for name in ("study", "models", "data"):
            if name not in content:
                self.problems.add((name,), "is required")

    def _each(self, section: str, cls: Any) -> dict[str, Any]:
        """Return the sound members of a section; one that is wrong hides no problem of another."""
        read = {name: self.read((section, name), cls) for name in self._mapping(section)}
        return {name: value for name, value in read.items() if value is not None}

    @property
    def _task(self) -> str:
        """The task that the file names, where it is one."""
        task = self.document.at(("task",))
        return task if isinstance(task, str) and task in SCORES else "classification"

    def _splits(self) -> frozenset[str]:
        """Return the splits that the file gives, even where the data are wrong otherwise."""
        places: list[Path] = [("data",), ("data", "split")]
        return frozenset(
            name
            for name in SPLITS
            for place in places
            if self.document.at((*place, name)) not in (MISSING, None)
        )

    def _conditions(self) -> Conditions | None:
        before = len(self.problems)
        content = self._mapping("conditions")
        found = {name: self._condition(("conditions", name), v) for name, v in content.items()}
        return found if len(self.problems) == before else None

    def _condition(self, path: Path, value: Any) -> Any:
        name = str(path[-1])
        if isinstance(value, dict):
            chosen = self.read(path, ConditionSet)
            if chosen is not None and chosen.use not in SETS:
                rule = unknown(f"unknown set of corruptions {chosen.use!r}", chosen.use, SETS)
                self.problems.add((*path, "use"), rule)
            return chosen
        if name == "clean":
            self.problems.add(path, "is always measured; remove it", is_key=True)
        elif name not in CORRUPTIONS:
            self.problems.add(path, unknown("unknown corruption", name, CORRUPTIONS), is_key=True)
        if not isinstance(value, list):
            rule = f"must be a list of severities, 1 to 5, got {shown(value)}"
            advice = f"; write [{value}]" if isinstance(value, int) else ""
            self.problems.add(path, rule + advice)
            return ()
        if not value:
            self.problems.add(path, "must have at least one severity; remove it otherwise")
        return self.read(path, tuple[Severity, ...])

    def _mapping(self, name: str) -> dict[str, Any]:
        content = self.document.at((name,))
        if content is MISSING:
            return {}
        if not isinstance(content, dict):
            self.problems.add((name,), f"must be a mapping, got {shown(content)}")
            return {}
        return content

    def _check_names(self) -> None:
        study = self.document.at(("study",))
        if isinstance(study, str) and not NAME.fullmatch(study):
            self.problems.add(("study",), f"{NAME_RULE}, got {shown(study)}")
        models = self._mapping("models")
        if not models and self.document.at(("models",)) is not MISSING:
            self.problems.add(("models",), "must name at least one model")
        for name in models:
            if not NAME.fullmatch(name):
                self.problems.add(("models", name), f"{NAME_RULE}, got {name!r}", is_key=True)

    def _check_models(self, models: Mapping[str, ModelSpec]) -> None:
        for name, model in models.items():
            path: Path = ("models", name)
            self._check_scheme(path, model.use, MODELS)
            if model.scheme == "checkpoint" and not model.arch:
                self.problems.add(
                    path, "a checkpoint needs arch, the network its weights belong to", is_key=True
                )
            if model.classes == 1 and self._task == "classification":
                self.problems.add((*path, "classes"), "must be at least 2, got 1")
            if model.arch:
                self._check_scheme((*path, "arch"), model.arch, MODELS)

    def _check_recipes(self, recipes: Mapping[str, RecipeSpec]) -> None:
        RecipeCheck(self.problems, self._splits()).check(recipes)
        known = self._mapping("models")
        for name, recipe in recipes.items():
            for position, model in enumerate(recipe.models):
                if model not in known:
                    path: Path = ("recipes", name, "models", position)
                    self.problems.add(path, unknown(f"unknown model {model!r}", model, known))

    def _check_scheme(self, path: Path, reference: str, registry: Registry) -> None:
        """Check ``scheme:rest``, written at the path itself or as ``use`` below it."""
        path = self.document.resolve((*path, "use"))
        scheme = reference.partition(":")[0]
        if scheme not in registry:
            self.problems.add(
                path, unknown(f"unknown {registry.kind} {scheme!r}", scheme, registry)
            )

    def _check_data(self, data: DataSpec | None) -> None:
        if data is None:
            return
        for path, reference in _references(data):
            self._check_scheme(("data", *path), reference.use, DATA)
        if data.preset is not None and data.preset not in PRESETS:
            rule = unknown(f"unknown preset {data.preset!r}", data.preset, PRESETS)
            self.problems.add(("data", "preset"), rule)
        if not {"select", "report"} & set(data.names):
            rule = (
                "must give images to measure on; add data.report, and data.select for the "
                "choice, or give data.split their sizes"
            )
            self.problems.add(("data",), rule, is_key=True)

    def _scores(self) -> tuple[str, ...] | None:
        path: Path = ("measure", "scores")
        if self.document.at(path) is MISSING:
            return SCORES[self._task]
        scores: tuple[str, ...] | None = self.read(path, Strings)
        if scores is not None:
            for position, name in enumerate(scores):
                self._check_score((*path, position), name, is_repeated=name in scores[:position])
        return scores

    def _check_score(self, path: Path, name: str, *, is_repeated: bool) -> None:
        if is_repeated:
            self.problems.add(path, f"is given twice: {name!r}; remove one")
        try:
            if name_of(name) not in METRICS:
                self.problems.add(path, unknown(f"unknown metric {name!r}", name, METRICS))
                return
            of = getattr(METRICS.get(name_of(name)), "task", "classification")
            if of != self._task:
                rule = f"must be a metric of task {self._task}, got {name!r}, which is of {of}"
                self.problems.add(path, rule)
                return
            own = spelled(metric_of(name))
            if own != name:
                self.problems.add(path, f"must be written {own!r}, got {name!r}: the same metric")
        except ShrinkproofError as error:
            self.problems.add(path, str(error))

    def _check_margins(self, scores: tuple[str, ...] | None) -> None:
        """Check that every margin is about a number of the study that can be better or worse."""
        margins = self.document.at(("measure", "margins"))
        if not isinstance(margins, dict) or scores is None:
            return
        for name in margins:
            path: Path = ("measure", "margins", name)
            try:
                known = described(str(name))
            except ShrinkproofError as error:
                self.problems.add(path, str(error), is_key=True)
                continue
            if known is None:
                rule = unknown(f"unknown metric {name!r}", str(name), (*METRIC_NAMES, *scores))
            elif known.better is Better.NONE:
                rule = f"{name} has no better direction, so it cannot be kept; remove it"
            elif bare_name(name) in METRICS and name not in scores:
                rule = f"{name} is not measured by this study; add it to measure.scores"
            else:
                continue
            self.problems.add(path, rule, is_key=True)

    def _check_inference(self, models: Mapping[str, ModelSpec]) -> None:
        path: Path = ("measure", "inference")
        if self.document.at(path) in (MISSING, None):
            return
        spec = self.read(path, InferenceSpec)
        if spec is not None:
            files = [name for name, model in models.items() if model.scheme == "onnx"]
            form = self.document.at(("measure", "form"))
            check_inference(self.problems, spec, form=form, files=files)

    def _check_saliency(self, conditions: Conditions | None) -> None:
        path: Path = ("measure", "saliency")
        if self.document.at(path) in (MISSING, None):
            return
        spec = self.read(path, SaliencySpec)
        if spec is not None:
            measured = None if conditions is None else conditions_of(conditions)
            SaliencyCheck(self.problems, self._mapping("models"), measured, self._task).check(spec)

    def _certify(self, conditions: Conditions | None) -> CertifySpec | None:
        if self.document.at(("certify",)) in (MISSING, None):
            return None
        if self._task != "classification":
            rule = (
                "must be left out for task detection, whose promises no certificate covers: they "
                "are about the class of an image"
            )
            self.problems.add(("certify",), rule, is_key=True)
            return None
        measured = None if conditions is None else conditions_of(conditions)
        chooses = isinstance(self.document.at(("select",)), dict)
        check = CertifyCheck(self.problems, self.read, self._splits(), measured, chooses)
        return check.check()

    def _check_selection(
        self, conditions: Conditions | None, scores: tuple[str, ...] | None
    ) -> None:
        chosen = {}
        for word in ("minimize", "maximize", "require"):
            path: Path = ("select", word)
            written = self.document.at(path) is not MISSING
            chosen[word] = (self.read(path, Strings) or ()) if written else ()
        is_timed = self.document.at(("measure", "cost", "latency")) not in (MISSING, None)
        measured = None if conditions is None else conditions_of(conditions)
        is_explained = self.document.at(("measure", "saliency")) not in (MISSING, None)
        is_apart = {"select", "report"} <= self._splits()
        is_explained &= not is_apart
        SelectionCheck(
            self.problems,
            scores,
            is_timed,
            measured,
            is_explained,
            is_apart,
            self._columns(),
            self._task,
        ).check(chosen)
        tolerance = self.document.at(("select", "tolerance"))
        check_tolerances(self.problems, tolerance, [*chosen["minimize"], *chosen["maximize"]])

    def _columns(self) -> frozenset[str] | None:
        """Return the columns by whose values results are also reported; None where unknown."""
        found: set[str] = set()
        for place in (("data", "split", "from"), ("data", "select"), ("data", "report")):
            written = self.document.at(place)
            reference = written.get("use") if isinstance(written, dict) else written
            if str(reference).startswith(_OWN_COLUMNS):
                return None
            named = written.get("slices") if isinstance(written, dict) else None
            found.update(map(str, named) if isinstance(named, list) else ())
        return frozenset(found)


def _references(data: DataSpec) -> Iterator[tuple[Path, DataRef]]:
    for name in SPLITS:
        reference = getattr(data, name)
        if reference is not None:
            yield (name,), reference
    if data.split is not None:
        yield ("split", "from"), data.split.from_
