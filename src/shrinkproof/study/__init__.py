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
    from shrinkproof.study.staging import Portion, Stage
    from shrinkproof.study.starting import Start

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
        scale: str | None = None,
    ) -> Study:
        """Return the study of a file, checked.

        Args:
            path: the study file.
            roots: named places of data and weights, for example ``{"cifar10": Path(...)}``;
                they precede the environment variables ``SHRINKPROOF_<NAME>``.
            limit: evaluate on at most so many images per measuring split; None for all.
            scale: which of the file's scales; None takes what the file says.

        Raises:
            SpecError: the file is wrong; every problem has a line.
        """
        study = cls(Inputs.load(Path(path), roots=roots, limit=limit, scale=scale))
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
        stage: Stage | None = None,
        share: str | None = None,
    ) -> Results:
        """Run what is missing and return the results; running again continues.

        Args:
            out: the run directory; made where it is missing.
            engine: where the work happens; this process by default.
            only: run only candidates whose label matches this pattern, with baselines and the
                controls of what matches.
            retry: try earlier failures again.
            progress: who is told how far it is.
            stage: do only this: ``prepare`` candidates, or ``measure`` what their passes and heat
                maps give. Sizes, latency and pictures are left to a run of everything.
            share: do only this share of the stage, for example ``3/16``: the third of 16 launchers
                on one directory. All must have the same study.

        Raises:
            StoreError: the run directory cannot be written, or another study is being worked on
                there; what is finished is kept.
            UsageError: ``only`` matches nothing; a share without a stage; a candidate that is to be
                measured has not been prepared.
        """
        from shrinkproof.engines.holding import held
        from shrinkproof.results import Results
        from shrinkproof.study.picturing import keep_pictures
        from shrinkproof.study.progress import Silence

        told = progress or Silence()
        if stage is not None or share is not None:
            portion = self.run_stage(
                out, stage, share, engine=engine, only=only, retry=retry, progress=told
            )
            return Results.load(portion.store.path)
        start = self._start(Path(out))
        wanted = start.plan.only(only) if only else start.plan
        start.write(keeps_plan=False)
        runner = start.runner(wanted, engine, told, retry=retry)
        with held(runner.engine):
            runner.run()
        found = Results.load(start.store.path)
        keep_pictures(found, self.inputs, told)
        return found

    def run_stage(
        self,
        out: Path | str,
        stage: Stage | None,
        share: str | None = None,
        *,
        engine: Engine | None = None,
        only: str | None = None,
        retry: bool = True,
        progress: Progress | None = None,
    ) -> Portion:
        """Run what is missing of one stage, or of a share of it; return what that is.

        Arguments and errors are those of `run`. Nothing but the stage is touched or summarized, so
        that many launchers may do this at once.
        """
        from shrinkproof.engines.holding import held
        from shrinkproof.study.progress import Shared, Silence
        from shrinkproof.study.staging import Portion, checked

        wanted, chosen = checked(stage, share)
        told = progress or Silence()
        start = self._start(Path(out))
        portion = Portion(self.inputs, start.plan, start.store, Path(out), wanted, chosen, only)
        start.write(keeps_plan=portion.check())
        for warning in portion.warnings():
            told.warn(warning)
        named = told if chosen is None else Shared(told, str(chosen))
        runner = start.runner(portion.part, engine, named, retry=retry, units=portion.units)
        with held(runner.engine):
            runner.prepare() if wanted == "prepare" else runner.measure()
        return portion

    def _start(self, out: Path) -> Start:
        """Return the directory, plan and machine of a run; nothing is written into it yet."""
        from shrinkproof.environment import capture
        from shrinkproof.store import Store
        from shrinkproof.study.plan import make_plan
        from shrinkproof.study.starting import Start

        environment = capture()
        store = Store.create(out.absolute())
        return Start(self.inputs, make_plan(self.inputs, environment), store, environment)
