"""The certify block of a study file: what it means, and every way to get it wrong."""

from __future__ import annotations

import textwrap

import pytest

from shrinkproof.errors import SpecError
from shrinkproof.records import Condition
from shrinkproof.spec import StudySpec, load_study_spec
from shrinkproof.spec.certify import LOSSES

HEAD = """\
study: s
models: {m: "import:net:make"}
data: {split: {from: digits, select: 200, certify: 400, report: 400}}
conditions: {fog: [1, 3, 5], snow: [5]}
select: {minimize: [cost.bytes]}
"""


def load(text: str, head: str = HEAD) -> StudySpec:
    return load_study_spec(head + textwrap.dedent(text))


def problems(text: str, head: str = HEAD) -> tuple[str, ...]:
    with pytest.raises(SpecError) as caught:
        load(text, head)
    return caught.value.problems


def problem(promise: str) -> str:
    """The only problem of a promise, without its place."""
    (found,) = problems(f"certify:\n  promises:\n    - {promise}\n")
    assert found.startswith("study.yaml:8:")
    return found.split(": ", 2)[2]


def conditions(promise: str) -> list[str]:
    spec = load(f"certify: {{promises: [{promise}]}}\n")
    assert spec.certify is not None
    return [str(c) for c in spec.certify.promises[0].conditions_list(spec.conditions_list())]


def test_the_shortest_block_has_documented_defaults() -> None:
    spec = load("certify: {promises: [{error: 0.2}]}\n").certify
    assert spec is not None
    assert (spec.confidence, spec.candidates, spec.method, spec.looks) == (0.95, "front", "holm", 1)
    (promise,) = spec.promises
    assert (promise.loss, promise.limit, promise.over) == ("error", 0.2, "every")


def test_no_block_promises_nothing() -> None:
    assert load("").certify is None


def test_the_demo_and_every_loss_can_be_read() -> None:
    from shrinkproof.demo.classification import STUDY

    assert load_study_spec(STUDY).certify is not None
    for loss in LOSSES:
        extra = ", class: 3" if loss == "miss" else ""
        spec = load(f"certify: {{promises: [{{{loss}: 0.1{extra}}}]}}\n").certify
        assert spec is not None
        assert (spec.promises[0].loss, spec.promises[0].limit) == (loss, 0.1)
        assert spec.promises[0].class_ == ("3" if extra else None)


def test_excess_error_may_promise_an_improvement() -> None:
    spec = load("certify: {promises: [{excess_error: -0.01, over: clean}]}\n").certify
    assert spec is not None
    assert spec.promises[0].limit == -0.01


@pytest.mark.parametrize(
    ("promise", "expected"),
    [
        ("{error: 0.2}", ["clean", "fog:1", "fog:3", "fog:5", "snow:5"]),
        ("{error: 0.2, over: mean}", ["fog:1", "fog:3", "fog:5", "snow:5"]),
        ("{error: 0.2, up_to_severity: 3}", ["clean", "fog:1", "fog:3"]),
        ("{error: 0.2, over: mean, corruptions: [snow]}", ["snow:5"]),
        ("{error: 0.2, over: clean}", ["clean"]),
        ("{error: 0.2, over: 'fog:3'}", ["fog:3"]),
    ],
)
def test_a_promise_is_about_these_conditions(promise: str, expected: list[str]) -> None:
    assert conditions(promise) == expected


