"""Two candidates side by side on the terminal, as JSON and as CSV."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from shrinkproof.results import Results
from shrinkproof.results.comparing import compare

from .conftest import Call


def test_the_comparison_fits_80_columns_and_has_its_parts(call: Call, finished_run: Path) -> None:
    done = call("compare", finished_run, "baseline", "prune0.8")
    assert (done.code, done.err) == (0, "")
    assert max(map(len, done.lines)) <= 80
    assert "…" not in done.out
    text = " ".join(done.out.split())
    assert f"A net/baseline of {finished_run} B net/prune0.8 of {finished_run}" in text
    assert "report split, 60 images, paired" in text
    for title in ("clean images", "all corrupted", "error by corruption", "sizes and times"):
        assert title in text
    assert "accuracy under 3 conditions:" in text
    assert "recall of 4 classes:" in text
    assert "right only in A" in text
    assert "p is McNemar's test" in text


def test_another_run_is_named_with_with(call: Call, finished_run: Path, run_copy: Path) -> None:
    done = call("compare", finished_run, "baseline", "baseline", "--with", run_copy)
    assert done.code == 0
    text = " ".join(done.out.split())
    assert f"B net/baseline of {run_copy}" in text
    assert "0 right only in A, 0 right only in B, 0 of 60 with another class" in text


def test_images_that_differ_are_said_and_give_no_test(
    call: Call, finished_run: Path, run_copy: Path
) -> None:
    data = json.loads((run_copy / "data.json").read_text())
    data["splits"]["report"]["fingerprint"] = "0" * 16
    (run_copy / "data.json").write_text(json.dumps(data))
    done = call("compare", finished_run, "baseline", "prune0.8", "--with", run_copy)
    text = " ".join(done.out.split())
    assert done.code == 0
    assert "report split, not paired" in text
    assert "caveat: not paired: the runs measured other images" in text
    assert "p is McNemar's test" not in text
    assert "right only in A" not in text


def test_json_has_everything(call: Call, finished_run: Path) -> None:
    done = call("compare", finished_run, "baseline", "prune0.8", "--json")
    found = json.loads(done.out)
    run = Results.load(finished_run)
    expected = json.loads(json.dumps(compare(run, "baseline", run, "prune0.8").as_json()))
    assert found == {"version": 1, **expected}


def test_csv_has_a_line_for_each_number(call: Call, finished_run: Path) -> None:
    done = call("compare", finished_run, "baseline", "prune0.8", "--csv")
    found = list(csv.DictReader(io.StringIO(done.out)))
    run = Results.load(finished_run)
    assert len(found) == len(compare(run, "baseline", run, "prune0.8").rows)
    parts = {"clean", "corrupted", "corruptions", "conditions", "classes", "costs"}
    assert {row["part"] for row in found} == parts
    assert float(found[0]["first"]) >= 0


def test_wrong_names_end_with_2(call: Call, finished_run: Path) -> None:
    done = call("compare", finished_run, "baseline", "prune0.7")
    assert (done.code, done.out) == (2, "")
    assert "unknown candidate" in done.err
    assert "'prune0.8'" in done.err
    assert call("compare", finished_run, "baseline", "baseline").code == 2
