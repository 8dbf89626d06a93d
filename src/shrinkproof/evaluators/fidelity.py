"""Whether rounded or compiled arithmetic gives the answers of float32 on a sample of images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated, ClassVar, Final

import numpy as np
import pydantic
from numpy.typing import NDArray

from shrinkproof.data.division import stratified
from shrinkproof.engines.inline import attempt
from shrinkproof.errors import ModelError
from shrinkproof.evaluators.halving import Halving
from shrinkproof.evaluators.subject import Subject
from shrinkproof.metrics.names import METRIC_NAMES
from shrinkproof.protocols import Measurement
from shrinkproof.records import Condition, Failure
from shrinkproof.registry import component

AGREEMENT: Final = "fidelity.float32_agreement"
DIFFERENCE: Final = "fidelity.float32_difference"
FLOAT32: Final = (AGREEMENT, DIFFERENCE)
"""Names of what is measured."""


@component
class Fidelity:
    """Answers of the PyTorch form as it was run beside its own in float32.

    The candidate is loaded once more and predicts a sample of the images in float32 on the CPU,
    layer by layer.
    `fidelity.float32_agreement` is the share of images that get the same class,
    `fidelity.float32_difference` the largest absolute difference of any output, divided by the
    largest absolute output in float32. Detectors only have the difference: their outputs are no
    classes of an image yet.

    Attributes:
        images: how many are compared, with the classes in proportion; all where there are fewer.
    """

    name: ClassVar[str] = "fidelity"
    version: ClassVar[int] = 1
    exclusive: ClassVar[bool] = False

    images: Annotated[int, pydantic.Field(ge=1)] = 256

    def measure(
        self,
        subjects: Sequence[Subject],
        condition: Condition,  # noqa: ARG002 - the subjects' scene knows it
    ) -> Iterator[tuple[Subject, Sequence[Measurement] | Failure]]:
        """Yield how far each candidate is from itself in float32."""
        for subject in subjects:
            yield subject, attempt(self._measure, subject)

    def _measure(self, subject: Subject) -> list[Measurement]:
        from shrinkproof.artifacts.forward import Forward

        if subject.load_twin is None or subject.scene is None:
            raise ModelError(
                f"{subject.key}: must have a PyTorch form and images to be compared with itself in "
                "float32, got none"
            )
        exact = Halving(Forward(subject.load_twin(subject.folder)))
        chosen = stratified(subject.scene.images, min(self.images, len(subject.scene.images)))
        same, off, largest = 0, 0.0, 0.0
        for _, pixels in replace(subject.scene, images=chosen).batches():
            inputs = subject.preprocess(pixels)
            own, reference = subject.predict(subject.hand_over(inputs)), exact(inputs)
            if subject.detector is None:
                same += int((own.argmax(axis=1) == reference.argmax(axis=1)).sum())
            off = max(off, _largest(own - reference))
            largest = max(largest, _largest(reference))
        count = len(chosen)
        found = [] if subject.detector else [_measurement(AGREEMENT, same / count, count)]
        return [*found, _measurement(DIFFERENCE, off / largest if largest else off, count)]


def _largest(values: NDArray[np.float32]) -> float:
    """Return the largest absolute value; infinite where one is not finite, and so for all."""
    found = float(np.abs(values).max(initial=0.0))
    return math.inf if math.isnan(found) else found


def _measurement(metric: str, value: float, count: int) -> Measurement:
    known = METRIC_NAMES[metric]
    is_sound = math.isfinite(value)
    return Measurement(
        metric=metric,
        value=value if is_sound else None,
        unit=known.unit,
        better=known.better.value,
        count=count,
        reason="" if is_sound else "outputs are not finite: too large for this precision",
    )
