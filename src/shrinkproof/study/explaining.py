"""Heat maps of the candidates of one model, and the numbers from stored ones."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.engines.inline import attempt
from shrinkproof.errors import ModelError
from shrinkproof.evaluators.saliency import Saliency, Twin
from shrinkproof.evaluators.subject import Scene, Subject
from shrinkproof.metrics.agreement import CONTROL, Agreement
from shrinkproof.metrics.heatmaps import TWIN, HeatMaps
from shrinkproof.protocols import Measurement
from shrinkproof.records import Candidate, Cell, Condition, Failure
from shrinkproof.spec import StudySpec
from shrinkproof.store import Store
from shrinkproof.study.plan import saliencies_of
from shrinkproof.study.twin import load_twin
from shrinkproof.study.work.loading import check_fit
from shrinkproof.study.work.measuring import PassResult
from shrinkproof.study.work.workplace import Workplace, workplace

if TYPE_CHECKING:
    from shrinkproof.artifacts.session import Session

_UNPREPARED: Final = "could not be prepared"


@dataclass(frozen=True, slots=True)
class Explaining:
    """Make the heat maps of one model's candidates under one condition.

    Attributes:
        run: the run directory.
        model: name of the model in the study.
        split: whose images are shown.
        condition: what the world does to them.
        cells: what is wanted, of one or several methods.
    """

    run: str
    model: str
    split: str
    condition: Condition
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Comparing:
    """Compute the numbers of one cell from stored heat maps.

    Attributes:
        run: the run directory.
        cell: which cell.
        baseline: key of the baseline's cell.
        agreement: how numbers are made.
    """

    run: str
    cell: Cell
    baseline: str
    agreement: Agreement


def baselines_of(candidates: Iterable[Candidate], cells: Sequence[Cell]) -> dict[str, str]:
    """Return for the key of each cell of heat maps the key of its baseline's cell."""
    models = {c.key: (c.model, c.role) for c in candidates}
    places: dict[tuple[object, ...], str] = {}
    explained = [cell for cell in cells if cell.evaluator == Saliency.name]
    for cell in explained:
        model, role = models[cell.candidate]
        if role == "baseline":
            places[model, *_place(cell)] = cell.key
    found = {
        cell.key: places.get((models[cell.candidate][0], *_place(cell)), "") for cell in explained
    }
    return {key: baseline for key, baseline in found.items() if baseline}


def comparisons(
    run: Path, spec: StudySpec, candidates: Iterable[Candidate], cells: Sequence[Cell]
) -> list[Comparing]:
    """Return what computes the numbers of all cells of heat maps of a study."""
    saliency = spec.measure.saliency
    methods = [] if saliency is None else [name for name, _ in saliency.methods_with_settings()]
    agreements = {
        name: Agreement(
            label=name if position else "",
            replicates=spec.measure.intervals.replicates,
            seed=spec.seed,
        )
        for position, name in enumerate(methods)
    }
    baselines = baselines_of(candidates, cells)
    return [
        Comparing(str(run), cell, baselines[cell.key], agreements[cell.method])
        for cell in cells
        if cell.key in baselines and cell.method in agreements
    ]


def _place(cell: Cell) -> tuple[object, ...]:
    return cell.split, cell.condition, cell.form, cell.method


def compare(work: Comparing) -> tuple[Measurement, ...] | None:
    """Return the numbers of a cell, or None where its maps or the baseline's are missing."""
    store = Store(Path(work.run))
    maps = store.read_maps(work.cell.key)
    baseline = maps if work.cell.key == work.baseline else store.read_maps(work.baseline)
    if maps is None or baseline is None:
        return None
    return tuple(work.agreement.numbers(maps, baseline))


