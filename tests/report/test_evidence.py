"""The sections of evidence: every number beside what it must be compared with."""

from __future__ import annotations

import re
from dataclasses import replace

import polars as pl
import pytest
from synthetic_evidence import exhibits
from synthetic_page import PLANTS, decision_of, synthetic_page
from test_page import Reader

from shrinkproof.metrics.names import PREFIXES
from shrinkproof.report import looks as looks_module
from shrinkproof.report.page import render
from shrinkproof.report.potential import potentials

pytestmark = pytest.mark.usefixtures("empty_charts")

MINUS = "\N{MINUS SIGN}"
TITLES = (
    "1 Answer", "2 Trade-off", "3 Candidates", "4 Robustness", "5 Calibration",
    "6 What changed, image by image", "7 What the network looks at", "8 Cost and", "9 Failures",
    "10 Provenance",
)  # fmt: skip


@pytest.fixture(scope="module")
def text(html):
    return Reader(html).text


def section(text, number):
    start = text.index(TITLES[number - 1])
    end = text.index(TITLES[number]) if number < len(TITLES) else len(text)
    return text[start:end]


def without(records, *metrics):
    return records.filter(~pl.any_horizontal(pl.col("metric").str.contains(m) for m in metrics))


def bare_page():
    """Return the page of a study that has none of the evidence."""
    page = synthetic_page(reliability={}, exhibits={}, margins={})
    found = without(
        page.records, "calibration", "selective", "flips", "saliency", "_p", "recall", "robustness"
    )
    return replace(page, records=found)


def test_an_error_within_chance_is_called_so(text):
    line = section(text, 5)
    assert (
        "prune0.5 2.40 % 1.80 to 3.00 2.80 % 3.92 % no more than a calibrated model would show "
        f"p = 0.21 {MINUS}0.70 pp chance: +0.12 pp" in line
    )
    assert "more than a calibrated model would show p = 0.004" in line


def test_the_direction_of_miscalibration_is_named():
    page = synthetic_page(reliability={})
    gap = page.records.filter(
        (pl.col("metric") == "calibration.ece") & (pl.col("condition") == "clean")
    ).with_columns(
        pl.lit("calibration.confidence_gap").alias("metric"), pl.lit("none").alias("better")
    )
    found = Reader(render(replace(page, records=pl.concat([page.records, gap])))).text
    assert "more than a calibrated model would show, too sure" in found


def test_the_answer_says_what_is_chance_and_what_is_kept():
    page = synthetic_page(reliability={})
    first = section(Reader(render(page)).text, 1)
    assert (
        "Shown to be kept top-1 accuracy, clean images within 1 point (p = 0.006); "
        "top-1 accuracy, all corruptions within 1 point (p = 0.006)" in first
    )
    assert "Chance calibration error on clean images 3.30 %: more than a calibrated" in first
    other = replace(decision_of(PLANTS), chosen="resnet20/prune0.5")
    first = section(Reader(render(replace(page, decision=other))).text, 1)
    assert "Shown to be kept top" not in first.replace("Not shown to be kept top", "")
    assert "Not shown to be kept top-1 accuracy, clean images within 1 point (p = 0.80)" in first


def test_kept_is_said_only_where_the_test_says_so(text):
    lines = section(text, 6)
    assert "int8 no change shown p = 1.00 no change shown p = 1.00 kept within 1 point" in lines
    assert "prune0.7 worse p = 0.010" in lines
    tests = lines[lines.index("What tests say") : lines.index("Which classes lost")]
    assert "Holm over 12 tests" in tests
    assert not re.search(r"prune0\.7[^a-z]+worse[^a-z=]+=[^a-z]+worse[^a-z=]+=[^a-z]+kept", tests)


def test_nothing_is_kept_without_a_margin():
    found = Reader(render(synthetic_page(margins={}, reliability={}))).text
    assert "nothing is called kept" in found
    assert "kept within" not in found


def test_diagrams_have_bands_and_count_the_bins_outside(html):
    start = html.index('id="reliability0-clean"')
    drawn = html[start : html.index("</svg>", start)]
    assert drawn.count('fill="#dde4eb"') == 13
    assert re.search(r"clean images, \d+ of 13 bins outside", html)


def test_robustness_names_reference_worst_corruption_and_reasons(text):
    lines = section(text, 4)
    assert "baseline 93.4 % 92.7 to 94.1 21.2 % 20.6 to 21.8 33.9 %" in lines
    assert "gaussian noise 80.0 %" in lines
    assert "the dense networks have clean accuracies 93.4 to 93.5 %: no equal one." in lines
    assert "Corruption by corruption" in lines
    assert "noise, gaussian noise" in lines  # the curve of a group of one corruption is named


def test_controls_say_what_training_alone_did(text):
    assert (
        "Training alone, without compression, changed the mean corrupted error, all corruptions: "
        f"control.finetune10 {MINUS}0.30 pp" in section(text, 4)
    )
    said = section(text, 5)
    assert f"control.finetune10 {MINUS}0.20 pp, not credited to prune0.3, prune0.5" in said


def test_flips_stand_beside_the_class_that_lost_most(text):
    lines = section(text, 6)
    assert "prune0.7 10.20 % 9.80 to 10.60 20.40 %" in lines
    assert "class cat" in lines
    assert "Which classes lost" in lines


def test_images_hit_hardest_are_listed_by_index(text):
    assert "41 images #17 cat \N{RIGHTWARDS ARROW} deer 9 of 16" in section(text, 6)


