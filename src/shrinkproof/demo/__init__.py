"""The demo: train a small network, compress it, and prove what that did."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from shrinkproof.results import Results
    from shrinkproof.study.progress import Progress

Task = Literal["classification", "detection"]


def run_demo(folder: Path, progress: Progress, task: Task = "classification") -> Results:
    """Run a demo in a directory, certify what can be, and return its results.

    Running again continues.

    Args:
        folder: where the study file, the trained network and the run are written.
        progress: who is told how far it is.
        task: ``classification`` of digits, or ``detection`` of digits in textured scenes.

    Raises:
        UsageError: the directory holds another study, such as the demo of the other task.
    """
    from shrinkproof.demo import classification, detection
    from shrinkproof.engines.inline import Inline
    from shrinkproof.engines.processes import Processes
    from shrinkproof.environment import usable_cores
    from shrinkproof.errors import UsageError
    from shrinkproof.spec import load_study_spec
    from shrinkproof.store import Store
    from shrinkproof.study import Study
    from shrinkproof.study.certifying import certify

    chosen = detection if task == "detection" else classification
    store = Store.create(folder)
    file = folder / "study.yaml"
    found = load_study_spec(file).study if file.is_file() else ""
    if found not in ("", load_study_spec(chosen.STUDY).study):
        raise UsageError(
            f"{folder}: must be empty or hold a demo of task {task}, got the study {found!r}; "
            "choose another directory"
        )
    store.write_text(file, chosen.STUDY)
    study = Study.load(file)
    chosen.BASELINE.train(study, store, progress)
    cores = usable_cores()
    engine = Processes(workers=min(cores, 8)) if cores > 1 else Inline()
    results = study.run(folder, engine=engine, progress=progress)
    if study.spec.certify is not None:
        # A few passes over few images: starting processes would take longer than the work.
        certify(folder, engine=Inline(), progress=progress)
    return results
