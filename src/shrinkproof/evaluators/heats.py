"""Which candidates are timed in the same processes: those of one baseline that fit into memory."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from shrinkproof.artifacts.candidate import NETWORK
from shrinkproof.artifacts.stopwatch import Source
from shrinkproof.engines.inline import attempt
from shrinkproof.evaluators.fitting import grouped, loaded_bytes
from shrinkproof.evaluators.subject import Subject
from shrinkproof.records import Failure

REFERENCE: Final = -1
"""Place of the baseline among the sources of a heat; its own subject is timed once more."""

_MEMORY_SHARE: Final = 0.25
"""Part of the machine's memory that the networks of one process may fill."""


@dataclass(frozen=True, slots=True)
class Heat:
    """Candidates that take turns with their baseline.

    Attributes:
        reference: the baseline's directory.
        input_shape: (C, H, W) of one input.
        subjects: the candidates.
    """

    reference: Path
    input_shape: tuple[int, ...]
    subjects: tuple[Subject, ...]

    def apart(self) -> Iterator[Heat]:
        """Yield each candidate alone with the baseline."""
        for subject in self.subjects:
            yield replace(self, subjects=(subject,))

    def files(self) -> dict[int, Source]:
        """Return the exported files, by position in ``subjects``, and the baseline's.

        Candidates that were made without a file are not there; nothing is where all were.
        """
        own = {
            place: subject.folder / NETWORK
            for place, subject in enumerate(self.subjects)
            if not why_no_file(subject)
        }
        return {REFERENCE: self.reference / NETWORK, **own} if own else {}

    def twins(self) -> dict[int, Source]:
        """Return what loads the PyTorch forms that are no imitations; empty without any."""
        found: dict[int, Source] = {}
        for place, subject in enumerate(self.subjects):
            if subject.load_twin is not None and not subject.is_simulated:
                found[place] = functools.partial(subject.load_twin, subject.folder)
                found[REFERENCE] = functools.partial(subject.load_twin, self.reference)
        return found


def why_no_file(subject: Subject) -> str:
    """Return why a candidate was made without an exported file; empty where it has one."""
    undefined = subject.facts.get("undefined", {})
    return str(undefined.get("cost.bytes", ""))


def heats_of(subjects: Sequence[Subject]) -> tuple[list[Heat], list[tuple[Subject, Failure]]]:
    """Return who takes turns with whom, and the candidates about which too little is known."""
    groups: dict[tuple[Path, tuple[int, ...]], list[Subject]] = {}
    failed: list[tuple[Subject, Failure]] = []
    for subject in subjects:
        shape = attempt(lambda subject: tuple(subject.facts["input_shape"]), subject)
        if isinstance(shape, Failure):
            failed.append((subject, shape))
        else:
            groups.setdefault((subject.reference, shape), []).append(subject)
    heats = [
        Heat(reference, shape, part)
        for (reference, shape), group in groups.items()
        for part in _that_fit(group)
    ]
    return heats, failed


def _that_fit(subjects: Sequence[Subject]) -> Iterator[tuple[Subject, ...]]:
    """Yield the candidates in groups whose networks fit into memory together."""
    room = _MEMORY_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return grouped(subjects, lambda subject: loaded_bytes(subject.folder / NETWORK), room)
