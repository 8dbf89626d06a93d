"""Conformance of engines."""

from __future__ import annotations

from typing import Any, Final

from shrinkproof.engines import ENGINES
from shrinkproof.records import Failure
from shrinkproof.testing.component import check_component, example_settings

_BAD: Final = 3


def _square(item: int) -> int:
    """Work that fails for one item; a module-level function, as other processes need it."""
    if item == _BAD:
        raise ValueError(f"item {item} is bad on purpose")
    return item * item


def check_engine(cls: type[Any], **settings: Any) -> None:
    """Check somewhere to run independent work.

    Every item comes back once with its own result, a failing one as a `Failure` with type and
    message, and no work gives no results.

    Args:
        cls: the class.
        settings: values of its fields; required ones that are left out are guessed.

    Raises:
        AssertionError: a rule is broken; the sentence names the class and the rule.
    """
    settings = example_settings(cls, **settings)
    engine = check_component(cls, settings, ENGINES, ())
    name = cls.__name__
    assert engine.beside >= 1, f"{name}: beside must be 1 or more, got {engine.beside}"
    assert list(engine.map(_square, [])) == [], f"{name}: no items must give no results"
    items = list(range(6))
    results = list(engine.map(_square, iter(items)))
    got = sorted(item for item, _ in results)
    assert got == items, f"{name}: must yield every item once, {items}, got {got}"
    for item, result in results:
        if item != _BAD:
            assert result == item * item, f"{name}: item {item} came back with {result!r}"
            continue
        assert isinstance(result, Failure), (
            f"{name}: an exception must come back as a Failure, got {result!r}"
        )
        assert result.type == "ValueError", f"{name}: a failure must name its type, got {result}"
        assert "bad on purpose" in result.message, f"{name}: a failure must carry its message"
