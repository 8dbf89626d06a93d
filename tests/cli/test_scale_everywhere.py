"""A study at one of its scales: every command that shows numbers says which one it was."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pytest

from shrinkproof.results import Results
from shrinkproof.results.page import make_page
from shrinkproof.spec.scales import with_scale
from shrinkproof.study import Study, certifying

from ..certify_builder import CERTIFY, Planted, add_certify_images
from ..study_builder import STUDY, write_study
from .conftest import Call

NOTE = "scale small: one condition, few images"

SCALES = """
scales:
  small: {says: "one condition, few images"}
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("scaled") / "study", STUDY + SCALES)


@pytest.fixture(scope="module")
def run(finished_run: Path, study: Path) -> Path:
    """The finished run, as if its study had been run at a scale."""
    folder = Path(shutil.copytree(finished_run, study.parent / "run"))
    add_certify_images(folder, study.parent)
    inputs = json.loads((folder / "inputs.json").read_text())
    text = with_scale(inputs["text"] + SCALES + CERTIFY, "small")
    (folder / "inputs.json").write_text(json.dumps({**inputs, "text": text}))
    (folder / "study.yaml").write_text(text)
    data = json.loads((folder / "data.json").read_text())
    data["notes"] = list(Study.load(study, scale="small").plan().notes)
    (folder / "data.json").write_text(json.dumps(data))
    return folder


def unwrapped(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize(
    "arguments",
    [
        ("results", "RUN"),
        ("results", "RUN", "--json"),
        ("pareto", "RUN"),
        ("pareto", "RUN", "--json"),
        ("pareto", "RUN", "--minimize", "cost.bytes"),
        ("status", "RUN"),
        ("status", "RUN", "--json"),
        ("explain", "RUN", "cluster8", "--images", "0"),
        ("compare", "RUN", "baseline", "cluster8"),
        ("compare", "RUN", "baseline", "cluster8", "--json"),
        ("gate", "RUN", "cluster8", "--rule", "cost.bytes >= 0"),
        ("gate", "RUN", "cluster8", "--rule", "cost.bytes >= 0", "--json"),
        ("plan", "STUDY", "--scale", "small", "--no-probe"),
        ("plan", "STUDY", "--scale", "small", "--no-probe", "--json"),
        ("check", "STUDY", "--scale", "small"),
    ],
    ids=" ".join,
)
def test_the_scale_is_told(call: Call, study: Path, run: Path, arguments: tuple[str, ...]) -> None:
    places = {"RUN": str(run), "STUDY": str(study)}
    done = call(*(places.get(argument, argument) for argument in arguments))
    assert done.code == 0, done.err
    assert NOTE in unwrapped(done.out)


@pytest.mark.parametrize("options", [(), ("--json",)], ids=["table", "json"])
def test_a_certificate_tells_the_scale(
    call: Call,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
) -> None:
    monkeypatch.setattr(certifying, "measure", Planted({}))
    ledger = tmp_path / "ledger.jsonl"
    done = call("certify", run, "--engine", "inline", "--ledger", ledger, *options)
    assert done.code == 0, done.err
    assert NOTE in unwrapped(done.out)


@pytest.mark.parametrize(
    ("arguments", "column"),
    [
        (("results",), "study"),
        (("pareto",), "study"),
        (("pareto", "--minimize", "cost.bytes"), "study"),
        (("status",), "study"),
        (("compare", "baseline", "cluster8"), "second_study"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else value,
)
def test_every_row_of_csv_has_the_scale_in_the_name_of_the_study(
    call: Call, run: Path, arguments: tuple[str, ...], column: str
) -> None:
    command, *others = arguments
    rows = list(csv.DictReader(io.StringIO(call(command, run, *others, "--csv").out)))
    assert {row[column] for row in rows} == {"tiny-small"}


def test_records_and_page_tell_the_scale(run: Path) -> None:
    results = Results.load(run)
    assert {record.study for record in results.records} == {"tiny-small"}
    page = make_page(results)
    assert page.caveats[0] == NOTE
    assert page.study == "tiny-small"


@pytest.mark.slow
def test_a_run_its_folder_and_what_is_exported_tell_the_scale(
    call: Call, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one = ("--only", "net/cluster8", "--engine", "inline")
    done = call("run", study, "--scale", "small", *one)
    assert NOTE in unwrapped(done.out)
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name == "tiny-small"
    assert NOTE in unwrapped(call("score", folder, "--engine", "inline").out)
    assert call("export", folder, "cluster8", "-o", tmp_path / "out").code == 0
    assert NOTE in unwrapped((tmp_path / "out" / "MODEL_CARD.md").read_text())
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["study"] == "tiny-small"
