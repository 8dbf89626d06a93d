import subprocess
import sys
import textwrap
import time

import pytest

from shrinkproof.errors import SpecError
from shrinkproof.protocols import Better
from shrinkproof.records import CLEAN, Condition
from shrinkproof.registry import fields_of
from shrinkproof.selectors import Selector
from shrinkproof.spec import ConditionSet, StudySpec, example_study, load_study_spec

HEAD = """\
study: s
models: {m: "import:net:make"}
data: {report: digits, train: digits, calibrate: digits}
"""


def _load(text, *, head=HEAD):
    return load_study_spec(head + textwrap.dedent(text))


def _problems(text, *, head=HEAD):
    with pytest.raises(SpecError) as caught:
        load_study_spec(head + textwrap.dedent(text))
    return caught.value.problems


def _only_problem(text, *, head=HEAD):
    problems = _problems(text, head=head)
    assert len(problems) == 1, problems
    return problems[0]


def test_the_shortest_study_has_documented_defaults():
    spec = load_study_spec(HEAD)
    assert (spec.study, spec.task, spec.repeats, spec.seed) == ("s", "classification", 1, 0)
    assert (spec.controls, spec.threads, spec.select, spec.data.batch) == ("dense", 1, None, "auto")
    assert spec.measure.scores[0] == "accuracy.top1"
    assert len(spec.measure.scores) == 5
    assert (spec.measure.form, spec.measure.intervals.replicates) == ("auto", 1000)
    assert spec.measure.cost is None
    assert spec.conditions_list() == (CLEAN,)
    assert spec.candidate_recipes() == {}


def test_the_example_loads_without_problems():
    spec = load_study_spec(example_study())
    names = list(spec.candidate_recipes())
    assert names == ["prune0.3", "prune0.5", "prune0.7", "int8", "cluster16-int8"]
    assert len(spec.conditions_list()) == 7


