"""Networks timed in turns, in a process that does nothing else."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from shrinkproof.environment import cpu_frequency
from shrinkproof.errors import ShrinkproofError
from shrinkproof.randomness import stream
from shrinkproof.records import Failure

if TYPE_CHECKING:
    from torch import nn

N = TypeVar("N", bound=Hashable)
R = TypeVar("R")

Runtime = Literal["onnxruntime", "pytorch"]
"""ONNX Runtime executes the exported file, PyTorch the network it was exported from, eagerly."""

Source = Path | Callable[[], "nn.Module"]
"""An exported file for ONNX Runtime; what loads a network in evaluation mode for PyTorch."""

Run = Callable[[NDArray[np.float32]], object]


@dataclass(frozen=True, slots=True)
class Race:
    """Networks that take turns in one process.

    Attributes:
        runtime: what executes them.
        sources: the networks, each with a number of its own.
        input_shape: (C, H, W) of one input.
        batches: images per inference; the networks are loaded once for all of them.
        threads: threads of one inference.
        repeats: timed inferences of each network.
        warmup: untimed inferences of each network before them.
        process: number of the process, which decides the order of the turns.
    """

    runtime: Runtime
    sources: Mapping[int, Source]
    input_shape: tuple[int, ...]
    batches: tuple[int, ...]
    threads: int
    repeats: int
    warmup: int
    process: int = 0


@dataclass(frozen=True, slots=True)
class Lap:
    """What a race found.

    Attributes:
        runtime: name and version.
        frequency: frequency of the processor in hertz, read while it was busy; None where unknown.
        seconds: batch -> number of the network -> the time of each inference, or why there is none.
    """

    runtime: str
    frequency: int | None
    seconds: dict[int, dict[int, list[float] | Failure]]


def take_turns(
    runs: Mapping[N, Callable[[], object]],
    *,
    repeats: int,
    order: np.random.Generator,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[N, list[float]]:
    """Return how long each call took, one after the other, in a new order every round.

    Whatever else the machine does in a round hits all of them, and none always follows the same
    other one, whose data fill the caches.

    Args:
        runs: what is timed.
        repeats: number of rounds.
        order: shuffles the turns of a round.
        clock: seconds.
    """
    seconds: dict[N, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for _ in range(repeats):
        for position in order.permutation(len(names)).tolist():
            run = runs[names[position]]
            start = clock()
            run()
            seconds[names[position]].append(clock() - start)
    return seconds


def run_race(race: Race) -> Lap:
    """Return the times of all networks of a race; call it in a fresh process."""
    runtime, load = _onnxruntime(race) if race.runtime == "onnxruntime" else _pytorch(race)
    loaded = {number: _tried(load, source) for number, source in race.sources.items()}
    seconds = {batch: _lap(race, batch, loaded) for batch in race.batches}
    return Lap(runtime, cpu_frequency(), seconds)


def _lap(
    race: Race, batch: int, loaded: Mapping[int, Run | Failure]
) -> dict[int, list[float] | Failure]:
    draws = stream("stopwatch", race.process, batch)
    inputs = draws.standard_normal((batch, *race.input_shape), dtype=np.float32)

    def warm_up(run: Run) -> Callable[[], object]:
        for _ in range(race.warmup):
            run(inputs)
        return functools.partial(run, inputs)

    failed: dict[int, list[float] | Failure] = {}
    ready: dict[int, Callable[[], object]] = {}
    for number, run in loaded.items():
        outcome = run if isinstance(run, Failure) else _tried(warm_up, run)
        if isinstance(outcome, Failure):
            failed[number] = outcome
        else:
            ready[number] = outcome
    return {**failed, **take_turns(ready, repeats=race.repeats, order=draws)}


def _tried(work: Callable[[Any], R], item: Any) -> R | Failure:
    """Return the result, or why there is none; other errors than ours end the process.

    `engines.inline.attempt` would be imported by every fresh process for a tenth of a second.
    """
    try:
        return work(item)
    except ShrinkproofError as error:
        return Failure(type(error).__name__, str(error))


def _onnxruntime(race: Race) -> tuple[str, Callable[[Any], Run]]:
    from shrinkproof.artifacts.session import RUNTIME, Session, share_threads

    is_shared = race.threads > 1
    if is_shared:
        share_threads(race.threads)

    def load(source: Path) -> Run:
        return Session(source, threads=race.threads, is_shared=is_shared)

    return RUNTIME, load


def _pytorch(race: Race) -> tuple[str, Callable[[Any], Run]]:
    import torch

    torch.set_num_threads(race.threads)

    def load(source: Callable[[], nn.Module]) -> Run:
        module = source()

        @torch.inference_mode()
        def run(inputs: NDArray[np.float32]) -> object:
            return module(torch.from_numpy(inputs))

        return run

    return f"pytorch {torch.__version__}", load
