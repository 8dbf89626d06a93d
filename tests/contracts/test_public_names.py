"""The public names: listed, complete, importable, and the same for editors and for Python."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import shrinkproof
from shrinkproof import _PLACES


def places_for_editors() -> dict[str, str]:
    """Name -> module of the imports under TYPE_CHECKING."""
    tree = ast.parse(Path(shrinkproof.__file__).read_text("utf-8"))
    block = next(
        node
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    found = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        assert node.module is not None
        for alias in node.names:
            assert alias.asname is None, "public names are not renamed"
            found[alias.name] = node.module
    return found


def test_all_is_sorted_complete_and_without_repetition() -> None:
    assert shrinkproof.__all__ == sorted(_PLACES)
    assert list(_PLACES) == sorted(_PLACES)


def test_editors_see_what_python_gives() -> None:
    assert places_for_editors() == _PLACES


@pytest.mark.parametrize("name", shrinkproof.__all__)
def test_every_public_name_is_importable_and_documented(name: str) -> None:
    value = getattr(shrinkproof, name)
    assert value is getattr(importlib.import_module(_PLACES[name]), name)
    assert value.__name__ == name
    first_line = (inspect.getdoc(value) or "").partition("\n")[0]
    assert 10 <= len(first_line) <= 80
    assert first_line.endswith(".")


def test_public_names_hide_no_module() -> None:
    modules = {module.name for module in pkgutil.iter_modules(shrinkproof.__path__)}
    assert not modules & set(shrinkproof.__all__)


def test_dir_shows_the_public_names() -> None:
    assert dir(shrinkproof) == sorted([*shrinkproof.__all__, "__version__"])


def test_star_import_gives_exactly_the_public_names() -> None:
    space: dict[str, object] = {}
    exec("from shrinkproof import *", space)
    assert set(space) - {"__builtins__"} == set(shrinkproof.__all__)


def test_unknown_names_raise_as_usual() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Stduy'"):
        _ = shrinkproof.Stduy
    assert not hasattr(shrinkproof, "numpy")


def test_a_sub_module_stays_reachable_after_public_names_are_used() -> None:
    code = (
        "import shrinkproof; from shrinkproof import Study, Results; "
        "import shrinkproof.study, shrinkproof.results; "
        "assert shrinkproof.study.Study is Study; assert shrinkproof.results.Results is Results"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
