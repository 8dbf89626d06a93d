import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shrinkproof.errors import SpecError
from shrinkproof.spec import load_study_spec
from shrinkproof.spec.recipes import RecipeSpec, full_name

HEAD = """\
study: s
models: {m: "import:net:make"}
data: {report: digits, train: digits, calibrate: digits}
recipes:
"""


def _load(text):
    return load_study_spec(HEAD + textwrap.indent(textwrap.dedent(text), "  "))


def _problems(text):
    with pytest.raises(SpecError) as caught:
        _load(text)
    return "\n".join(caught.value.problems)


def test_a_grid_makes_its_product_in_order_with_types():
    spec = _load(
        """\
        p{ratio}-{scope}:
          grid: {ratio: [0.5, 0.75], scope: [global, layer]}
          steps:
            - prune.weights: {ratio: "{ratio}", scope: "{scope}"}
            - fold
        """
    )
    recipes = spec.candidate_recipes()
    assert list(recipes) == ["p0.5-global", "p0.5-layer", "p0.75-global", "p0.75-layer"]
    prune, fold = recipes["p0.75-layer"]
    assert (prune.ratio, prune.scope, fold.name) == (0.75, "layer", "fold")


def test_a_step_may_be_a_name_or_have_no_settings():
    recipes = _load("a: {steps: [fold, {fold: }, {fold: {}}]}\n").candidate_recipes()
    assert recipes["a"][0] == recipes["a"][1] == recipes["a"][2]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "p: {grid: {r: [0.1, 0.2]}, steps: [{prune.weights: {ratio: '{r}'}}]}",
            "recipes.p.grid.r: the recipe's name must use {r}",
        ),
        (
            "p{q}: {grid: {r: [0.1]}, steps: [fold]}",
            "recipes.p{q}: the name uses {q}, which is not in grid",
        ),
        (
            "p{ratio}: {grid: {ratio: [0.1]}, steps: [{prune.weights: {ratio: '{ratoi}'}}]}",
            "steps.0.prune.weights.ratio: 'ratoi' is not in grid; did you mean 'ratio'?",
        ),
        (
            "p{r}: {grid: {r: [0.1]}, steps: [{prune.weights: {ratio: 'x{r}'}}]}",
            "a grid value must stand alone, as '{r}', got 'x{r}'",
        ),
        ("p{r}: {grid: {r: []}, steps: [fold]}", "p{r}.grid.r: must have at least 1 value"),
        ("p{r}: {grid: {r: [1, 1]}, steps: [fold]}", "must not repeat a value, got [1, 1]"),
        ("p{r}: {grid: {r: 1}, steps: [fold]}", "p{r}.grid.r: must be a list, got 1"),
        ("p{r}: {grid: {r: [[1]]}, steps: [fold]}", "p{r}.grid.r.0: must be "),
        ("p: {steps: []}", "recipes.p.steps: must have at least 1 entry, got []"),
        ("p: {}", "recipes.p.steps: is required"),
        ("p: {steps: [fold], settings: {a: 1}}", "recipes.p.settings: must be left out without u"),
        ("p: 3", "recipes.p: must be a mapping of fields, got 3"),
        ("p: {step: [fold]}", "recipes.p.step: unknown field; did you mean 'steps'?"),
        ("p: {steps: [3]}", "recipes.p.steps.0: must be text or a mapping, got 3"),
        ("p: {steps: [{fold: 3}]}", "steps.0.fold: settings must be a mapping of fields, got 3"),
        ("p: {steps: [{fold: {}, cluster: {}}]}", "one-key mapping of a name to its settings, got"),
        ("p: {steps: [fodl]}", "recipes.p.steps.0: unknown compressor 'fodl'; did you mean 'fold'"),
        ("p: {steps: [{prune.weights: {}}]}", "steps.0.prune.weights.ratio: is required"),
        ("p: {steps: [prune.weights]}", "recipes.p.steps.0.ratio: is required"),
        (
            "p: {steps: [{prune.weights: {ratio: '0.5'}}]}",
            "prune.weights.ratio: must be a number, got '0.5'",
        ),
        (
            "p: {steps: [{prune.weights: {ratio: 0.5, scope: globl}}]}",
            "scope: must be one of 'global', 'layer', got 'globl'; did you mean 'global'?",
        ),
        (
            "p: {steps: [{prune.weights: {ratio: 2.5}}]}",
            "(excluded), got 2.5. Fractions, not percent: write 0.025",
        ),
        ("baseline: {steps: [fold]}", "recipes.baseline: 'baseline' is reserved"),
        ("control.x: {steps: [fold]}", "recipes.control.x: 'control.x' is reserved"),
        ("a/b: {steps: [fold]}", "recipes.a/b: must start with a letter or digit"),
        (
            "p{r}: {grid: {r: [0.5]}, steps: [fold]}\np0.5: {steps: [fold]}",
            "recipes.p0.5: also makes a recipe 'p0.5', like 'p{r}'; rename one",
        ),
    ],
)
def test_wrong_recipes(text, expected):
    assert expected in _problems(text)