def test_without_corruptions_every_condition_is_clean() -> None:
    head = HEAD.replace("conditions: {fog: [1, 3, 5], snow: [5]}\n", "")
    spec = load("certify: {promises: [{error: 0.2}]}\n", head)
    assert spec.certify is not None
    assert spec.certify.promises[0].conditions_list(spec.conditions_list()) == (Condition(),)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("ece", "no mean over images"),
        ("calibration.ece[bins=10]", "no mean over images"),
        ("mce", "no mean over images"),
        ("robustness.mean_error", "promise error over mean"),
        ("ap", "order of all images"),
        ("selective.aurc", "order of all images"),
        ("rpc", "no mean over images"),
        ("latency_p95", "select.require"),
        ("cost.bytes", "select.require"),
        ("accuracy.top1", "write error: 0.2 for an accuracy of at least 0.8"),
        ("recall", "{miss: 0.1, class: cat}"),
        ("nll", "no upper bound"),
    ],
)
def test_what_has_no_finite_sample_test_is_refused_with_the_reason(name: str, reason: str) -> None:
    found = problem(f"{{{name!r}: 0.1}}")
    assert "cannot be certified" in found
    assert reason in found


@pytest.mark.parametrize(
    ("promise", "expected"),
    [
        ("{eror: 0.1}", "unknown field; did you mean 'error'?"),
        ("{error: 20}", "must be between 0 and 1 (excluded), got 20"),
        ("{error: 0.1, brier: 0.1}", "must limit exactly one of error, miss"),
        ("{over: clean}", "got none"),
        ("{miss: 0.1}", "miss needs the class"),
        ("{error: 0.1, class: cat}", "miss needs the class"),
        ("{error: 0.1, over: fog}", "a corruption with its severity, got 'fog'"),
        ("{error: 0.1, over: 'fog:2'}", "fog:2 is not measured by this study"),
        ("{error: 0.1, over: evry}", "unknown condition 'evry'; did you mean 'every'?"),
        ("{error: 0.1, corruptions: [frost]}", "frost is not measured by this study"),
        ("{error: 0.1, corruptions: [snw]}", "unknown condition 'snw'; did you mean 'snow'?"),
        (
            "{error: 0.1, over: mean, corruptions: [snow], up_to_severity: 4}",
            "must be about at least one condition, got none",
        ),
        ("{error: 0.1, over: clean, up_to_severity: 2}", "narrow down 'every' and 'mean'"),
        ("{error: 0.1, up_to_severity: 6}", "must be between 1 and 5, got 6"),
        ("{error: 0.1, severity: 3}", "did you mean 'up_to_severity'?"),
    ],
)
def test_every_slip_has_its_line_and_its_repair(promise: str, expected: str) -> None:
    assert expected in problem(promise)


def test_one_problem_hides_no_other() -> None:
    found = problems(
        """\
        certify:
          looks: 0
          metod: holm
          confidence: 95
          promises:
            - {ece: 0.1}
            - {error: 0.2}
            - {error: 0.2}
        """
    )
    assert [line.split(":")[1] for line in found] == ["7", "8", "9", "11", "13"]
    assert found[-1].endswith("certify.promises.2: is given twice; remove one")


def test_promises_that_differ_in_their_limit_only_are_refused() -> None:
    (found,) = problems(
        """\
        certify:
          promises:
            - {error: 0.2}
            - {miss: 0.2, class: cat}
            - {error: 0.3}
        """
    )
    assert found.endswith(
        "promises.2: is given twice, with the limits 0.2 and 0.3; keep the lower one"
    )


def test_certify_images_are_required() -> None:
    head = HEAD.replace("certify: 400, ", "")
    (found,) = problems("certify: {promises: [{error: 0.2}]}\n", head)
    assert "needs images that nothing else has used" in found


def test_the_front_needs_a_choice() -> None:
    head = HEAD.replace("select: {minimize: [cost.bytes]}\n", "")
    (found,) = problems("certify: {promises: [{error: 0.2}]}\n", head)
    assert "write 'candidates: all'" in found
    spec = load("certify: {promises: [{error: 0.2}], candidates: all}\n", head)
    assert spec.certify is not None


@pytest.mark.parametrize("block", ["certify: 3\n", "certify: {}\n", "certify: {promises: []}\n"])
def test_an_empty_block_is_a_problem(block: str) -> None:
    assert len(problems(block)) == 1
