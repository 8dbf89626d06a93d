"""The model card: every number is that of its record, and nothing that matters is left out."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import yaml

from shrinkproof.export import export_candidate
from shrinkproof.export.card import _files, reflowed, spelled, table
from shrinkproof.export.facts import Facts, Table, said
from shrinkproof.metrics.names import CHANGE, FROM_CONTROL
from shrinkproof.records import Record
from shrinkproof.report import wording
from shrinkproof.results import Results
from shrinkproof.results.naming import find_candidate

HEADINGS = (
    *("Intended use", "Base network", "Recipe", "What was measured", "Size and time"),
    *("Agreement of the files", "Selection", "Certificate", "Limits", "Files", "Reproduce"),
)


def card_of(folder):
    return (folder / "MODEL_CARD.md").read_text()


def front_matter(card):
    opening, matter, rest = card.split("---\n", 2)
    assert opening == ""
    return yaml.safe_load(matter), rest


def tables(card):
    """Heading -> rows of the first table under it, the titles first."""
    found, heading = {}, ""
    for line in card.splitlines():
        if line.startswith("#"):
            heading = line.strip("# ")
        elif line.startswith("|") and not line.startswith("|-"):
            found.setdefault(heading, []).append([c.strip() for c in line[1:-1].split(" | ")])
    return found


def records_of(run, recipe):
    results = Results.load(run)
    return {
        (r.recipe, r.metric, r.condition): r
        for r in results.records
        if r.split in ("report", "")
        and not r.slice
        and not r.severity
        and (r.form == "artifact" or r.evaluator == "size")
    }


def test_the_card_has_all_parts_in_order(sample):
    card = card_of(sample.folder)
    found = [line[3:] for line in card.splitlines() if line.startswith("## ")]
    assert tuple(found) == HEADINGS
    assert f"# net/{sample.kind}" in card
    assert "\N{NO-BREAK SPACE}" not in card
    assert all(len(line) <= 100 for line in card.splitlines() if not line.startswith("|"))


def test_the_front_matter_holds_the_records(sample):
    matter, _ = front_matter(card_of(sample.folder))
    known = records_of(sample.run, sample.kind)
    (model,) = matter["model-index"]
    assert model["name"] == f"tiny/net/{sample.kind}"
    assert "license" not in matter
    ours = {"accuracy": "accuracy.top1", "brier_score": "accuracy.brier"}
    seen = set()
    for result in model["results"]:
        place = result["dataset"]["args"]
        assert place["images"] == 60
        for metric in result["metrics"]:
            name = ours.get(metric["type"], metric["type"])
            record = known[sample.kind, name, place["condition"]]
            assert metric["value"] == record.value
            interval = metric.get("args", {}).get("interval_95", [None, None])
            assert interval == [record.low, record.high]
            seen.add((name, place["condition"]))
    assert {("accuracy.top1", "clean"), ("robustness.mean_error", "corrupted")} <= seen


def test_every_number_of_the_table_is_that_of_its_record(sample):
    known = records_of(sample.run, sample.kind)
    names = {wording.metric_name(metric): metric for _, metric, _ in known}
    places = {wording.place_name(p, 0): p for _, _, p in known}
    control = Results.load(sample.run).by_key
    controls = {c.recipe for c in control.values() if c.role == "control"}
    rows = tables(card_of(sample.folder))["What was measured"]
    titles = rows.pop(0)
    checked = 0
    for row in rows:
        cells = dict(zip(titles, row, strict=True))
        metric, place = names[cells["Number"]], places[cells["Condition"]]
        expected = {"This model": known[sample.kind, metric, place]}
        for title, who, what in (
            ("Baseline", "baseline", metric),
            ("Change", sample.kind, CHANGE + metric),
            ("Control", next(iter(controls), ""), metric),
            ("Change from the control", sample.kind, FROM_CONTROL + metric),
        ):
            if title in cells:
                expected[title] = known.get((who, what, place))
        for title, record in expected.items():
            assert cells[title] == ("-" if record is None else said(record)), (title, row)
            checked += record is not None
        assert cells["Images"] == str(expected["This model"].count)
    assert checked > 30


def test_a_number_reads_as_on_the_page():
    record = Record(
        study="s", cell="", model="m", recipe="r", repeat=0, role="recipe", control="",
        evaluator="scores", form="artifact", split="report", slice="", condition="clean",
        severity=0, metric="accuracy.top1", value=0.9, unit="fraction", better="higher", low=0.85,
        high=0.94, interval="wilson", count=100, basis="measured", status="ok", reason="",
        environment="",
    )  # fmt: skip
    assert said(record) == "90.0 % (85.0 to 94.0)"
    assert said(replace(record, status="contaminated")) == "90.0 % (85.0 to 94.0) [contaminated]"
    assert said(replace(record, basis="simulated", low=None)) == "90.0 % [simulated]"
    nothing = replace(record, value=None, low=None, high=None, status="undefined", reason="why")
    assert said(nothing) == "undefined"
    change = replace(record, metric="change.accuracy.top1", value=-0.01, low=-0.02, high=0.0)
    assert said(change) == f"{wording.MINUS}1.00 pp ({wording.MINUS}2.00 to 0.00)"


def test_the_recipe_says_what_was_asked_and_reached(sample):
    rows = tables(card_of(sample.folder))["Recipe"][1:]
    changes = json.loads((sample.folder / "changes.json").read_text())
    assert [row[0] for row in rows] == [f"{c['step']} (version {c['version']})" for c in changes]
    assert [row[1] for row in rows] == [spelled(c["requested"]) for c in changes]
    assert [row[2] for row in rows] == [spelled(c["achieved"]) for c in changes]


def test_caveats_rules_and_files_are_told(sample):
    card = " ".join(card_of(sample.folder).split())
    results = Results.load(sample.run)
    for caveat in results.caveats:
        assert " ".join(caveat.split()) in card
    for sentence in results.decision.why:
        assert " ".join(sentence.split()) in card
    listed = {row[0] for row in tables(card_of(sample.folder))["Files"][1:]}
    assert listed == {p.name for p in sample.folder.iterdir()} - {"MODEL_CARD.md", "manifest.json"}


def test_contaminated_numbers_are_marked(run, tmp_path):
    data = json.loads((run / "data.json").read_text())
    data["contamination"]["net"] = {"report": "60 of 60 images were trained on"}
    (run / "data.json").write_text(json.dumps(data))
    export_candidate(run, "int8", tmp_path / "out", images=5)
    card = card_of(tmp_path / "out")
    row = next(
        r for r in tables(card)["What was measured"] if r[:2] == ["Top-1 accuracy", "clean images"]
    )
    assert row[3].endswith("[contaminated]")
    assert "net, report: contaminated, 60 of 60 images were trained on" in " ".join(card.split())
    metrics = front_matter(card)[0]["model-index"][0]["results"][0]["metrics"]
    assert all(metric["args"]["status"] == "contaminated" for metric in metrics)


@pytest.mark.slow
def test_a_certificate_is_told_with_its_tests(run, tmp_path):
    import hashlib

    results = Results.load(run)
    candidate = find_candidate(results, "int8")
    network = (run / "candidates" / candidate.key / "model.onnx").read_bytes()
    test = {
        "name": "clean",
        "p": 0.004,
        "risk": 0.1,
        "upper": 0.15,
        "worst": "clean",
        "units": 60,
        "method": "binomial",
    }
    entry = {
        "label": candidate.label,
        "sha256": hashlib.sha256(network).hexdigest(),
        "bytes": len(network),
        "certified": True,
        "p": 0.004,
        "adjusted_p": 0.008,
        "promises": [test],
        "why": "every promise is shown to be kept",
    }
    found = {
        "plan": "abc", "status": "valid", "why": "", "confidence": 0.95, "method": "holm",
        "promises": [{"name": "clean", "words": "error at most 0.2", "loss": "error", "limit": 0.2,
                      "over": "mean", "conditions": ["clean"]}],
        "candidates": [entry], "certified": [candidate.label], "smallest": candidate.label,
        "images": 60, "units": 60, "needed": None, "look": {"number": 1, "of": 1, "error": 0.05},
        "scope": ["Images exchangeable with the certify split."], "made": "2026-01-01T00:00:00",
    }  # fmt: skip
    place = run / "certificates" / "abc" / "certificate.json"
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps(found))
    export_candidate(run, "int8", tmp_path / "out", images=5)
    card = card_of(tmp_path / "out")
    assert tables(card)["Certificate"][1] == ["clean", "0.2", "0.1", "0.15", "p = 0.004", "clean"]
    assert "This candidate is certified (adjusted p = 0.008)" in " ".join(card.split())
    assert "Images exchangeable with the certify split." in card


# Markdown


def test_tables_are_aligned_and_escaped():
    content = Table(("A", "Long title"), (("a|b", "1"), ("c", "22")))
    assert table(content).splitlines() == [
        "| A    | Long title |",
        "|------|------------|",
        "| a\\|b | 1          |",
        "| c    | 22         |",
    ]


def test_paragraphs_are_wrapped_and_code_is_not():
    words = "word " * 30
    code = "```sh\n" + "x" * 120 + "\n\n\n\ny\n```"
    found = reflowed(f"\n\n# Title\n\n\n\n{words}\n* {words}\n* b\n\n{code}\n")
    lines = found.splitlines()
    assert lines[:2] == ["# Title", ""]
    assert max(len(line) for line in lines if "x" not in line) <= 100
    assert [line for line in lines if line.startswith("* ")][1] == "* b"
    assert found.endswith(f"* b\n\n{code}\n")


def test_a_baseline_has_no_change_and_no_control(small_run):
    results = Results.load(small_run)
    facts = Facts(results, find_candidate(results, "baseline"))
    assert (facts.baseline, facts.control) == ("", "")
    assert facts.quality().titles == ("Number", "Condition", "Images", "This model")
    assert facts.costs().titles == ("Number", "This model")


def test_files_that_were_not_measured_are_not_called_measured():
    made = {"model.onnx": {"bytes": 1, "sha256": "0" * 64}}
    assert "network that was measured" in _files(made, "artifact").rows[0][1]
    assert "what was measured is its PyTorch form" in _files(made, "twin").rows[0][1]
