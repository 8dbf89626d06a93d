"""Orders of steps that cannot work are refused early, and only those."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from shrinkproof.compressors import COMPRESSORS
from shrinkproof.compressors import recipe as recipes
from shrinkproof.compressors.order import order_problem
from shrinkproof.compressors.recipe import Recipe
from shrinkproof.errors import CompressionError, SpecError
from shrinkproof.protocols import Needs, Role
from shrinkproof.spec import load_study_spec
from shrinkproof.spec.recipe_sets import RECIPE_SETS
from shrinkproof.testing.toys import tiny_context, tiny_images, tiny_model

SETTINGS: dict[str, dict[str, Any]] = {
    "cluster": {"levels": 4, "minimum_size": 1},
    "finetune": {"epochs": 1},
    "finetune.until": {"training": {"epochs": 2}, "epoch": 1},
    "prune.channels": {"ratio": 0.5, "round_to": 1},
    "prune.weights": {"ratio": 0.5},
    "quantize.qat": {"finetune": {"epochs": 1}},
}
NAMES = sorted(COMPRESSORS)
TRAINING = ("finetune", "finetune.until", "quantize.qat")
COMPRESSING = tuple(n for n in NAMES if n not in (*TRAINING, "recalibrate"))
"""All but the training ones, which would take long, and the one that never refuses."""

STUDY = """\
study: s
models: {m: "import:net:make"}
data: {report: digits, train: digits, calibrate: digits}
recipes:
  early: {steps: [fold, {cluster: {levels: 4}}, quantize.static]}
  late{k}:
    grid: {k: [4, 8]}
    steps:
      - cluster: {levels: "{k}"}
      - {finetune: {epochs: 1}}
      - quantize.static
  twice: {steps: [quantize.weights, {quantize.weights: {format: int4}}]}
