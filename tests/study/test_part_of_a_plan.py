"""Which candidates belong to a part of a plan."""

from __future__ import annotations

from shrinkproof.records import Candidate
from shrinkproof.study.plan import CHECKPOINT, Plan


def _of_model(model: str) -> list[Candidate]:
    control = Candidate(f"{model}-c", model, "control.finetune", role="control")
    return [
        Candidate(f"{model}-b", model, "baseline", role="baseline"),
        Candidate(f"{model}-e", model, f"control.finetune{CHECKPOINT}1", role="control"),
        control,
        Candidate(f"{model}-p", model, "prune", control=control.key),
    ]


def test_checkpoints_of_other_models_are_no_part():
    candidates = (*_of_model("one"), *_of_model("two"))
    found = Plan(candidates, (), {}, (), {}, {}).only("one/prune")
    assert [c.key for c in found.candidates] == ["one-b", "one-e", "one-c", "one-p", "two-b"]
