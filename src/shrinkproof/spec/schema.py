"""What stands in a study file, as frozen values."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag

from shrinkproof.corruptions.presets import SETS
from shrinkproof.data.splits import DataSpec
from shrinkproof.metrics.detection.names import precision_of
from shrinkproof.models.reference import ModelField
from shrinkproof.protocols import Better
from shrinkproof.records import CLEAN, Condition
from shrinkproof.registry import Strings, component
from shrinkproof.selectors import Constraint, Selector
from shrinkproof.spec.certify import CertifySpec
from shrinkproof.spec.inference import InferenceSpec
from shrinkproof.spec.recipes import RecipeSpec, build_recipes
from shrinkproof.spec.saliency import SaliencySpec
from shrinkproof.spec.scales import ScaleSpec
from shrinkproof.spec.tolerance import ToleranceField

Severity = Annotated[int, Field(ge=1, le=5)]
Positive = Annotated[int, Field(ge=1)]

DEFAULT_SCORES = (
    "accuracy.top1",
    "accuracy.nll",
    "accuracy.brier",
    "calibration.ece",
    "calibration.ece_equal_mass",
)


DETECTION_SCORES = (
    "detection.ap",
    "detection.ap50",
    "detection.ap75",
    "detection.ap_small",
    "detection.ap_medium",
    "detection.ap_large",
    "detection.ar1",
    "detection.ar10",
    "detection.ar100",
    "detection.ar_small",
    "detection.ar_medium",
    "detection.ar_large",
    "detection.d_ece",
    "detection.laece",
    "detection.laace",
)

SCORES: dict[str, tuple[str, ...]] = {
    "classification": DEFAULT_SCORES,
    "detection": DETECTION_SCORES,
}
"""What is measured of each task where the study does not say."""


@component
class ConditionSet:
    """A named set of corruptions at some severities.

    Attributes:
        use: name of the set.
        severities: 1 (mild) to 5 (severe).
    """

    use: str
    severities: Annotated[tuple[Severity, ...], Field(min_length=1)] = (1, 2, 3, 4, 5)


@component
class RobustnessSpec:
    """What corrupted errors are compared with.

    Attributes:
        reference: whose errors are the unit of the mean corruption error: ``baseline`` (the
            uncompressed model of each candidate), ``alexnet`` (published constants, ImageNet-C
            only), or the label of any candidate, ``resnet20/baseline``.
        run: run directory in which the candidate of that label is found, relative to the study
            file; None for this one. It must be about the same images.
        rounded: round each corruption error to whole percent before the mean is taken, as some
            publications do; only to reproduce their tables.
    """

    reference: str = "baseline"
    run: str | None = None
    rounded: bool = False


def _distinct(value: Any) -> Any:
    """Refuse a list with the same value twice: it would be measured twice under one name."""
    if isinstance(value, tuple) and len(set(value)) < len(value):
        raise ValueError(f"must not repeat a value, got {list(value)}")
    return value


def _headline(runtimes: tuple[str, ...]) -> tuple[str, ...]:
    if runtimes[0] != "onnxruntime":
        raise ValueError(
            "must begin with onnxruntime, which runs the exported file, "
            f"got {list(runtimes)}; put it first"
        )
    return runtimes


def _number_of(value: Any) -> str:
    """Tell lists from single values, so that a finding is about the one that was written."""
    return "several" if isinstance(value, list | tuple) else "one"


_Several = Field(min_length=1, strict=False)

Batches = Annotated[
    Annotated[Positive, Tag("one")] | Annotated[tuple[Positive, ...], _Several, Tag("several")],
    Discriminator(_number_of),
    AfterValidator(_distinct),
]
"""Images per inference: a number, or several to measure one after the other."""

Cores = Positive | Literal["all"]

Threads = Annotated[
    Annotated[Cores, Tag("one")] | Annotated[tuple[Cores, ...], _Several, Tag("several")],
    Discriminator(_number_of),
    AfterValidator(_distinct),
]
"""Threads of the runtime: a number, ``all`` cores, or several of these."""

Runtimes = Annotated[
    tuple[Literal["onnxruntime", "pytorch"], ...],
    _Several,
    AfterValidator(_distinct),
    AfterValidator(_headline),
]
"""Runtimes; the first one runs the exported file and gives the headline."""


@component
class LatencySpec:
    """How inference of the exported file is timed.

    The first batch, threads and runtime give the numbers that ``select`` and the tables use; every
    other combination is measured besides.

    Attributes:
        batch: images per inference; a number or a list.
        threads: threads of the runtime; a number, ``all`` cores, or a list.
        runtimes: ``onnxruntime`` runs the exported file, ``pytorch`` the network before export.
        repeats: timed inferences in each process.
        warmup: untimed inferences before them.
        processes: fresh processes; intervals need 5.
    """

    batch: Batches = 1
    threads: Threads = 1
    runtimes: Runtimes = ("onnxruntime",)
    repeats: Annotated[int, Field(ge=20)] = 40
    warmup: Positive = 10
    processes: Positive = 5


@component
class CostSpec:
    """Which costs are measured besides sizes and operations.

    Attributes:
        latency: how to time inference and measure its memory; neither where it is absent.
    """

    latency: LatencySpec | None = None


@component
class IntervalsSpec:
    """How 95 % intervals are made.

    Attributes:
        replicates: resamples of the images.
    """

    replicates: Annotated[int, Field(ge=100)] = 1000


@component
class MeasureSpec:
    """What is measured of every candidate.

    Attributes:
        scores: names of metrics of the predictions; those of the task where it is absent.
        form: what is run under corruptions: ``twin`` (PyTorch), ``artifact`` (the exported file
            in its real runtime), or ``auto`` (the artifact).
        inference: device, precision and memory format of the networks that are run.
        robustness: what corrupted errors are compared with.
        saliency: whether candidates look at the same places as their baseline; not measured where
            it is absent.
        cost: which costs are measured besides sizes and operations.
        intervals: how intervals are made.
        margins: metric -> by how much it may be worse than the baseline's and still count as
            kept; only metrics with a margin are ever called kept.
    """

    scores: Annotated[Strings, Field(min_length=1)] = DEFAULT_SCORES
    form: Literal["auto", "twin", "artifact"] = "auto"
    inference: InferenceSpec = Field(default_factory=InferenceSpec)
    robustness: RobustnessSpec = Field(default_factory=RobustnessSpec)
    saliency: SaliencySpec | None = None
    cost: CostSpec | None = None
    intervals: IntervalsSpec = Field(default_factory=IntervalsSpec)
    margins: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)


@component
class SelectSpec:
    """How one candidate is chosen.

    Attributes:
        minimize: selectors of what should be small, most important first.
        maximize: selectors of what should be large, most important first.
        require: constraints, ``selector op number``, that the choice must meet.
        rule: ``knee`` (closest to the best of every objective) or ``lexicographic`` (the first
            objective decides, the next ones break ties).
        tolerance: objective -> by how much it may be worse and still count as no worse: a number in
            its unit, or a percentage for costs. Without one it is 1 % for sizes and operations,
            5 % for times and memory, and for other metrics their margin in ``measure.margins``.
    """

    minimize: Strings = ()
    maximize: Strings = ()
    require: Strings = ()
    rule: Literal["knee", "lexicographic"] = "knee"
    tolerance: dict[str, ToleranceField] = Field(default_factory=dict)

    def objectives(self) -> tuple[tuple[Selector, Better], ...]:
        """Return every objective with its better direction, minimized ones first.

        Raises:
            ValueError: one of them is no selector.
        """
        small = [(Selector.parse(text), Better.LOWER) for text in self.minimize]
        large = [(Selector.parse(text), Better.HIGHER) for text in self.maximize]
        return (*small, *large)

    def constraints(self) -> tuple[Constraint, ...]:
        """Return the hard rules, in the order of the file.

        Raises:
            ValueError: one of them is no constraint.
        """
        return tuple(Constraint.parse(text) for text in self.require)


@component
class StudySpec:
    """What to compress, how, and what to measure: a checked study file.

    `load_study_spec` makes it from text and finds all problems; this class alone checks only the
    types of its fields.

    Attributes:
        study: name of the study.
        task: what the models do: one class for each image, or boxes with classes and scores.
        models: name -> model reference.
        data: which images serve as which split.
        recipes: name -> steps; a name with ``{...}`` is a sweep.
        conditions: corruption -> severities, or any key -> a named set of corruptions.
        measure: what is measured.
        repeats: how often recipes that train are repeated with other random streams.
        seed: root of all random streams.
        controls: ``dense`` trains the uncompressed network as each recipe trains; ``all`` also
            trains each pruned shape from scratch; ``none`` leaves controls out, which the report
            prints.
        snapshots: how many dense checkpoints along each control's training are measured too; a
            candidate's robustness is compared with theirs at equal clean accuracy.
        threads: threads of every computation; part of the identity of results.
        select: how one candidate is chosen; None where the study only measures.
        certify: what is promised of new images, and which candidates are tested for it; None where
            nothing is.
        scale: which of the scales the study is run at; empty where it has none.
        scales: name -> what a smaller or larger form of the study changes.
    """

    study: str
    task: Literal["classification", "detection"] = "classification"
    models: dict[str, ModelField]
    data: DataSpec
    recipes: dict[str, RecipeSpec] = Field(default_factory=dict)
    conditions: dict[str, tuple[Severity, ...] | ConditionSet] = Field(default_factory=dict)
    measure: MeasureSpec = Field(default_factory=MeasureSpec)
    repeats: Positive = 1
    seed: Annotated[int, Field(ge=0)] = 0
    controls: Literal["dense", "all", "none"] = "dense"
    snapshots: Annotated[int, Field(ge=0, le=50)] = 0
    threads: Positive = 1
    select: SelectSpec | None = None
    certify: CertifySpec | None = None
    scale: str = ""
    scales: dict[str, ScaleSpec] = Field(default_factory=dict)

    @property
    def full_name(self) -> str:
        """Name of the study, and of its scale behind it."""
        return f"{self.study}-{self.scale}" if self.scale else self.study

    @property
    def scale_note(self) -> str:
        """What is smaller or larger at the chosen scale, for every table; empty without scales."""
        said = self.scales[self.scale].says if self.scale else ""
        return f"scale {self.scale}: {said}" if said else ""

    @property
    def quality(self) -> str:
        """The headline metric: top-1 accuracy, or the first average precision that is scored."""
        is_detection = self.task == "detection"
        return precision_of(self.measure.scores) if is_detection else "accuracy.top1"

    def candidate_recipes(self, model: str | None = None) -> dict[str, tuple[Any, ...]]:
        """Return the steps of every recipe by full name, in the order of the study file.

        Args:
            model: only the recipes for this model; all of them without it.

        Raises:
            SpecError: a step is not registered.
            PluginError: the plugin behind a step is broken.
            pydantic.ValidationError: a setting is wrong.
        """
        recipes = self.recipes.items()
        return build_recipes({n: r for n, r in recipes if model is None or r.is_for(model)})

    def conditions_list(self) -> tuple[Condition, ...]:
        """Return what is measured: clean first, then the order of the file, each once."""
        return conditions_of(self.conditions)


def conditions_of(
    conditions: dict[str, tuple[Severity, ...] | ConditionSet],
) -> tuple[Condition, ...]:
    """Return the conditions of a ``conditions`` block: clean first, then in order, each once."""
    found = [CLEAN]
    for name, value in conditions.items():
        if isinstance(value, ConditionSet):
            found += [Condition(c, s) for c in SETS[value.use] for s in value.severities]
        else:
            found += [Condition(name, severity) for severity in value]
    return tuple(dict.fromkeys(found))
