"""What exported files are checked against: the study's images and the network it started from."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from shrinkproof.artifacts.damage import SIZES
from shrinkproof.errors import DataError, ExportError, ModelError, UsageError
from shrinkproof.records import Candidate
from shrinkproof.results import Results
from shrinkproof.store import digest_of
from shrinkproof.study.inputs import Inputs, roots_of_environment
from shrinkproof.study.work.loading import check_fit
from shrinkproof.study.work.workplace import Workplace

if TYPE_CHECKING:
    from shrinkproof.data.imageset import ImageSet
    from shrinkproof.models.loaded import LoadedModel


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """What the files are checked against.

    Attributes:
        inputs: the study, with its places.
        base: the network that the recipe started from.
        images: the printed split.
    """

    inputs: Inputs
    base: LoadedModel
    images: ImageSet


def open_source(results: Results, candidate: Candidate, roots: Mapping[str, Path]) -> Source:
    """Return the images of the printed split and the base network of a candidate.

    Args:
        results: the run.
        candidate: whose network.
        roots: where data and weights are, where they have moved since the run.

    Raises:
        UsageError: the run has no networks, or the images are others now.
        DataError: the images are not where they were.
        ModelError: the network is not where it was.
        ExportError: the network is another one now.
    """
    value = results.store.read_json("inputs.json")
    if value is None:
        raise UsageError(
            f"{results.store.path}: must be the directory of a run, got one without networks "
            "(inputs.json is missing); results of tables have none"
        )
    inputs = Inputs.from_json(value)
    inputs = replace(
        inputs,
        roots={**inputs.roots, **roots_of_environment(), **roots},
        folder=Path(roots.get("study", inputs.folder)),
    )
    with _advised():
        fingerprint = inputs.fingerprint(candidate.model)
    if not (results.store.path / "models" / f"{fingerprint}.json").is_file():
        raise ExportError(
            f"{candidate.model}: the base network must be the one of the run, got another "
            f"fingerprint ({fingerprint}); give the place of the original as '--root NAME=PATH'"
        )
    place = Workplace(results.store.path, inputs)
    with _advised():
        base = place.base(candidate.model)
        images = place.images([results.printing])[results.printing]
    if images.fingerprint != results.data["splits"][results.printing]["fingerprint"]:
        raise UsageError(
            f"{results.printing}: the images must be those of the run, got others; restore the "
            "data, or give their place as '--root NAME=PATH'"
        )
    check_fit(base, images, candidate.model)
    return Source(inputs, base, images)


@contextlib.contextmanager
def _advised() -> Iterator[None]:
    """Say how to go on where data or weights have moved since the run."""
    try:
        yield
    except (DataError, ModelError) as error:
        if "--root" in str(error):
            raise
        raise type(error)(
            f"{error}. If it has moved since the run, give its place as '--root NAME=PATH'; the "
            "folder of the study file is 'study'"
        ) from error


def check_sizes(results: Results, candidate: Candidate, folder: Path) -> None:
    """Refuse files that are not as long as when they were measured.

    Raises:
        ExportError: one of them is shorter, longer, or missing.
    """
    facts = results.store.read_json(f"candidates/{candidate.key}/complete.json")
    for name, metric in SIZES.items():
        if facts[metric] is None:
            raise ExportError(
                f"{candidate.label}: must have an exported file, got none: "
                f"{facts['undefined'][metric]}"
            )
        got = (folder / name).stat().st_size if (folder / name).is_file() else 0
        if got != facts[metric]:
            raise ExportError(
                f"{folder / name}: must have {facts[metric]:,} bytes as it was measured, got "
                f"{got:,}; make the candidate again in a new run directory"
            )
    known = facts.get("sha256")  # runs of earlier versions have none
    if known is not None and digest_of(folder / "model.onnx") != known:
        raise ExportError(
            f"{folder / 'model.onnx'}: must be the file that was measured, with sha256 {known}, "
            "got another one; make the candidate again in a new run directory"
        )