def test_a_file_is_read_and_named(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(example_study(), "utf-8")
    assert load_study_spec(path) == load_study_spec(str(path)) == load_study_spec(example_study())
    path.write_text("studdy: x\n", "utf-8")
    with pytest.raises(SpecError, match=r"mine\.yaml:1:1: studdy: unknown field; did you mean"):
        load_study_spec(path)
    with pytest.raises(SpecError, match=r"^other:1:1: studdy"):
        load_study_spec(path, filename="other")


def test_a_file_that_cannot_be_read_says_what_to_do(tmp_path):
    with pytest.raises(SpecError, match=r"absent\.yaml: cannot be read: No such file .* init"):
        load_study_spec(tmp_path / "absent.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"study: \xe9\n")
    with pytest.raises(SpecError, match="is no UTF-8 text"):
        load_study_spec(tmp_path / "latin.yaml")


def test_a_file_that_is_no_mapping():
    with pytest.raises(SpecError, match="a study file must be a mapping, got \\['a'\\]"):
        load_study_spec("- a\n")


def test_what_is_required():
    with pytest.raises(SpecError) as caught:
        load_study_spec("seed: 1\n")
    assert caught.value.problems == (
        "study.yaml:1:1: study: is required",
        "study.yaml:1:1: models: is required",
        "study.yaml:1:1: data: is required",
    )


def test_all_problems_are_reported_at_once_in_the_order_of_the_file():
    problems = _problems(
        """\
        recipes:
          prune{ratio}:
            grid: {ratio: [0.3, 30]}
            steps:
              - prune.weights: {ratio: "{ratio}", critereon: magnitude}
          int8:
            steps:
              - quantise.static: {}
        conditions:
          fogg: [1]
        repeats: 0
        seed: x
        threds: 1
        """
    )
    assert problems == (
        "study.yaml:8:32: recipes.prune{ratio}.steps.0.prune.weights.ratio: must be between 0 and "
        "1 (excluded), got 30. Fractions, not percent: write 0.30",
        "study.yaml:8:43: recipes.prune{ratio}.steps.0.prune.weights.critereon: unknown field; "
        "did you mean 'criterion'?",
        "study.yaml:11:9: recipes.int8.steps.0: unknown compressor 'quantise.static'; did you "
        "mean 'quantize.static' or 'quantize.qat'?",
        "study.yaml:13:3: conditions.fogg: unknown corruption; did you mean 'fog'?",
        "study.yaml:14:10: repeats: must be at least 1, got 0",
        "study.yaml:15:7: seed: must be a whole number, got 'x'",
        "study.yaml:16:1: threds: unknown field; did you mean 'threads'?",
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seed: 1.5", "seed: must be a whole number, got 1.5"),
        ("seed: true", "seed: must be a whole number, got true"),
        ("seed: -1", "seed: must be at least 0, got -1"),
        ("controls: some", "controls: must be one of 'dense', 'all', 'none', got 'some'"),
        ("controls: non", "'dense', 'all', 'none', got 'non'; did you mean 'none'"),
        ("task: detecting", "task: must be one of 'classification', 'detection', got 'detecting'"),
        ("measure: 3", "measure: must be a mapping of fields, got 3"),
        ("measure: {form: twins}", "must be one of 'auto', 'twin', 'artifact', got 'twins'"),
        ("measure: {scores: accuracy.top1}", "scores: must be a list, got 'accuracy.top1'"),
        ("measure: {scores: []}", "measure.scores: must have at least 1 entry, got []"),
        ("measure: {scores: [accuracy.top]}", "unknown metric 'accuracy.top'; did you mean"),
        (
            "measure: {scores: [accuracy.top1, accuracy.top1]}",
            "study.yaml:4:35: measure.scores.1: is given twice: 'accuracy.top1'; remove one",
        ),
        ("measure: {cost: {latency: {repeats: 5}}}", "repeats: must be at least 20, got 5"),
        ("measure: {intervals: {replicates: 10}}", "replicates: must be at least 100, got 10"),
        ("recipes: []", "recipes: must be a mapping, got []"),
        ("conditions: {fog: 3}", "conditions.fog: must be a list of severities, 1 to 5, got 3;"),
        ("conditions: {fog: []}", "conditions.fog: must have at least one severity"),
        ("conditions: {fog: [6]}", "conditions.fog.0: must be between 1 and 5, got 6"),
        ("conditions: {fog: ['1']}", "conditions.fog.0: must be a whole number, got '1'"),
        ("conditions: {clean: [1]}", "conditions.clean: is always measured; remove it"),
        ("conditions: {x: {use: quick-fiv}}", "unknown set of corruptions 'quick-fiv'; did you"),
        ("conditions: {x: {severities: [1]}}", "conditions.x.use: is required"),
    ],
)
def test_one_wrong_value_gives_one_line(text, expected):
    assert expected in _only_problem(text + "\n")


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("study: a/b\nmodels: {m: 'cifar:resnet20'}\ndata: {report: digits}\n", "study: must"),
        ("study: s\nmodels: {a b: 'cifar:resnet20'}\ndata: {report: digits}\n", "models.a b: must"),
        ("study: s\nmodels: {}\ndata: {report: digits}\n", "models: must name at least one model"),
        ("study: s\nmodels: {m: resnet}\ndata: {report: digits}\n", "must be a reference, 'scheme"),
        (
            "study: s\nmodels: {m: 'tim:x'}\ndata: {report: digits}\n",
            "study.yaml:2:13: models.m: unknown model source 'tim'; did you mean 'timm'?",
        ),
        (
            "study: s\nmodels: {m: 'checkpoint:x.pt'}\ndata: {report: digits}\n",
            "study.yaml:2:10: models.m: a checkpoint needs arch",
        ),
        (
            "study: s\nmodels: {m: {use: 'timm:x', clases: 2}}\ndata: {report: digits}\n",
            "models.m.clases: unknown field; did you mean 'classes'?",
        ),
        (
            "study: s\nmodels: {m: {use: 'timm:x', classes: 1}}\ndata: {report: digits}\n",
            "models.m.classes: must be at least 2, got 1",
        ),
        (
            "study: s\nmodels: {m: 'timm:x'}\ndata: {report: digit}\n",
            "data.report: unknown data source 'digit'; did you mean 'digits'?",
        ),
        (
            "study: s\nmodels: {m: 'timm:x'}\ndata: {split: {from: digit, report: rest}}\n",
            "study.yaml:3:22: data.split.from: unknown data source 'digit'",
        ),
        (
            "study: s\nmodels: {m: 'timm:x'}\ndata: {report: {use: digits, cuont: 3}}\n",
            "data.report.cuont: unknown field; did you mean 'count'?",
        ),
        (
            "study: s\nmodels: {m: 'timm:x'}\ndata: {report: digits, preset: cifr}\n",
            "data.preset: unknown preset 'cifr'; did you mean 'cifar'?",
        ),
        (
            "study: s\nmodels: {m: 'timm:x'}\ndata: {train: digits}\n",
            "data: must give images to measure on; add data.report",
        ),
        (
            "study: s\nmodels: {m: 'timm:x'}\ndata: {report: digits, batch: 0}\n",
            "data.batch: must be a number of images of at least 1, or 'auto', got 0",
        ),
    ],
)
def test_models_and_data(head, expected):
    assert expected in _only_problem("", head=head)


