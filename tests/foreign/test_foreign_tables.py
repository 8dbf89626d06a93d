"""Tables of foreign results: what is read, what is refused with its line, what a run says then."""

from __future__ import annotations

import gzip
import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

from shrinkproof.errors import DataError, ShrinkproofError, UsageError
from shrinkproof.foreign import import_results
from shrinkproof.metrics.references import Reference, mce, relative_mce
from shrinkproof.records import CLEAN, STANDARD_15, Condition
from shrinkproof.results import Results
from shrinkproof.selectors import Selector
from shrinkproof.study.scoring import rescore

from .foreign_tables import HEADER, conditions, grown, rows, summary, write


def number(results: Results, label: str, text: str, split: str = "report"):
    return results.numbers.find(label, split, Selector.parse(text))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return conditions(tmp_path / "conditions.csv")


def test_errors_become_accuracies_under_each_condition(table, tmp_path):
    results = import_results([table], tmp_path / "run")
    assert [c.label for c in results.candidates] == ["cifar10-net/baseline", "cifar10-net/int8"]
    assert [c.role for c in results.candidates] == ["baseline", "recipe"]
    assert len(results.spec.conditions_list()) == 76
    found = number(results, "cifar10-net/int8", "accuracy.top1@fog:2")
    assert found.value == pytest.approx(1 - (0.12 + 0.12 + 0.001 * STANDARD_15.index("fog")))
    assert (found.low, found.high) == (None, None)
    assert found.reason == "conditions.csv, measured elsewhere; no per-image data"


def test_records_are_measured_and_lead_to_the_file(table, tmp_path):
    results = import_results([table], tmp_path / "run")
    measured = [record for record in results.records if record.evaluator == "scores"]
    assert {record.basis for record in measured} == {"measured"}
    assert {record.interval for record in measured} == {""}
    (environment,) = {record.environment for record in measured}
    (file,) = results.store.environments()[environment]["files"]
    assert file == {
        "file": "conditions.csv",
        "layout": "conditions",
        "sha256": hashlib.sha256(table.read_bytes()).hexdigest(),
    }


def test_mce_is_that_of_the_same_code_on_the_same_rates(table, tmp_path):
    results = import_results([table], tmp_path / "run")

    def rates(error):
        found = {CLEAN: np.array([error("clean", 0)])}
        for name in STANDARD_15:
            for severity in range(1, 6):
                found[Condition(name, severity)] = np.array([error(name, severity)])
        return found

    own, base = rates(grown(0.12, 0.06)), Reference("x", errors=rates(grown(0.1, 0.05)))
    for text, compute in (("robustness.mce", mce), ("robustness.relative_mce", relative_mce)):
        found = number(results, "cifar10-net/int8", text)
        assert found.value == pytest.approx(compute(own, base), abs=1e-12)
        assert number(results, "cifar10-net/baseline", text).value == pytest.approx(1)


def test_two_tables_are_joined(table, tmp_path):
    results = import_results([table, summary(tmp_path / "summary.csv")], tmp_path / "run")
    label = "cifar10-net/int8"
    assert number(results, label, "cost.compression_ratio_zip").value == 4
    assert number(results, label, "cost.bytes_zip").value == 2 * 2**20
    assert number(results, label, "cost.latency_p95").value == 0.25e-3
    assert number(results, label, "foreign.mce").value == 1.203
    assert number(results, label, "foreign.accuracy").value == 0.9
    assert number(results, label, "accuracy.top1@clean").value == pytest.approx(0.88)
    assert [str(o) for o in results.objectives] == [
        "minimize robustness.mce",
        "maximize cost.compression_ratio_zip",
        "maximize accuracy.top1@clean",
    ]
    assert any("clean accuracy is 88.00 % in conditions.csv" in note for note in results.caveats)
    assert any("0 of 2" in n or "1 of 2" in n for n in results.caveats if "foreign.mce" in n)


def test_a_summary_alone_gives_accuracy_and_costs(tmp_path):
    results = import_results([summary(tmp_path / "summary.csv")], tmp_path / "run")
    assert number(results, "cifar10-net/int8", "accuracy.top1@clean").value == 0.9
    assert results.decision.front == ("cifar10-net/int8",)


