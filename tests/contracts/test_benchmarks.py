"""Benchmarks are run by hand; what they take from the package must not vanish meanwhile."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

FILES = sorted(Path(__file__).parents[2].glob("benchmarks/*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_names_from_the_package_exist(file: Path) -> None:
    taken = [
        (node.module, name.name)
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("shrinkproof")
        for name in node.names
    ]
    assert [place for place in taken if not _exists(*place)] == []


def _exists(module: str, name: str) -> bool:
    """Return whether a module has a name, or is a package with a module of that name."""
    if hasattr(importlib.import_module(module), name):
        return True
    try:
        importlib.import_module(f"{module}.{name}")
    except ModuleNotFoundError:
        return False
    return True
