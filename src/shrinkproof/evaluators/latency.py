"""How long one inference of the real file takes on this machine."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import pydantic
from numpy.typing import NDArray

from shrinkproof.engines.inline import attempt
from shrinkproof.evaluators.subject import Subject
from shrinkproof.metrics.names import METRIC_NAMES
from shrinkproof.protocols import Measurement
from shrinkproof.records import Condition, Failure
from shrinkproof.registry import component


@component
class Latency:
    """Median and 95th percentile of the time of one inference of the exported file.

    Candidate and baseline take turns in one process, so that whatever else the machine does hits
    both and the ratio of their medians holds where the times themselves do not. The session runs
    alone: the study calls this evaluator after all other work.

    Attributes:
        batch: images per inference.
        threads: threads of the runtime.
        repeats: timed inferences of each of the two.
        warmup: untimed inferences before them.
    """

    name: ClassVar[str] = "latency"
    version: ClassVar[int] = 1
    exclusive: ClassVar[bool] = True

    batch: Annotated[int, pydantic.Field(ge=1)] = 1
    threads: Annotated[int, pydantic.Field(ge=1)] = 1
    repeats: Annotated[int, pydantic.Field(ge=20)] = 200
    warmup: Annotated[int, pydantic.Field(ge=1)] = 20

    def measure(
        self,
        subjects: Sequence[Subject],
        condition: Condition,  # noqa: ARG002 - the clock does not depend on the weather
    ) -> Iterator[tuple[Subject, Sequence[Measurement] | Failure]]:
        """Yield the times of each subject, taken in turns with the baseline's."""
        for subject in subjects:
            yield subject, attempt(self._times, subject)

    def _times(self, subject: Subject) -> list[Measurement]:
        inputs = np.zeros((self.batch, *subject.facts["input_shape"]), dtype=np.float32)
        own_seconds, reference_seconds = self._take_turns(
            subject.folder / "model.onnx", subject.reference / "model.onnx", inputs
        )
        values = {
            "cost.latency_median": float(np.median(own_seconds)),
            "cost.latency_p95": float(np.quantile(own_seconds, 0.95)),
            "cost.latency_ratio": float(np.median(own_seconds) / np.median(reference_seconds)),
        }
        setting = f"batch {self.batch}, {self.threads} thread(s), onnxruntime on the CPU"
        return [
            Measurement(
                metric=metric,
                value=value,
                unit=METRIC_NAMES[metric].unit,
                better=METRIC_NAMES[metric].better.value,
                count=self.repeats,
                reason=setting,
            )
            for metric, value in values.items()
        ]

    def _take_turns(
        self, own: Path, reference: Path, inputs: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        from shrinkproof.artifacts.session import Session

        sessions = [Session(own, threads=self.threads), Session(reference, threads=self.threads)]
        seconds = np.empty((2, self.repeats))
        for session in sessions:
            for _ in range(self.warmup):
                session(inputs)
        for turn in range(self.repeats):
            for row, session in enumerate(sessions):
                start = time.perf_counter()
                session(inputs)
                seconds[row, turn] = time.perf_counter() - start
        return seconds[0], seconds[1]