@pytest.mark.slow
def test_a_reader_of_runs_reads_it(table, tmp_path):
    import_results([table, summary(tmp_path / "summary.csv")], tmp_path / "run")
    results = Results.load(tmp_path / "run")
    assert results.progress == {
        "candidates": 2, "prepared": 2, "cells": 158, "done": 158, "failed": 0, "missing": 0,
    }  # fmt: skip
    assert results.decision.chosen
    assert results.report().stat().st_size > 10_000
    assert not {r.metric for r in results.records if r.metric.startswith("calibration.")}


def test_there_is_nothing_to_score(table, tmp_path):
    import_results([table], tmp_path / "run")
    before = Results.load(tmp_path / "run").records
    assert rescore(tmp_path / "run").records == before
    with pytest.raises(UsageError, match="measured elsewhere"):
        rescore(tmp_path / "run", add=["calibration.ece"])
    assert Results.load(tmp_path / "run").records == before


def test_order_case_separator_and_names_of_columns_do_not_matter(tmp_path):
    plain = import_results([conditions(tmp_path / "conditions.csv")], tmp_path / "plain")
    lines = (tmp_path / "conditions.csv").read_text().splitlines()
    shuffled = [";".join(reversed(line.replace(".", ",").split(","))) for line in [lines[0]]]
    for line in lines[1:]:
        cells = line.split(",")
        cells[-1] = cells[-1].replace(".", ",")
        shuffled.append(";".join(reversed(cells)))
    shuffled[0] = "Top1 error;Severity;Corruption;Group;Technique;Network;Data set"
    other = tmp_path / "other.csv"
    other.write_bytes(("\ufeff" + "\r\n".join(shuffled)).encode())
    found = import_results([other], tmp_path / "found")
    for text in ("accuracy.top1@clean", "robustness.mce", "accuracy.top1@snow:4"):
        a, b = (number(r, "cifar10-net/int8", text).value for r in (plain, found))
        assert a == pytest.approx(b, abs=1e-12)


def test_percent_is_recognized_by_all_values_or_by_the_header(table, tmp_path):
    lines = table.read_text().splitlines()

    def percent(line: str) -> str:
        head, _, value = line.rpartition(",")
        return f"{head},{100 * float(value):.6g}"

    values = [percent(line) for line in lines[1:]]
    for header in (HEADER, HEADER + "_percent"):
        path = write(tmp_path / "percent.csv", values, header)
        results = import_results([path], tmp_path / "run")
        found = number(results, "cifar10-net/int8", "accuracy.top1@fog:2").value
        assert found == pytest.approx(1 - 0.249)


def test_accuracies_serve_as_well_as_errors(table, tmp_path):
    lines = table.read_text().splitlines()
    turned = []
    for line in lines[1:]:
        head, _, value = line.rpartition(",")
        turned.append(f"{head},{1 - float(value):.6g}")
    path = write(tmp_path / "accuracies.csv", turned, HEADER.replace("error", "accuracy"))
    results = import_results([path], tmp_path / "run")
    assert number(results, "cifar10-net/int8", "accuracy.top1@clean").value == pytest.approx(0.88)


