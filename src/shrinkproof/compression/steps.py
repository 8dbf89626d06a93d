"""Steps as a caller writes them: instances, names, or one-key mappings as in a study file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pydantic

from shrinkproof.compressors import COMPRESSORS
from shrinkproof.compressors.recipe import Recipe
from shrinkproof.errors import ShrinkproofError, SpecError, UsageError
from shrinkproof.spec.document import Document, Path, Place, dotted
from shrinkproof.spec.problems import Problems, shown, unknown


class PlacelessProblems(Problems):
    """Problems of values that stand in no file, so that no line can be named.

    Args:
        document: the values; its file name says in messages where they come from.
    """

    def __init__(self, document: Document) -> None:
        super().__init__(document)
        self.found: list[str] = []

    def add(
        self,
        path: Path,
        rule: str,
        *,
        is_key: bool = False,  # noqa: ARG002 - only places in a file depend on it
        place: Place | None = None,  # noqa: ARG002
    ) -> None:
        """Note one problem."""
        parts = [self.document.filename, dotted(path), rule]
        self.found.append(": ".join(part for part in parts if part))

    def raise_if_any(self) -> None:
        """Raise a `SpecError` with all problems."""
        if self.found:
            raise SpecError(self.found)


def as_steps(steps: Sequence[Any]) -> tuple[Any, ...]:
    """Return the compressors of a recipe.

    Args:
        steps: each a compressor, a registered name (``quantize.static``), or a one-key mapping of
            a name to its settings (``{"prune.weights": {"ratio": 0.5}}``).

    Raises:
        UsageError: this is no list of steps, or an empty one.
        SpecError: a step is not registered or a setting is wrong; ``problems`` has every finding.
    """
    if isinstance(steps, (str, Mapping)) or not isinstance(steps, Sequence):
        raise UsageError(f"steps: must be a list of steps, got {_shown(steps)}; write [step, ...]")
    if not steps:
        raise UsageError("steps: must have at least one step, got none")
    problems: list[str] = []
    built: list[Any] = []
    for position, step in enumerate(steps, start=1):
        if isinstance(step, (str, Mapping)):
            built.append(_build(step, f"step {position}", problems))
        elif isinstance(step, Recipe):
            built.extend(step.steps)
        elif isinstance(step, type) or not hasattr(step, "apply"):
            advice = f"; write {step.__name__}(...)" if isinstance(step, type) else ""
            problems.append(
                f"step {position}: must be a compressor, a name, or a one-key mapping of a name "
                f"to its settings, got {_shown(step)}{advice}"
            )
        else:
            built.append(step)
    if problems:
        raise SpecError(problems)
    return tuple(built)


def _build(step: str | Mapping[str, Any], label: str, problems: list[str]) -> Any:
    """Return the compressor of a name or mapping, or None after noting what is wrong."""
    if not isinstance(step, str) and len(step) != 1:
        problems.append(
            f"{label}: must be a one-key mapping of a name to its settings, got {len(step)} keys "
            f"({', '.join(map(str, step))}); write one mapping for each step"
        )
        return None
    name, settings = (step, {}) if isinstance(step, str) else next(iter(step.items()))
    if not isinstance(settings, Mapping | None):
        problems.append(
            f"{label}: {name}: settings must be a mapping of fields, got {shown(settings)}"
        )
        return None
    if name not in COMPRESSORS:
        rule = unknown(f"unknown compressor {name!r}", str(name), COMPRESSORS)
        problems.append(f"{label}: {rule}")
        return None
    found = PlacelessProblems(Document(label, {name: dict(settings or {})}))
    built = _create(name, dict(settings or {}), found)
    problems.extend(found.found)
    return built


def _create(name: str, settings: dict[str, Any], problems: Problems) -> Any:
    try:
        json.dumps(settings, allow_nan=False)
        return COMPRESSORS.create(name, settings)
    except pydantic.ValidationError as error:
        problems.add_validation((name,), error, COMPRESSORS.get(name))
    except (TypeError, ValueError) as error:
        problems.add((name,), f"settings must be plain JSON values: {error}")
    except ShrinkproofError as error:
        problems.add((name,), str(error))
    return None


def _shown(value: object) -> str:
    return value.__name__ if isinstance(value, type) else shown(value)
