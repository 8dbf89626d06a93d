"""A study: what to compress, how, and what to measure; planned, run, resumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shrinkproof.study.inputs import Inputs

if TYPE_CHECKING:
    from shrinkproof.protocols import Engine
    from shrinkproof.results import Results
    from shrinkproof.spec import StudySpec
    from shrinkproof.study.plan import Plan
    from shrinkproof.study.progress import Progress

__all__ = ["Inputs", "Study"]


@dataclass(frozen=True)
class Study:
    """What to compress, how, and what to measure.

    Attributes:
        inputs: the study file with everything it reads.
    """

    inputs: Inputs

    @classmethod
    def load(
        cls,
        path: Path | str,
        *,
        roots: Mapping[str, Path] | None = None,
        limit: int | None = None,
    ) -> Study:
        """Return the study of a file, checked.

        Args:
            path: the study file.
            roots: named places of data and weights, for example ``{"cifar10": Path(...)}``;
                they precede the environment variables ``SHRINKPROOF_<NAME>``.
            limit: evaluate on at most so many images per measuring split; None for all.

        Raises:
            SpecError: the file is wrong; every problem has a line.
        """
        study = cls(Inputs.load(Path(path), roots=roots, limit=limit))
        _ = study.spec
        return study

    @property
    def spec(self) -> StudySpec:
        """The checked study file."""
        return self.inputs.spec

    def plan(self) -> Plan:
        """Return the candidates and cells that the study wants; torch is not imported.

        Raises:
            DataError: data are missing or too few.
            ModelError: a model file is missing.
        """
        from shrinkproof.environment import capture
        from shrinkproof.study.plan import make_plan

        return make_plan(self.inputs, capture())

    def run(
        self,
        out: Path | str,
        *,
        engine: Engine | None = None,
        only: str | None = None,
        retry: bool = True,
        progress: Progress | None = None,
    ) -> Results:
        """Run what is missing and return the results; running again continues.

        Args:
            out: the run directory; made where it is missing.
            engine: where the work happens; this process by default.
            only: run only candidates whose label matches this pattern, with baselines and the
                controls of what matches.
            retry: try earlier failures again.
            progress: who is told how far it is.

        Raises:
            StoreError: the run directory cannot be written; what is finished is kept.
            UsageError: ``only`` matches nothing.
        """
        from shrinkproof.engines.inline import Inline
        from shrinkproof.environment import capture, environment_key
        from shrinkproof.results import Results
        from shrinkproof.store import Store
        from shrinkproof.study.picturing import keep_pictures
        from shrinkproof.study.plan import make_plan
        from shrinkproof.study.progress import Silence
        from shrinkproof.study.running import Runner
        from shrinkproof.study.work.workplace import forget_workplace

        environment = capture()
        store = Store.create(Path(out).absolute())
        plan = make_plan(self.inputs, environment)
        wanted = plan.only(only) if only else plan
        store.write_text(store.path / "study.yaml", self.inputs.text)
        store.write_json("inputs.json", self.inputs.as_json())
        store.write_environment(environment_key(environment), environment)
        store.write_json(
            "data.json",
            {
                "splits": plan.splits,
                "notes": plan.notes,
                "contamination": plan.contamination,
                "origins": plan.origins,
            },
        )
        store.write_plan(plan.candidates, plan.cells)
        forget_workplace()
        told = progress or Silence()
        Runner(
            self.inputs,
            wanted,
            store,
            engine or Inline(),
            environment,
            told,
            retry,
            frozenset([*(c.key for c in plan.candidates), *(c.key for c in plan.cells)]),
        ).run()
        found = Results.load(store.path)
        keep_pictures(found, self.inputs, told)
        return found