def test_the_batch_may_be_a_number_or_the_word_auto():
    head = "study: s\nmodels: {m: 'timm:x'}\ndata: {report: digits, batch: BATCH}\n"
    assert load_study_spec(head.replace("BATCH", "auto")).data.batch == "auto"
    assert load_study_spec(head.replace("BATCH", "32")).data.batch == 32


def test_conditions_keep_the_order_of_the_file_and_appear_once():
    spec = _load("conditions: {x: {use: quick-five, severities: [2]}, fog: [5, 2, 5]}\n")
    assert spec.conditions_list() == (
        CLEAN,
        Condition("gaussian_noise", 2),
        Condition("defocus_blur", 2),
        Condition("fog", 2),
        Condition("contrast", 2),
        Condition("jpeg_compression", 2),
        Condition("fog", 5),
    )
    assert isinstance(spec.conditions["x"], ConditionSet)


def test_the_spec_is_plain_json_and_can_be_built_in_python():
    spec = load_study_spec(example_study())
    assert fields_of(spec)["study"] == "my-study"
    again = StudySpec(**{name: getattr(spec, name) for name in fields_of(spec)})
    assert again == spec


SELECT = """\
conditions: {fog: [1, 3]}
measure: {scores: [accuracy.top1, calibration.ece]}
"""


@pytest.mark.parametrize(
    ("select", "expected"),
    [
        ("minimize: [foo]", "select.minimize.0: must be 'metric', 'metric@condition' or"),
        ("minimize: [calibration.eces@clean]", "unknown metric 'calibration.eces'; did you mean"),
        ("minimize: [calibration.ece]", "calibration.ece needs a condition, for example"),
        ("minimize: [cost.bytes@clean]", "cost.bytes has no condition; write it alone, got"),
        ("minimize: ['calibration.ece@fog:2']", "fog:2 is not measured by this study; add it"),
        ("minimize: ['calibration.ece@contrast']", "contrast is not measured by this study"),
        ("minimize: ['calibration.ece@foggy']", "unknown condition 'foggy'; did you mean 'fog'"),
        ("minimize: ['calibration.ece@clean:1']", "clean has no severity, got"),
        ("minimize: ['accuracy.nll@clean']", "accuracy.nll is not measured by this study"),
        ("minimize: ['accuracy.top1@clean']", "is better when higher; put it under 'maximize'"),
        ("maximize: [cost.bytes]", "cost.bytes is better when lower; put it under 'minimize'"),
        ("minimize: [calibration.temperature]", "has no better direction and cannot be an objec"),
        ("minimize: [cost.latency_p95]", "not measured by this study; add measure.cost.latency"),
        ("minimize: [cost.bytes, cost.bytes]", "is an objective twice: 'cost.bytes'; remove one"),
        ("minimize: [robustness.mce]", "all 15 standard corruptions at severities 1 to 5; missing"),
        ("minimize: [robustness.mce]", "shot_noise"),
        ("minimize: [robustness.mce]", "fog at 2, 4, 5"),
        ("require: ['cost.bytes <= 1']", "select: needs at least one objective; add minimize"),
        ("minimize: [cost.bytes], require: ['cost.bytes = 1']", "with op one of >= <= > <, got"),
        ("minimize: [cost.bytes], require: ['cost.bytes > x']", "must end in a number, got 'x'"),
        ("minimize: [cost.bytes], require: ['cost.byte > 1']", "unknown metric 'cost.byte'; did"),
        ("minimize: [cost.bytes], rule: kne", "must be one of 'knee', 'lexicographic', got 'kne'"),
        ("minimise: [cost.bytes], minimize: [cost.bytes]", "unknown field; did you mean 'minimi"),
        ("minimize: [robustness.relative_mce]", "robustness.relative_mce needs all 15 standard"),
        ("maximize: ['accuracy.top1@pooled']", "only calibration.ece is pooled, got"),
        ("minimize: ['scaled.calibration.ece@clean']", "cannot choose among candidates; remove it"),
        ("maximize: ['accuracy.recall@clean']", "has one value per class; write accuracy.recall{"),
        ("maximize: ['accuracy.recall{class=3}@fog']", "for all corrupted conditions; write accur"),
        ("maximize: ['accuracy.top1{class=3}@clean']", "only accuracy.recall is computed class by"),
        ("maximize: ['accuracy.top1{night=1}@clean']", "unknown column 'night' of the data"),
        ("maximize: ['robustness.retention{a=1}']", "only metrics of measure.scores are computed"),
        ("minimize: ['cost.bytes{a=1}']", "only metrics of measure.scores are computed for parts"),
        ("minimize: ['calibration.ece[bins=15]@clean']", "is not measured by this study"),
    ],
)
def test_selection_names_what_exists(select, expected):
    assert expected in _only_problem(f"{SELECT}select: {{{select}}}\n")


