"""What every run begins with: its directory, its plan, this machine."""

from __future__ import annotations

from dataclasses import dataclass

from shrinkproof.engines.inline import Inline
from shrinkproof.environment import environment_key
from shrinkproof.protocols import Engine
from shrinkproof.records import Json
from shrinkproof.store import Store
from shrinkproof.study.inputs import Inputs
from shrinkproof.study.plan import Plan
from shrinkproof.study.progress import Progress
from shrinkproof.study.running import Runner
from shrinkproof.study.shares import Unit
from shrinkproof.study.work.workplace import forget_workplace


@dataclass(frozen=True)
class Start:
    """What every run begins with.

    Attributes:
        inputs: the study.
        plan: all that it wants.
        store: the run directory.
        environment: description of this machine.
    """

    inputs: Inputs
    plan: Plan
    store: Store
    environment: Json

    def write(self, *, keeps_plan: bool) -> None:
        """Write what the run directory says of the study and of this machine.

        Args:
            keeps_plan: leave the stored plan alone, because others are working on it.
        """
        store, plan = self.store, self.plan
        store.write_text(store.path / "study.yaml", self.inputs.text)
        store.write_json("inputs.json", self.inputs.as_json())
        store.write_environment(environment_key(self.environment), self.environment)
        data = {
            "splits": plan.splits,
            "notes": plan.notes,
            "contamination": plan.contamination,
            "origins": plan.origins,
        }
        store.write_json("data.json", data)
        if not keeps_plan:
            store.write_plan(plan.candidates, plan.cells)

    def runner(
        self,
        wanted: Plan,
        engine: Engine | None,
        progress: Progress,
        *,
        retry: bool,
        units: frozenset[Unit] | None = None,
    ) -> Runner:
        """Return what runs a part of the plan.

        Args:
            wanted: the part.
            engine: where the work happens; this process by default.
            progress: who is told.
            retry: try earlier failures again.
            units: passes and heat maps that are done; None for all.
        """
        forget_workplace()
        plan = self.plan
        return Runner(
            self.inputs,
            wanted,
            self.store,
            engine or Inline(),
            self.environment,
            progress,
            retry,
            frozenset([*(c.key for c in plan.candidates), *(c.key for c in plan.cells)]),
            units,
        )