def test_columns_and_corruptions_are_mapped(table, tmp_path):
    text = table.read_text().replace("fog", "mist").replace(HEADER, HEADER.replace("error", "e1"))
    theirs = tmp_path / "theirs.csv"
    theirs.write_text(text)
    words = tmp_path / "words.yaml"
    words.write_text("e1: error\n")
    results = import_results([theirs], tmp_path / "run", mapping=["mist=fog", str(words)])
    assert number(results, "cifar10-net/int8", "robustness.mce").value is not None


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        (["error"], "must be theirs=ours or a YAML file, got 'error'"),
        (["no=error"], "'no' must be a column, got none; found conditions.csv: dataset, model"),
        (["error=mistakes"], "must name one of our columns"),
        (["error=cost.size"], "must be a metric of shrinkproof, got an unknown name"),
        (["error=cost.bytes:ms"], "must be a unit of bytes, got 'ms'"),
        (["error=error", "error=accuracy"], "must be mapped once"),
    ],
)
def test_wrong_mappings_are_explained(table, tmp_path, mapping, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        import_results([table], tmp_path / "run", mapping=mapping)
    assert not (tmp_path / "run").exists()


def test_an_unknown_header_lists_what_is_known(tmp_path):
    path = write(tmp_path / "odd.csv", ["a,1,2"], "who,x,y")
    with pytest.raises(DataError) as caught:
        import_results([path], tmp_path / "run")
    text = str(caught.value)
    assert text.startswith("odd.csv:1: the header must be one of the known layouts, got who, x, y.")
    for word in ("conditions:", "summary:", "tidy:", "--mapping network=model"):
        assert word in text


CELL = "cifar10,net,int8,any,snow,3,{}"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (CELL.format("much"), "bad.csv:154: error must be a finite number, got 'much'"),
        (CELL.format("nan"), "bad.csv:154: error must be a finite number, got 'nan'"),
        (CELL.format(""), "bad.csv:154: error must be a number, got an empty cell"),
        (CELL.format("11.58"), "bad.csv:154: error must be fractions (0 to 1) in all rows or"),
        (CELL.format("-0.1"), "bad.csv:154: error must be 0 to 1"),
        (CELL.format("0.1"), "accuracy.top1 of net, int8 under snow:3 must be given once, got it"),
        ("cifar10,net,int8,any,snow,7,0.1", "bad.csv:154: severity must be 1 to 5, and 0 only for"),
        ("cifar10,net,int8,any,clean,2,0.1", "bad.csv:154: severity must be 1 to 5, and 0 only"),
        ("cifar10,net,int8,any,rain,1,0.1", "bad.csv:154: unknown corruption 'rain'"),
        ("cifar10,net,,any,snow,3,0.1", "bad.csv:154: variant must not be empty"),
        ("cifar10,net,int8,any,snow,3", "bad.csv:154: must have 7 cells as the header, got 6"),
        ("cifar10,lost,int8,any,snow,3,0.1", "cifar10-lost: must have a variant 'original'"),
    ],
)
def test_bad_cells_are_refused_with_their_line(table, tmp_path, line, message):
    bad = write(tmp_path / "bad.csv", [*table.read_text().splitlines()[1:], line])
    with pytest.raises(DataError, match=re.escape(message)):
        import_results([bad], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_stated_scale_settles_mixed_values(tmp_path):
    lines = rows("c", "net", "original", lambda name, s: 0.5 if name == "fog" else 10.0 + s)
    path = write(tmp_path / "low.csv", lines)
    with pytest.raises(DataError, match=r"low\.csv:48: error must be fractions"):
        import_results([path], tmp_path / "run")
    results = import_results([path], tmp_path / "run", scale="percent")
    assert number(results, "c-net/baseline", "accuracy.top1@fog:1").value == 0.995


def test_a_missing_corruption_makes_mce_undefined_and_says_which(tmp_path):
    some = [name for name in STANDARD_15 if name != "fog"]
    path = write(
        tmp_path / "part.csv",
        [
            *rows("c", "net", "original", grown(0.1, 0.05)),
            *rows("c", "net", "int8", grown(0.1, 0.06), some),
        ],
    )
    results = import_results([path], tmp_path / "run")
    found = number(results, "c-net/int8", "robustness.mce")
    assert found.value is None
    assert "mCE needs all 15 corruptions" in found.reason
    assert "fog is missing" in found.reason
    assert results.decision.undefined.keys() == {"c-net/int8"}


def test_a_table_without_all_corruptions_is_compared_by_mean_error(tmp_path):
    lines = [
        *rows("c", "net", "original", grown(0.1, 0.05), ["fog"]),
        *rows("c", "net", "int8", grown(0.1, 0.06), ["fog"]),
    ]
    results = import_results([write(tmp_path / "few.csv", lines)], tmp_path / "run")
    assert next(str(o.selector) for o in results.objectives) == "robustness.mean_error"
    assert number(results, "c-net/int8", "robustness.mean_error").value == pytest.approx(0.289)


def test_data_sets_are_kept_apart(tmp_path):
    one, two = grown(0.1, 0.05), grown(0.3, 0.08)
    lines = [
        *rows("cifar10", "net", "original", one),
        *rows("cifar10", "net", "int8", grown(0.1, 0.06)),
        *rows("cifar100", "net", "original", two),
        *rows("cifar100", "net", "int8", grown(0.3, 0.09)),
    ]
    path = write(tmp_path / "both.csv", lines)
    both = import_results([path], tmp_path / "both")
    assert any("several data sets (cifar10, cifar100)" in note for note in both.caveats)
    alone = import_results([path], tmp_path / "alone", dataset="cifar100")
    assert {c.model for c in alone.candidates} == {"cifar100-net"}
    for label in ("cifar100-net/int8", "cifar100-net/baseline"):
        a, b = (number(results, label, "robustness.mce").value for results in (both, alone))
        assert a == b
    with pytest.raises(DataError, match="must be one of cifar10, cifar100, got 'imagenet'"):
        import_results([path], tmp_path / "none", dataset="imagenet")


def test_another_variant_can_be_the_baseline(tmp_path):
    lines = rows("c", "net", "fp32", grown(0.1, 0.05)) + rows("c", "net", "q 8/8", grown(0.1, 0.06))
    path = write(tmp_path / "t.csv", lines)
    with pytest.raises(DataError, match="got fp32, q 8/8; name it with --baseline"):
        import_results([path], tmp_path / "run")
    results = import_results([path], tmp_path / "run", baseline="fp32")
    assert [c.label for c in results.candidates] == ["c-net/baseline", "c-net/q-8-8"]


def test_variants_whose_names_become_equal_are_refused(tmp_path):
    lines = rows("c", "net", "original", grown(0.1, 0.05))
    lines += rows("c", "net", "a b", grown(0.1, 0.05)) + rows("c", "net", "a/b", grown(0.1, 0.05))
    with pytest.raises(DataError, match="must have different names, got c-net/a-b for both"):
        import_results([write(tmp_path / "t.csv", lines)], tmp_path / "run")


TIDY = "model,recipe,condition,metric,value,low,high,count,unit"


def test_tidy_tables_hold_any_metric(tmp_path):
    lines = [
        "net,baseline,clean,accuracy.top1,90,89,91,10000,percent",
        "net,baseline,fog:3,error,0.2,0.19,0.22,10000,",
        "net,baseline,clean,calibration.ece,0.03,,,10000,fraction",
        "net,baseline,,cost.bytes,2,,,,MiB",
        "net,baseline,,foreign.energy,3,,,,",
        "net,int8,clean,accuracy.top1,0.88,,,10000,fraction",
        "net,int8,fog:3,error,0.25,,,10000,",
    ]
    results = import_results([write(tmp_path / "tidy.csv", lines, TIDY)], tmp_path / "run")
    found = number(results, "net/baseline", "accuracy.top1@clean")
    assert (found.value, found.low, found.high, found.count) == (0.9, 0.89, 0.91, 10000)
    found = number(results, "net/baseline", "accuracy.top1@fog:3")
    assert (found.value, found.low, found.high) == (0.8, 0.78, 0.81)
    assert number(results, "net/baseline", "calibration.ece@clean").value == 0.03
    assert number(results, "net/baseline", "cost.bytes").value == 2**21
    assert number(results, "net/baseline", "foreign.energy").value == 3
    assert number(results, "net/int8", "robustness.mean_error").value == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("net,int8,,accuracy.top1,0.9,,,,", "t.csv:3: accuracy.top1 must have a condition"),
        ("net,int8,clean,accuracy.top1,90,,,,", "t.csv:3: value must be 0 to 1"),
        ("net,int8,clean,speed,9,,,,", "t.csv:3: speed: must be a metric"),
        ("net,int8,clean,robustness.mce,1,,,,", "keep a published one as foreign.mce"),
        ("net,int8,clean,change.accuracy.top1,1,,,,", "must be computed here"),
        ("net,int8,clean,accuracy.top1,,,,,", "t.csv:3: value must be a number"),
        ("net,int8,clean,accuracy.top1,1,,,,lightyears", "must be one of percent"),
    ],
)
def test_tidy_tables_are_checked(tmp_path, line, message):
    path = write(tmp_path / "t.csv", ["net,baseline,clean,error,0.1,,,,", line], TIDY)
    with pytest.raises(DataError, match=re.escape(message)):
        import_results([path], tmp_path / "run")


