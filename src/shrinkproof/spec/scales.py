"""One study in several sizes: what a scale changes, merged into the rest of the file."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

import pydantic

from shrinkproof.records import Json
from shrinkproof.registry import component
from shrinkproof.spec.document import MISSING, Document, Path, parse
from shrinkproof.spec.problems import Problems, shown, unknown

_CHOICE: Final = re.compile(r"^scale[ \t]*:.*(?:\n|$)", re.MULTILINE)


@component
class ScaleSpec:
    """One size of a study.

    Attributes:
        says: what is smaller or larger than usual, in one line; every table prints it.
        set: what is different, written as in the study file itself. Mappings are merged, anything
            else takes the place of what was there, and ``null`` removes it.
    """

    says: Annotated[str, pydantic.Field(pattern=r"^\S[^\n]*$")]
    set: Json = pydantic.Field(default_factory=dict)


def with_scale(text: str, scale: str) -> str:
    """Return the text of a study file that says at which scale it is run.

    Every line stays where it is: the choice takes the place of one that is there, or is added at
    the end.
    """
    line = f"scale: {scale}"
    if _CHOICE.search(text):
        return _CHOICE.sub(lambda found: line + "\n" * found[0].endswith("\n"), text, count=1)
    return f"{text.rstrip()}\n{line}\n"


def scales_of(text: str, filename: str) -> tuple[str, ...]:
    """Return the names of the scales that a study file offers.

    Raises:
        SpecError: the text is no YAML.
    """
    found = parse(text, filename).at(("scales",))
    return tuple(found) if isinstance(found, dict) else ()


def at_scale(document: Document) -> Document:
    """Return a study file with what its scale changes; places are those where values are written.

    Raises:
        SpecError: there are scales but none is chosen, or the chosen one is not there.
    """
    scales, scale = document.at(("scales",)), document.at(("scale",))
    if not isinstance(scales, dict) and scale is MISSING:
        return document
    known = list(scales) if isinstance(scales, dict) else []
    problems = Problems(document)
    if scale is MISSING:
        problems.add(
            ("scales",),
            f"one must be chosen; add --scale {known[0] if known else 'NAME'}, or another of "
            f"{', '.join(known) or 'none'}, or write it as scale: NAME",
            is_key=True,
        )
    elif scale not in known:
        rule = unknown(f"unknown scale {shown(scale)}", str(scale), known)
        problems.add(("scale",), rule if known else "must be left out: the study has no scales")
    problems.raise_if_any()
    path: Path = ("scales", str(scale), "set")
    changes = document.at(path)
    if not isinstance(changes, dict):
        return document  # it is left out, or wrong, which validation says
    for name in ("scale", "scales", "study"):
        if name in changes:
            problems.add((*path, name), "cannot be changed by a scale; remove it", is_key=True)
    problems.raise_if_any()
    values, keys = dict(document.values), dict(document.keys)
    for places in (values, keys):
        written = {p[len(path) :]: place for p, place in places.items() if p[: len(path)] == path}
        places.update({below: place for below, place in written.items() if below})
    return Document(document.filename, _merged(document.content, changes), values, keys)


def _merged(base: Any, changes: Any) -> Any:
    """Return a mapping with changes; a change that is no mapping takes the place of what was."""
    if not isinstance(changes, dict):
        return changes
    found = dict(base) if isinstance(base, dict) else {}
    for name, change in changes.items():
        if change is None:
            found.pop(name, None)
        else:
            found[name] = _merged(found.get(name), change)
    return found