def explain(work: Explaining) -> PassResult:
    """Make the heat maps of every cell, beside the baseline's."""
    place = workplace(work.run)
    store = Store(place.run)
    images = place.images([work.split])[work.split]
    world = None if work.condition.is_clean else place.inputs.world(images)
    scene = Scene(images, work.condition, world, place.inputs.batch_of(images))
    candidates, cells = store.read_plan()
    loader = _Loader(place, store, scene, {c.key: c for c in candidates})
    baselines = baselines_of(candidates, cells)
    measured: dict[str, tuple[Measurement, ...] | Failure] = {}
    for method, saliency in saliencies_of(place.inputs, work.model).items():
        mine = [cell for cell in work.cells if cell.method == method]
        known = _stored(work.run, mine, baselines, saliency.agreement)
        measured |= known
        mine = [cell for cell in mine if cell.key not in known]
        if not mine:
            continue
        subjects = [loader.subject(cell) for cell in mine]
        reference = store.read_maps(baselines.get(mine[0].key, ""))

        def keep(subject: Subject, maps: HeatMaps) -> None:
            store.write_maps(subject.key, maps)

        twin = attempt(functools.partial(loader.twin, work.model), mine[0])
        for subject, outcome in saliency.explain(subjects, known=reference, twin=twin, keep=keep):
            done = outcome if isinstance(outcome, Failure) else tuple(outcome)
            measured[subject.key] = done
    return PassResult(measured, environment=place.machine)


def _stored(
    run: str, cells: Sequence[Cell], baselines: Mapping[str, str], agreement: Agreement
) -> dict[str, tuple[Measurement, ...]]:
    """Return the numbers of the cells whose maps are there, from before a kill."""
    found = {}
    for cell in cells:
        if cell.key not in baselines:
            continue
        numbers = attempt(compare, Comparing(run, cell, baselines[cell.key], agreement))
        if isinstance(numbers, tuple) and not waits_for_twin(numbers):
            found[cell.key] = numbers
    return found


def waits_for_twin(numbers: Iterable[Measurement]) -> bool:
    """Return whether a baseline lacks its twin's control because nobody had prepared the twin."""
    return any(m.slice == CONTROL + TWIN and _UNPREPARED in m.reason for m in numbers)


@dataclass(frozen=True, slots=True)
class _Loader:
    """Makes candidates ready to be looked at; nothing is loaded before it is needed.

    Attributes:
        place: what the process keeps.
        store: the run directory.
        scene: the images.
        candidates: all candidates of the run, by key.
    """

    place: Workplace
    store: Store
    scene: Scene
    candidates: Mapping[str, Candidate]

    def subject(self, cell: Cell) -> Subject:
        """Return the candidate of a cell."""
        model = self.candidates[cell.candidate].model
        base = self.place.base(model)
        check_fit(base, self.scene.images, model)
        folder = self.store.candidate(cell.candidate)
        return Subject(
            cell=cell,
            predict=functools.partial(
                _predict, str(folder / "model.onnx"), self.place.inputs.spec.threads
            ),
            preprocess=base.preprocess,
            num_classes=base.num_classes,
            detector=base.detector,
            scene=self.scene,
            folder=folder,
            reference=self.store.candidate(self._baseline(model).key),
            load_twin=functools.partial(load_twin, str(self.store.path), model),
        )

    def twin(self, model: str, cell: Cell) -> Twin | None:
        """Return the independently trained network beside a model; None where there is none.

        Raises:
            ModelError: it was not prepared, or does not fit the images.
        """
        spec = self.place.inputs.spec.measure.saliency
        other = None if spec is None else spec.twin_of(model)
        if spec is None or other is None:
            return None
        baseline = self._baseline(other)
        if not self.store.has_candidate(baseline.key):
            raise ModelError(f"{baseline.label} {_UNPREPARED}")
        beside = Cell(cell.key, baseline.key, cell.evaluator, cell.form, cell.split, cell.condition)
        return Twin(self.subject(beside), baseline.label, spec.layer_of(other))

    def _baseline(self, model: str) -> Candidate:
        return next(
            c for c in self.candidates.values() if c.model == model and c.role == "baseline"
        )


def _predict(file: str, threads: int, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    outputs: NDArray[np.float32] = _session(file, threads)(inputs)
    return outputs


@functools.lru_cache(maxsize=1)
def _session(file: str, threads: int) -> Session:
    """Return the runtime of an exported file; candidates are looked at one after the other."""
    from shrinkproof.artifacts.session import Session

    return Session(Path(file), threads=threads)