def test_a_column_of_bytes_must_state_its_unit(tmp_path):
    path = write(tmp_path / "s.csv", ["net,original,9"], "model,variant,zip")
    with pytest.raises(DataError, match="zip must state its unit"):
        import_results([path], tmp_path / "run")
    results = import_results([path], tmp_path / "run", mapping=["zip=cost.bytes_zip:kB"])
    assert number(results, "net/baseline", "cost.bytes_zip").value == 9000


def test_an_import_replaces_an_import_but_no_run(table, tmp_path):
    import_results([table, summary(tmp_path / "summary.csv")], tmp_path / "run")
    results = import_results([table], tmp_path / "run")
    assert results.progress["cells"] == len(list((tmp_path / "run" / "cells").iterdir())) == 152
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "plan.jsonl").touch()
    with pytest.raises(UsageError, match="must be a new directory or an earlier import"):
        import_results([table], tmp_path / "other")


def test_an_empty_file_and_no_file_are_explained(tmp_path):
    (tmp_path / "e.csv").write_text("")
    (tmp_path / "h.csv").write_text(HEADER + "\n")
    for name in ("e.csv", "h.csv", "none.csv"):
        with pytest.raises(ShrinkproofError, match=name):
            import_results([tmp_path / name], tmp_path / "run")
    with pytest.raises(UsageError, match="at least one CSV file"):
        import_results([], tmp_path / "run")


