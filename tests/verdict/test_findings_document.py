"""The findings say what the kept results say, about every claim."""

from __future__ import annotations

import csv
import gzip
import re
from pathlib import Path

import pytest

from shrinkproof.results.tidy import TIDY_COLUMNS
from shrinkproof.verdict.papers import PAPERS

ROOT = Path(__file__).parents[2]
FINDINGS = (ROOT / "docs" / "findings.md").read_text("utf-8")
KEPT = sorted(path.parent for path in (ROOT / "results").glob("*/records.csv.gz"))


def claim_rows(text: str) -> list[str]:
    """Return the rows of the table of claims in what `verdict --markdown` printed."""
    table, _, _ = text.partition("Controls, which decide nothing:")
    return [line for line in table.splitlines() if re.match(r"\| [ABC]\d+", line)]


@pytest.mark.parametrize("folder", KEPT, ids=lambda folder: folder.name)
def test_the_verdicts_of_kept_runs_stand_in_the_findings(folder: Path) -> None:
    rows = claim_rows((folder / "verdict.md").read_text("utf-8"))
    paper = PAPERS[folder.name.partition("-")[0]]
    judged = {row.split()[1].rstrip(":") for row in rows}
    assert judged == {claim.name for claim in paper.claims}
    missing = [row for row in rows if row not in FINDINGS]
    assert not missing
    assert f"images/{folder.name}.svg" in FINDINGS
    assert (ROOT / "docs" / "images" / f"{folder.name}.svg").exists()


@pytest.mark.parametrize("folder", KEPT, ids=lambda folder: folder.name)
def test_kept_records_are_tidy_and_say_where_they_come_from(folder: Path) -> None:
    with gzip.open(folder / "records.csv.gz", "rt", encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        first = next(rows)
    assert tuple(first) == TIDY_COLUMNS
    assert first["study"].startswith(folder.name.partition("-")[0])
    assert f"`{folder.name}`" in (ROOT / "results" / "README.md").read_text("utf-8")
    assert (folder / "environment.json").exists()


def test_every_paper_has_a_kept_run() -> None:
    assert {folder.name.partition("-")[0] for folder in KEPT} == set(PAPERS)