def test_potential_of_a_group_is_that_of_its_weakest_member():
    found = potentials(exhibits(["prune0.5"])["potential"], several_models=False)
    (line,) = found.lines
    assert found.groups == ("noise", "weather")
    assert (line.clean, line.corrupted, line.groups) == ("0.5", "0.3", ("none", "0.3"))
    assert line.weakest == "gaussian noise"
    assert found.margin == "1\N{NO-BREAK SPACE}point"


def test_a_sweep_without_margin_says_so():
    item = {**exhibits([])["potential"][0], "rows": [], "margin": None, "reason": "no margin"}
    found = Reader(render(synthetic_page(exhibits={"potential": [item]}, reliability={}))).text
    assert "prune{ratio} no margin" in found


def test_controls_stand_in_the_table_of_heat_maps(text):
    lines = section(text, 7)
    said = lines.index("Yardsticks for these correlations: control.finetune10 0.97; independent")
    assert said < lines.index("randomized network lower bound")
    assert "prune0.3 0.85 0.84 to 0.86 0.83 0.82 to 0.84 0.83" in lines
    assert "8x8 places" in lines
    assert "Fisher" not in lines


def test_strips_carry_their_pictures(html):
    pictures = re.findall(r'<img src="(data:image/png;base64,[^"]+)"', html)
    assert len(pictures) == 3
    assert "img-src data:" in html
    assert "#23, cat, explained: deer; r = \N{MINUS SIGN}0.12" in html


def test_strips_stop_where_the_page_is_full(monkeypatch):
    monkeypatch.setattr(looks_module, "PICTURES", 10)
    assert "<img" not in render(synthetic_page(reliability={}))


def test_ranks_of_few_networks_are_labelled(text, html):
    assert "low power: with 2 blocks no two of 3 treatments can be told apart" in text
    assert "critical difference 2.34" in html


def test_correlations_have_their_number_and_caveat(text):
    assert (
        f"Change of calibration error (ECE) with top-1 accuracy 7 {MINUS}0.82 "
        f"({MINUS}0.97 to {MINUS}0.20)" in section(text, 5)
    )
    assert "Heat-map correlation (HCC) with top-1 accuracy 7" in section(text, 7)
    assert section(text, 7).count("Candidates are chosen, not drawn at random.") == 1


def test_what_was_not_measured_is_said_once_per_section():
    found = Reader(render(bare_page())).text
    assert "Not measured: no calibration error and no reliability diagrams" in section(found, 5)
    assert "Not measured: nothing was compared with a baseline image by image" in section(found, 6)
    assert "Not measured: no heat maps were made." in section(found, 7)


def test_numbers_with_prefixes_stay_out_of_the_further_metrics(text):
    for prefix in PREFIXES:
        assert not re.search(rf"{re.escape(prefix.text)}(accuracy|calibration|robustness)", text)
    assert "AUROC of finding errors" in section(text, 5)


def test_repeats_show_mean_and_deviation():
    page = synthetic_page(reliability={})
    top1 = page.records.filter(
        (pl.col("metric") == "accuracy.top1")
        & (pl.col("condition") == "clean")
        & (pl.col("recipe") == "prune0.5")
        & (pl.col("split") == "report")
    )
    told = pl.lit("over 3 trainings; it is about training noise").alias("reason")
    mean = top1.with_columns(pl.lit("across_repeats.accuracy.top1").alias("metric"), told)
    sd = top1.with_columns(
        pl.lit("across_repeats_sd.accuracy.top1").alias("metric"),
        pl.lit(0.004).alias("value"),
        pl.lit(None, dtype=pl.Float64).alias("low"),
        pl.lit(None, dtype=pl.Float64).alias("high"),
    )
    found = Reader(render(replace(page, records=pl.concat([page.records, mean, sd])))).text
    assert "over 3 trainings." in found
    assert "prune0.5 92.4 % 91.7 to 93.1 sd 0.4 %" in found


def test_temperatures_of_both_networks_are_shown(text):
    lines = section(text, 5)
    lines = lines[lines.index("After temperature scaling") :]
    assert "prune0.5 1.24 2.40 % 1.80 to 3.00 0.60 % 0.30 to 0.90 0.80 %" in lines
    assert "Corrupted conditions pooled" in lines


def test_a_metric_with_settings_is_the_calibration_error():
    page = synthetic_page(reliability={})
    records = page.records.with_columns(
        pl.col("metric").str.replace("calibration.ece$", "calibration.ece[bins=10]")
    )
    found = Reader(render(replace(page, records=records))).text
    assert "Calibration error (ECE), bins=10" in section(found, 5)
    assert "no more than a calibrated model would show p = 0.21" in section(found, 5)


def test_all_candidates_of_a_model_are_named_in_one_word():
    page = synthetic_page(reliability={}, exhibits={})
    other = [replace(c, key=f"vgg-{c.key}", model="vgg16") for c in page.candidates]
    twice = page.records.with_columns(pl.lit("vgg16").alias("model"))
    reason = pl.when(pl.col("status") == "undefined").then(pl.lit("another reason"))
    twice = twice.with_columns(reason.otherwise("reason").alias("reason"))
    both = pl.concat([page.records, twice.select(page.records.columns)])
    found = Reader(render(replace(page, records=both, candidates=[*page.candidates, *other]))).text
    assert "all of resnet20 mCE all corruptions" in section(found, 9)