def test_names_of_two_tables_may_be_spelled_differently(table, tmp_path):
    other = summary(tmp_path / "summary.csv")
    text = other.read_text().replace("cifar10", "CIFAR-10").replace("original", "Original")
    other.write_text(text.replace(",net,", ",Net,").replace("int8", "INT 8"))
    results = import_results([table, other], tmp_path / "run")
    assert [c.label for c in results.candidates] == ["cifar10-net/baseline", "cifar10-net/int8"]
    assert number(results, "cifar10-net/int8", "robustness.mce").value is not None
    assert number(results, "cifar10-net/int8", "cost.compression_ratio_zip").value == 4
    assert "variant 'INT 8' of summary.csv is taken for 'int8' of conditions.csv" in results.caveats


def test_candidates_of_one_table_alone_are_named(table, tmp_path):
    other = summary(tmp_path / "summary.csv")
    other.write_text(other.read_text().replace("int8", "int4"))
    results = import_results([table, other], tmp_path / "run")
    assert "no errors under corruption of cifar10-net/int4" in results.caveats
    assert "no costs of cifar10-net/int8" in results.caveats


def test_percent_signs_say_the_unit(tmp_path):
    plain = import_results([conditions(tmp_path / "conditions.csv")], tmp_path / "plain")
    lines = (tmp_path / "conditions.csv").read_text().splitlines()[1:]
    cells = [line.rpartition(",") for line in lines]
    signed = [f"{head},{100 * float(value):.6g}%" for head, _, value in cells]
    found = import_results([write(tmp_path / "signed.csv", signed)], tmp_path / "found")
    a, b = (number(r, "cifar10-net/int8", "robustness.mce").value for r in (plain, found))
    assert a == pytest.approx(b, abs=1e-12)


def test_blank_lines_may_stand_above_the_header(table, tmp_path):
    table.write_text("\n" + table.read_text().replace(",", ";"))
    results = import_results([table], tmp_path / "run")
    assert number(results, "cifar10-net/int8", "robustness.mce").value is not None