def test_settings_below_a_step_with_wrong_indentation():
    text = "p:\n  steps:\n    - prune.weights:\n      ratio: 0.5\n"
    assert "got 2 keys (prune.weights, ratio); start each step with its own '-'" in _problems(text)


def test_needed_data_are_named():
    text = """\
study: s
models: {m: "import:net:make"}
data: {report: digits}
recipes:
  a: {steps: [quantize.static]}
  b: {steps: [{finetune: {epochs: 1}}]}
"""
    with pytest.raises(SpecError) as caught:
        load_study_spec(text)
    assert caught.value.problems == (
        "study.yaml:5:15: recipes.a.steps.0: needs calibration images; add data.calibrate: "
        "{use: ..., count: 512}, or give data.split a size for 'calibrate'",
        "study.yaml:6:16: recipes.b.steps.0.finetune: needs training images; add data.train: "
        "{use: ...}, or give data.split a size for 'train'",
    )
    fixed = text.replace(
        "{report: digits}", "{split: {from: digits, train: 500, calibrate: 100, report: rest}}"
    )
    assert set(load_study_spec(fixed).candidate_recipes()) == {"a", "b"}


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(0.01, 0.9), min_size=1, max_size=4, unique=True),
    st.lists(st.integers(2, 256), min_size=1, max_size=4, unique=True),
)
def test_names_of_a_sweep_are_unique_and_show_every_value(ratios, levels):
    recipe = RecipeSpec(grid={"r": tuple(ratios), "k": tuple(levels)}, steps=("fold",))
    names = [full_name("p{r}-{k}", chosen) for chosen in recipe.combinations()]
    assert len(set(names)) == len(names) == len(ratios) * len(levels)
    assert names[0] == f"p{ratios[0]}-{levels[0]}"


SIXTEEN = "c-{variant}: {use: sixteen-variants, settings: {ratio: 0.5, finetune: {epochs: 1}}}"


def test_a_named_set_makes_the_sixteen_variants_of_the_paper():
    recipes = _load(SIXTEEN).candidate_recipes()
    names = {name: [step.name for step in steps] for name, steps in recipes.items()}
    prune, cluster = ["prune.weights"], ["fold", "cluster", "finetune"]
    assert names == {
        "c-int8": ["quantize.static"],
        "c-prune": prune,
        "c-prune+int8": [*prune, "quantize.static"],
        "c-cluster": cluster,
        "c-cluster+int8": [*cluster, "quantize.static"],
        "c-prune+cluster": prune + cluster,
        "c-prune+cluster+int8": [*prune, *cluster, "quantize.static"],
        "c-qat": ["quantize.qat"],
        "c-pqat": [*prune, "quantize.qat"],
        "c-cqat": [*cluster, "quantize.qat"],
        "c-pcqat": [*prune, *cluster, "quantize.qat"],
    }


def test_a_grid_fills_the_settings_of_a_named_set():
    recipes = _load(
        "c{k}-{variant}: {grid: {k: [8, 16]}, use: sixteen-variants, "
        "settings: {levels: '{k}', finetune: {epochs: 1}}}"
    ).candidate_recipes()
    assert len(recipes) == 22
    assert recipes["c8-cluster"][1].levels == 8


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "c: {use: sixteen-variants, settings: {finetune: {epochs: 1}}}",
            "recipes.c: the name must use {variant}",
        ),
        (
            "'{variant}': {use: sixteen-variant, settings: {finetune: {epochs: 1}}}",
            "unknown set of recipes 'sixteen-variant'; did you mean 'sixteen-variants'?",
        ),
        (
            "'{variant}': {use: sixteen-variants, settings: {finetune: {epochs: 0}}}",
            "settings.finetune.epochs: must be at least 1, got 0",
        ),
        (
            "'{variant}': {use: sixteen-variants, steps: [fold]}",
            "steps: must be left out beside use",
        ),
        (
            "'{variant}': {use: sixteen-variants, settings: {level: 3, finetune: {epochs: 1}}}",
            "settings.level: unknown field; did you mean 'levels'?",
        ),
    ],
)
def test_wrong_named_sets(text, expected):
    assert expected in _problems(text)
