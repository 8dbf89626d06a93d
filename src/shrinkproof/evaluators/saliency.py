"""Whether a candidate looks at the same places as its baseline: heat maps of both, compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, Protocol

import numpy as np
import pydantic
from numpy.typing import NDArray

from shrinkproof import randomness
from shrinkproof.attributions import ATTRIBUTIONS
from shrinkproof.attributions.images import check_finite
from shrinkproof.engines.inline import attempt
from shrinkproof.errors import DataError
from shrinkproof.evaluators.onlooker import Onlooker, Shown, network_of, randomized
from shrinkproof.evaluators.subject import Scene, Subject
from shrinkproof.metrics.agreement import Agreement
from shrinkproof.metrics.heatmaps import HALVES, OWN, RANDOMIZED, TWIN, HeatMaps
from shrinkproof.protocols import Attribution, Measurement
from shrinkproof.records import Condition, Failure, Form, Json
from shrinkproof.registry import Registry, component

if TYPE_CHECKING:
    from torch import nn

AUTO: Final = "auto"
"""Stands for the layer that is chosen automatically."""


@dataclass(frozen=True, slots=True, eq=False)
class Twin:
    """Another network, trained independently, as a control.

    Attributes:
        subject: the network.
        label: its name for readers.
        layer: name of the layer to look at, or ``auto``.
    """

    subject: Subject
    label: str
    layer: str = AUTO


class Looking(Protocol):
    """Makes the maps of candidates that share a scene."""

    def of_baseline(self, subject: Subject, *, twin: Twin | Failure | None) -> HeatMaps:
        """Return the maps of a baseline with those of its controls."""
        ...

    def of_candidate(self, subject: Subject, *, baseline: HeatMaps) -> HeatMaps:
        """Return the maps of a candidate, about the same as those of its baseline."""
        ...


def _drop(subject: Subject, maps: HeatMaps) -> None:
    """Keep nothing."""


@component
class Saliency:
    """Heat maps of every candidate beside its baseline's, on the same images.

    Every map explains the class that the baseline predicts. The layer is the baseline's; each
    candidate must have it under the same name with an output of the same size. Beside the
    baseline's own maps, controls are made: those of the same network with weights drawn anew,
    those of a twin where there is one, and for methods with masks those of the two halves of the
    masks. A map of such a method is the mean of the maps from its halves.

    Attributes:
        method: registered name of the method that makes the maps.
        settings: its fields; those that are left out keep their defaults.
        layer: name of the layer to look at; ``auto`` takes the last one with at least 8x8 places.
        images: how many images, with the classes in proportion; all where there are fewer.
        label: method that stands in the names of the metrics; empty for the study's first one.
        replicates: bootstrap replicates of the intervals.
        seed: seed of the bootstrap, and of the masks and the noise of the methods.
    """

    name: ClassVar[str] = "saliency"
    version: ClassVar[int] = 1
    exclusive: ClassVar[bool] = False
    methods: ClassVar[Registry] = ATTRIBUTIONS

    method: str = "gradcam"
    settings: dict[str, Any] = field(default_factory=dict, hash=False)
    layer: str = AUTO
    images: Annotated[int, pydantic.Field(ge=1)] = 256
    label: str = ""
    replicates: Annotated[int, pydantic.Field(ge=100)] = 1000
    seed: int = 0

    @property
    def attribution(self) -> Any:
        """What makes the maps, a member of ``methods``."""
        return self.methods.create(self.method, self.settings)

    @property
    def explained(self) -> Json:
        """What else than method, layer, number of images and seed the maps depend on."""
        return {}

    @property
    def form(self) -> Form:
        """The exported file where its predictions are enough, else the PyTorch network."""
        return form_of(self.attribution.needs)

    @property
    def agreement(self) -> Agreement:
        """How numbers are made from the maps."""
        return Agreement(label=self.label, replicates=self.replicates, seed=self.seed)

    def measure(
        self,
        subjects: Sequence[Subject],
        condition: Condition,  # noqa: ARG002 - the subjects' scene knows it
    ) -> Iterator[tuple[Subject, Sequence[Measurement] | Failure]]:
        """Yield each subject with its numbers; one of the subjects must be the baseline."""
        yield from self.explain(subjects)

    def explain(
        self,
        subjects: Sequence[Subject],
        *,
        known: HeatMaps | None = None,
        twin: Twin | Failure | None = None,
        keep: Callable[[Subject, HeatMaps], None] = _drop,
    ) -> Iterator[tuple[Subject, Sequence[Measurement] | Failure]]:
        """Yield each subject with its numbers.

        Args:
            subjects: candidates of one model that share a scene.
            known: the baseline's maps from an earlier run; None where they must be made.
            twin: a network that was trained independently, or why there is none.
            keep: stores the maps of a subject.
        """
        scene = subjects[0].scene
        assert scene is not None, "heat maps are made of images"
        work = self.looking(scene)
        baseline: HeatMaps | Failure | None = known
        ordered = sorted(subjects, key=lambda s: not is_baseline(s))
        for subject in ordered:
            if is_baseline(subject):
                baseline = attempt(partial(work.of_baseline, twin=twin), subject)
                outcome: HeatMaps | Failure = baseline
            elif isinstance(baseline, HeatMaps):
                outcome = attempt(partial(work.of_candidate, baseline=baseline), subject)
            else:
                why = "it is not among the candidates" if baseline is None else baseline.message
                outcome = Failure(
                    "DataError",
                    f"{self.method}: the baseline's heat maps must be there to compare with, got "
                    f"none: {why}",
                )
            yield subject, self._finish(subject, outcome, baseline, keep)

    def looking(self, scene: Scene) -> Looking:
        """Return what makes the maps of a scene."""
        return _Work(self, Shown.of(scene, self.images))

    def _finish(
        self,
        subject: Subject,
        maps: HeatMaps | Failure,
        baseline: HeatMaps | Failure | None,
        keep: Callable[[Subject, HeatMaps], None],
    ) -> Sequence[Measurement] | Failure:
        if isinstance(maps, Failure) or not isinstance(baseline, HeatMaps):
            assert isinstance(maps, Failure), "maps are made beside a baseline only"
            return maps

        def finish(maps: HeatMaps) -> list[Measurement]:
            numbers = self.agreement.numbers(maps, baseline)
            keep(subject, maps)
            return numbers

        return attempt(finish, maps)


def form_of(needs: Literal["gradients", "activations", "predictions"]) -> Form:
    """Return the form of a candidate that a method looks at."""
    return "artifact" if needs == "predictions" else "twin"


def is_baseline(subject: Subject) -> bool:
    """Return whether a subject is what the others are compared with."""
    return subject.folder == subject.reference


@dataclass(eq=False)
class _Work:
    """Makes maps of one set of images.

    Attributes:
        saliency: the settings.
        shown: the images.
    """

    saliency: Saliency
    shown: Shown
    _networks: dict[Path, nn.Module] = field(default_factory=dict)

    @cached_property
    def method(self) -> Attribution:
        method: Attribution = self.saliency.attribution
        return method

    def of_baseline(self, subject: Subject, *, twin: Twin | Failure | None) -> HeatMaps:
        """Return the maps of a baseline with those of its controls.

        Raises:
            DataError: the baseline gives no finite logits.
        """
        onlooker = self._onlooker(subject, self.saliency.layer)
        inputs = self.shown.inputs(subject.preprocess)
        logits_nK = np.concatenate([onlooker.predict(given) for _, given in inputs])
        check_finite(self.saliency.method, logits_nK)
        explained = logits_nK.argmax(axis=1)
        maps = self._maps(onlooker, subject, explained)
        missing: dict[str, str] = {}
        add_control(RANDOMIZED, self._randomized(subject, onlooker, explained), maps, missing)
        if twin is not None:
            add_control(TWIN, self._twin(twin, explained), maps, missing)
        found = self._found(onlooker, subject, maps, explained)
        label = twin.label if isinstance(twin, Twin) else ""
        return replace(found, images=self.shown.thumbnails(), missing=missing, twin=label)

    def of_candidate(self, subject: Subject, *, baseline: HeatMaps) -> HeatMaps:
        """Return the maps of a candidate, of the layer and classes of its baseline.

        Raises:
            DataError: the baseline's maps are about other images.
        """
        if not np.array_equal(baseline.index, self.shown.index):
            raise DataError(
                f"{self.saliency.method}: the baseline's stored heat maps must be about the same "
                f"{len(self.shown.index)} images, got {len(baseline)} others; delete the folder "
                "'saliency' of the run directory and run the study again"
            )
        onlooker = self._onlooker(subject, baseline.layer)
        maps = self._maps(onlooker, subject, baseline.explained)
        return self._found(onlooker, subject, maps, baseline.explained)

    def _onlooker(self, subject: Subject, layer: str) -> Onlooker:
        """Return a candidate as methods see it."""
        example = subject.preprocess(self.shown.pixels[:1])
        black = subject.preprocess(np.zeros((1, 1, 1, 3), dtype=np.uint8)).reshape(-1)
        if self.saliency.form == "artifact":
            return Onlooker(None, subject.predict, black, example, layer)
        return Onlooker.of(network_of(subject), black, example, layer, self._beside(subject))

    def _beside(self, subject: Subject) -> nn.Module | None:
        """Return the network of a candidate's baseline; None for a baseline."""
        if is_baseline(subject):
            return None
        if subject.reference not in self._networks:
            self._networks[subject.reference] = network_of(subject, subject.reference)
        return self._networks[subject.reference]

    def _maps(
        self, onlooker: Onlooker, subject: Subject, explained: NDArray[np.int64]
    ) -> dict[str, NDArray[np.float32]]:
        """Return a candidate's maps, with those of both halves of the masks if there are any."""
        return halved(self.method, lambda method: self._made(method, onlooker, subject, explained))

    def _made(
        self,
        method: Attribution,
        onlooker: Onlooker,
        subject: Subject,
        explained: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        stream = partial(randomness.stream, self.saliency.seed, "saliency", self.saliency.method)
        return np.concatenate(
            [
                method.maps(onlooker, given, explained[which], stream=stream)
                for which, given in self.shown.inputs(subject.preprocess)
            ]
        )

    def _randomized(
        self, subject: Subject, onlooker: Onlooker, explained: NDArray[np.int64]
    ) -> NDArray[np.float32] | Failure:
        def make(subject: Subject) -> NDArray[np.float32]:
            drawn = randomized(network_of(subject), onlooker.example, self.saliency.seed)
            other = Onlooker.of(drawn, onlooker.black, onlooker.example, onlooker.seen or AUTO)
            return self._maps(other, subject, explained)[OWN]

        return attempt(make, subject)

    def _twin(
        self, twin: Twin | Failure, explained: NDArray[np.int64]
    ) -> NDArray[np.float32] | Failure:
        if isinstance(twin, Failure):
            return twin

        def make(subject: Subject) -> NDArray[np.float32]:
            return self._maps(self._onlooker(subject, twin.layer), subject, explained)[OWN]

        return attempt(make, twin.subject)

    def _found(
        self,
        onlooker: Onlooker,
        subject: Subject,
        maps: Mapping[str, NDArray[np.float32]],
        explained: NDArray[np.int64],
    ) -> HeatMaps:
        _, example = next(self.shown.inputs(subject.preprocess))
        rows, columns = self.method.resolution(onlooker, example[:1])
        return HeatMaps(
            method=self.saliency.method,
            layer=onlooker.seen,
            resolution=(rows, columns),
            maps=maps,
            index=self.shown.index,
            explained=explained,
            target=self.shown.target,
            caveat="; ".join(text for text in (onlooker.caveat, self._classless()) if text),
            groups=self.shown.groups,
        )

    def _classless(self) -> str:
        """Return what a reader must know of maps that are the same for every class."""
        if getattr(self.method, "is_of_class", True):
            return ""
        return f"{self.saliency.method} does not look at the class"


def halved(
    method: Any, make: Callable[[Any], NDArray[np.float32]]
) -> dict[str, NDArray[np.float32]]:
    """Return a candidate's maps, with those of both halves of the masks if there are any.

    Args:
        method: what makes maps.
        make: the maps that a method makes.
    """
    if getattr(method, "half", 0) is not None:
        return {OWN: make(method)}
    halves = [make(replace(method, half=number)) for number in range(len(HALVES))]
    mean = ((halves[0] + halves[1]) / 2).astype(np.float32)
    return {OWN: mean, **dict(zip(HALVES, halves, strict=True))}


def add_control(
    name: str,
    made: NDArray[np.float32] | Failure,
    maps: dict[str, NDArray[np.float32]],
    missing: dict[str, str],
) -> None:
    """Add the maps of a control, or the reason why there are none."""
    if isinstance(made, Failure):
        missing[name] = made.message
    elif made.shape != maps[OWN].shape:
        own, other = (f"{part.shape[1]}x{part.shape[2]}" for part in (maps[OWN], made))
        missing[name] = f"its maps are {other} and the baseline's {own}"
    else:
        maps[name] = made