def test_rules_may_be_about_a_class_or_a_part_of_the_images():
    select = (
        "select: {minimize: [cost.bytes], require: ['accuracy.recall{class=3}@clean >= 0.9', "
        "'accuracy.recall{class=3}@corrupted >= 0.5', 'accuracy.top1{light=night}@fog:1 > 0.5']}\n"
    )
    head = HEAD.replace("{report: digits", "{report: {use: digits, slices: [light]}")
    assert head != HEAD
    rules = _load(SELECT + select, head=head).select.constraints()
    assert [rule.selector.part for rule in rules] == ["class=3", "class=3", "light=night"]


def test_numbers_of_the_printed_images_cannot_choose_on_others():
    select = (
        "select: {minimize: [cost.bytes], require: ['null_p.calibration.ece@clean > 0.05', "
        "'change.robustness.error@weather <= 0.1']}\n"
    )
    assert _load(SELECT + select).select is not None
    apart = HEAD.replace("{report: digits", "{select: digits, report: digits")
    assert "computed on the images that are printed" in _only_problem(SELECT + select, head=apart)


@pytest.mark.parametrize(
    ("measure", "expected"),
    [
        ("margins: {accuracy.topl: 0.01}", "unknown metric 'accuracy.topl'; did you mean"),
        ("margins: {calibration.temperature: 1}", "has no better direction, so it cannot be kept"),
        ("margins: {accuracy.worst_class: 0.01}", "is not measured by this study; add it"),
        (
            "scores: [accuracy.top1, 'calibration.ece[bins=15]']",
            "must be written 'calibration.ece', got 'calibration.ece[bins=15]': the same metric",
        ),
    ],
)
def test_what_is_measured_has_one_name_and_margins_are_about_it(measure, expected):
    assert expected in _only_problem(f"measure: {{{measure}}}\n")


def test_margins_of_derived_numbers_are_allowed():
    spec = _load("measure: {margins: {robustness.mean_error: 0.01, accuracy.top1: 0.02}}\n")
    assert set(spec.measure.margins) == {"robustness.mean_error", "accuracy.top1"}


def test_corrupted_needs_corruptions():
    select = "select: {{minimize: ['{}']}}\n"
    assert "measures no corruptions" in _only_problem(select.format("calibration.ece@corrupted"))
    assert "needs corruptions" in _only_problem(select.format("robustness.mean_error"))


def test_a_good_selection_is_parsed():
    spec = _load(
        SELECT + "select: {minimize: ['calibration.ece@fog:3', cost.bytes, robustness.mean_error],"
        " maximize: ['accuracy.top1@corrupted'], require: ['accuracy.top1@fog >= 0.5']}\n"
    )
    assert spec.select is not None
    assert spec.select.objectives() == (
        (Selector("calibration.ece", "fog", 3), Better.LOWER),
        (Selector("cost.bytes"), Better.LOWER),
        (Selector("robustness.mean_error"), Better.LOWER),
        (Selector("accuracy.top1", "corrupted"), Better.HIGHER),
    )
    (constraint,) = spec.select.constraints()
    assert str(constraint) == "accuracy.top1@fog >= 0.5"


def test_wrong_conditions_do_not_hide_a_wrong_selection():
    problems = _problems("conditions: {fgo: [1]}\nselect: {minimize: [cost.byte]}\n")
    assert len(problems) == 2


def test_checking_100_cells_is_fast_and_needs_no_torch():
    code = """
import sys, pathlib
from shrinkproof.spec import load_study_spec, json_schema, example_study
spec = load_study_spec(pathlib.Path(sys.argv[1]))
assert len(spec.candidate_recipes()) * len(spec.conditions_list()) >= 100
json_schema(); example_study()
for heavy in ("torch", "torchvision", "onnxruntime", "polars", "altair", "sklearn"):
    assert heavy not in sys.modules, heavy
"""
    path = HEAD + "recipes:\n  p{r}:\n    grid: {r: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]}\n"
    path += "    steps: [{prune.weights: {ratio: '{r}'}}]\n"
    path += "conditions: {x: {use: quick-five, severities: [1, 3, 5]}}\n"
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, "/dev/stdin"],
        input=path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # The budget is one second on an idle core; the limit allows for a shared machine.
    assert time.perf_counter() - start < 5