"""


def step(name: str, **settings: Any) -> Any:
    return COMPRESSORS.create(name, {**SETTINGS.get(name, {}), **settings})


def message(*steps: Any) -> str:
    problem = order_problem(steps)
    assert problem is not None
    return problem[1]


def without_batch_norms() -> nn.Module:
    layers = [layer for layer in tiny_model() if not isinstance(layer, nn.BatchNorm2d)]
    return nn.Sequential(*layers).eval()


def refusal(steps: tuple[Any, ...], model: nn.Module) -> str:
    """Return what the steps themselves say against their order when they run; empty if nothing."""
    try:
        Recipe(steps).apply(model, tiny_context(tiny_images(8)))
    except CompressionError as error:
        return str(error)
    return ""


@pytest.fixture
def no_early_check(monkeypatch):
    monkeypatch.setattr(recipes, "order_problem", lambda *_, **__: None)


@pytest.mark.parametrize("first", NAMES)
def test_every_pair_is_refused_exactly_where_running_it_fails(first, no_early_check):
    for second in NAMES:
        steps = (step(first), step(second))
        said = refusal(steps, tiny_model())
        assert bool(said) == (order_problem(steps) is not None), f"{first}, {second}: {said}"


@pytest.mark.slow
def test_pairs_without_batch_norms_are_refused_exactly_where_running_them_fails(no_early_check):
    for first, second in itertools.product(COMPRESSING, repeat=2):
        steps = (step(first), step(second))
        said = refusal(steps, without_batch_norms())
        problem = order_problem(steps, has_batch_norms=False)
        assert bool(said) == (problem is not None), f"{first}, {second}: {said}"


@pytest.mark.slow
@pytest.mark.parametrize("middle", COMPRESSING)
def test_triples_are_refused_exactly_where_running_them_fails(middle, no_early_check):
    for first, last in itertools.product(COMPRESSING, repeat=2):
        steps = (step(first), step(middle), step(last))
        said = refusal(steps, tiny_model())
        assert bool(said) == (order_problem(steps) is not None), f"{steps}: {said}"


@pytest.mark.parametrize(
    ("names", "position", "expected"),
    [
        (
            ("cluster", "prune.weights"),
            1,
            "prune.weights: weights must not be clustered yet, got cluster before it; "
            "put `prune.weights` before `cluster`",
        ),
        (
            ("fold", "quantize.static", "finetune", "prune.channels"),
            3,
            "prune.channels: weights must not be quantized yet, got quantize.static before it; "
            "put `prune.channels` before `quantize.static`",
        ),
        (
            ("quantize.weights", "quantize.static"),
            1,
            "quantize.static: weights must be quantized once, got quantize.weights before it; "
            "remove one of the two from the recipe",
        ),
        (
            ("prune.weights", "cluster", "quantize.static"),
            2,
            "quantize.static: batch norms must be folded before weights are clustered, got "
            "cluster before the folding, which scales each channel; put `fold` before `cluster`",
        ),
    ],
)
def test_step_reason_and_remedy_are_named(names, position, expected):
    assert order_problem([step(name) for name in names]) == (position, expected)


@pytest.mark.parametrize(
    "names",
    [
        ("prune.channels", "prune.weights", "fold", "cluster", "quantize.static"),
        ("prune.weights", "fold", "cluster", "finetune", "quantize.qat"),
        ("prune.weights", "prune.weights", "cluster", "finetune", "quantize.weights"),
        ("fold", "cluster", "fold", "quantize.static", "fold"),
    ],
)
def test_usual_recipes_are_in_order(names):
    assert order_problem([step(name) for name in names]) is None


def test_steps_that_may_treat_different_layers_are_left_to_their_own_checks(no_early_check):
    free = (
        (step("cluster", include=["0"]), step("prune.weights", include=["4"])),
        (step("cluster", include=["9"]), step("prune.weights", layers="conv")),
        (step("cluster", include=["9"]), step("quantize.static")),
        (step("quantize.weights", exclude=["4"]), step("cluster", include=["4"])),
    )
    for steps in free:
        assert order_problem(steps) is None
        assert refusal(steps, tiny_model()) == ""


def test_steps_that_must_share_a_layer_are_refused(no_early_check):
    bad = (
        (step("cluster", include=["0"]), step("prune.weights", layers="conv+linear")),
        (step("cluster", include=["0"]), step("reinitialize")),
        (step("cluster", include=["0"]), step("prune.weights", include=["0"])),
        (step("quantize.weights"), step("cluster", include=["4"])),
        (step("quantize.weights", layers="conv", exclude=["0"]), step("quantize.static")),
    )
    for steps in bad:
        assert order_problem(steps) is not None
        assert refusal(steps, tiny_model())


PATTERNS = st.sampled_from([("*",), ("0",), ("4",), ("9",), ("0", "9"), ("[04]",)])
TREATING = st.builds(
    lambda name, include, exclude: step(name, include=include, exclude=exclude),
    st.sampled_from(["cluster", "prune.weights", "quantize.weights"]),
    PATTERNS,
    st.sampled_from([(), ("0",), ("4",), ("9",)]),
)


@settings(max_examples=40, deadline=None)
@given(first=TREATING, second=st.one_of(TREATING, st.sampled_from(["fold", "reinitialize"])))
def test_what_works_is_never_refused(first, second):
    steps = (first, step(second) if isinstance(second, str) else second)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipes, "order_problem", lambda *_, **__: None)
        said = refusal(steps, tiny_model())
    assert said or order_problem(steps) is None


def test_recipe_refuses_before_anything_is_computed():
    class Watched:
        name: ClassVar[str] = "watched"
        version: ClassVar[int] = 1
        role: ClassVar[Role] = Role.COMPRESS
        needs = Needs.NOTHING

        def apply(self, model: nn.Module, context: Any) -> Any:
            raise AssertionError("a step ran")

    steps: tuple[Any, ...] = (Watched(), step("cluster"), step("fold"))
    with pytest.raises(CompressionError, match=r"^step 3: fold: .*put `fold` before `cluster`$"):
        Recipe(steps).apply(tiny_model(), tiny_context())


def test_order_of_a_network_without_batch_norms_is_free_to_fold_late():
    _, changes = Recipe((step("cluster"), step("quantize.static"))).apply(
        without_batch_norms(), tiny_context()
    )
    assert [change.step for change in changes] == ["cluster", "quantize.static"]


@dataclass(frozen=True)
class Plugin:
    name: str
    makes: frozenset[str] = frozenset()
    destroys: frozenset[str] = frozenset()


class Silent:
    """A step that says nothing about itself."""

    name = "silent"


def test_plugins_need_no_declaration_and_may_bring_their_own_properties():
    assert order_problem([Silent(), step("cluster"), Silent()]) is None  # type: ignore[list-item]
    ternary = Plugin("ternary", makes=frozenset({"levels", "signs"}))
    noise = Plugin("noise", destroys=frozenset({"signs"}))
    assert order_problem([noise, ternary]) is None  # type: ignore[list-item]
    assert message(ternary, noise) == (
        "noise: weights must not be given signs yet, got ternary before it; put `noise` before "
        "`ternary`"
    )
    assert "folded before weights are clustered" in message(ternary, step("fold"))


def test_study_file_is_refused_at_the_place_of_the_step():
    with pytest.raises(SpecError) as caught:
        load_study_spec(STUDY)
    late, twice = caught.value.problems
    assert late.startswith(
        "study.yaml:11:9: recipes.late{k}.steps.2: quantize.static: batch norms must be folded"
    )
    assert late.endswith("put `fold` before `cluster`")
    assert twice.startswith(
        "study.yaml:12:38: recipes.twice.steps.1.quantize.weights: quantize.weights: weights must "
        "be quantized once, got quantize.weights before it"
    )


def test_named_set_of_recipes_is_checked(monkeypatch):
    class Wrong:
        name: ClassVar[str] = "wrong"

        def recipes(self) -> dict[str, Any]:
            return {"a": ({"fold": {}},), "b": ({"cluster": {"levels": 4}}, {"fold": {}})}

    monkeypatch.setitem(RECIPE_SETS, "wrong", dataclass(Wrong))
    text = STUDY[: STUDY.index("  early")] + "  x-{variant}: {use: wrong}\n"
    with pytest.raises(SpecError, match=r"recipes\.x-\{variant\}: x-b: fold: batch norms must"):
        load_study_spec(text)
