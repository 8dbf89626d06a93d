"""What starting costs, in modules; the time itself is measured by ``benchmarks/startup.py``."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "torchvision", "numpy", "scipy", "sklearn", "polars", "altair", "onnxruntime")


def loaded(code: str, watched: tuple[str, ...]) -> list[str]:
    """Return which of the watched packages a fresh Python has after running some code."""
    program = (
        f"import sys, json\n{code}\n"
        f"sys.stderr.write(json.dumps([n for n in {watched!r} if n in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    return list(json.loads(done.stderr))


def test_import_costs_next_to_nothing() -> None:
    assert loaded("import shrinkproof", (*HEAVY, "pydantic", "typer", "rich", "yaml")) == []


def test_light_names_stay_light() -> None:
    assert loaded("from shrinkproof import Record, Condition, SpecError", HEAVY) == []


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--help"], ["nonsense"]])
def test_help_costs_no_numbers_and_no_networks(arguments: list[str]) -> None:
    code = f"from shrinkproof.cli import run\nrun({arguments!r})"
    program = code.replace("\n", "\nimport io; sys.stderr = io.StringIO()\n", 1)
    assert loaded(f"{program}\nsys.stderr = sys.__stderr__", HEAVY) == []


def test_no_public_value_type_loads_torch() -> None:
    code = "from shrinkproof import Study, Results, ImageSet, ModelSpec, WeightPruning, Recipe"
    assert loaded(code, ("torch", "torchvision", "onnxruntime")) == []