def test_a_comma_is_no_decimal_comma_beside_decimal_points(tmp_path):
    lines = ["net;original;0.9;12,345", "net;int8;0.8;9,876"]
    path = write(tmp_path / "s.csv", lines, "model;variant;accuracy;zip_kib")
    with pytest.raises(DataError, match=r"s\.csv:2: zip_kib must be a finite number, got '12,345'"):
        import_results([path], tmp_path / "run")


def test_columns_that_are_not_read_are_named_and_errors_win(table, tmp_path):
    lines = [f"0.5,{line},x" for line in table.read_text().splitlines()[1:]]
    path = write(tmp_path / "more.csv", lines, f"accuracy,{HEADER},remark")
    results = import_results([path], tmp_path / "run")
    assert number(results, "cifar10-net/int8", "accuracy.top1@clean").value == 0.88
    assert "more.csv: accuracy, remark not read" in results.caveats


def test_a_scale_counts_for_tidy_tables_without_units(tmp_path):
    lines = ["net,baseline,clean,accuracy.top1,90,,,,", "net,int8,clean,accuracy.top1,80,,,,"]
    results = import_results(
        [write(tmp_path / "t.csv", lines, TIDY)], tmp_path / "r", scale="percent"
    )
    assert number(results, "net/int8", "accuracy.top1@clean").value == 0.8


def test_fronts_of_data_sets_and_published_ones_are_compared(tmp_path):
    header = "dataset,model,variant,accuracy,compression_ratio,on_published_pareto_front"
    lines, costs = [], []
    for dataset, start in (("cifar10", 0.1), ("cifar100", 0.3)):
        lines += rows(dataset, "net", "original", grown(start, 0.05))
        lines += rows(dataset, "net", "int8", grown(start + 0.02, 0.06))
        lines += rows(dataset, "net", "int4", grown(start + 0.03, 0.07))
        costs += [
            f"{dataset},net,original,{1 - start},1,1",
            f"{dataset},net,int8,{0.98 - start},4,1",
        ]
        costs += [f"{dataset},net,int4,{0.97 - start},3,{int(dataset == 'cifar100')}"]
    files = [write(tmp_path / "c.csv", lines), write(tmp_path / "s.csv", costs, header)]
    told = import_results(files, tmp_path / "run").caveats
    assert "the front of cifar10 alone: cifar10-net/baseline, cifar10-net/int8" in told
    assert any(
        "front of cifar10, 2 candidates: equal to ours without --rounded; equal" in t for t in told
    )
    assert any("3 candidates: without --rounded ours lacks cifar100-net/int4" in t for t in told)


@pytest.mark.slow
def test_a_report_is_made_of_many_candidates_without_their_baseline(tmp_path):
    lines = rows("c", "net", "original", grown(0.1, 0.05), [])
    for k in range(8):
        lines += rows("c", "net", f"q{k}", grown(0.1 + 0.01 * k, 0.06))
    results = import_results([write(tmp_path / "t.csv", lines)], tmp_path / "run")
    assert results.report().stat().st_size > 10_000


def test_exact_halves_are_rounded_as_the_published_rates_are():
    def rates(value: float) -> dict[Condition, np.ndarray]:
        places = [Condition(name, s) for name in STANDARD_15 for s in range(1, 6)]
        return {place: np.array([1 - round(1 - value, 12)]) for place in [CLEAN, *places]}

    for own, other in ((0.1158, 0.48), (0.163, 0.2), (0.0815, 0.1), (0.4025, 0.5)):
        plain = round(sum([own] * 5) / sum([other] * 5) * 100) / 100
        assert mce(rates(own), Reference("x", errors=rates(other)), rounded=True) == plain


@pytest.mark.parametrize("name", ["theirs.csv", "theirs.tsv", "theirs.csv.gz", "theirs.tsv.gz"])
def test_a_run_has_the_name_of_its_table_without_endings(name, tmp_path):
    content = conditions(tmp_path / "comma.csv").read_bytes()
    if ".tsv" in name:
        content = content.replace(b",", b"\t")
    if name.endswith(".gz"):
        content = gzip.compress(content)
    (tmp_path / name).write_bytes(content)
    assert import_results([tmp_path / name], tmp_path / "run").spec.study == "theirs"
