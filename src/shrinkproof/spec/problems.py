"""Everything that is wrong with a study file, in the grammar of our messages."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Final, Union, get_args, get_origin

import pydantic

from shrinkproof.errors import SpecError, suggestions
from shrinkproof.spec.document import Document, Path, Place, dotted


class Problems:
    """Collects problems; each becomes ``file:line:column: path: rule, got value``.

    Args:
        document: the file they are about.
    """

    def __init__(self, document: Document) -> None:
        self.document = document
        self._lines: dict[str, tuple[int, int]] = {}

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._lines)

    def add(
        self, path: Path, rule: str, *, is_key: bool = False, place: Place | None = None
    ) -> None:
        """Note one problem, at a value, its key, or a given place; the same line counts once."""
        place = place or self.document.place(path, is_key=is_key)
        name = dotted(path)
        where = f"{self.document.filename}:{place[0]}:{place[1]}: "
        self._lines.setdefault(where + (f"{name}: {rule}" if name else rule), place)

    def add_validation(self, path: Path, error: pydantic.ValidationError, cls: Any) -> None:
        """Note every finding of a validation of the value at a path.

        Args:
            path: where the validated value stands.
            error: the findings.
            cls: the type it was validated against; its fields give suggestions and limits.
        """
        groups: dict[Path, list[Any]] = {}
        for finding in error.errors(include_url=False):
            where = self.document.resolve((*path, *finding["loc"]))
            if finding["type"] == "missing":
                where = (*where, finding["loc"][-1])
            groups.setdefault(where, []).append(finding)
        for where, findings in groups.items():
            relative = where[len(path) :]
            rule = " or ".join(dict.fromkeys(_rule(f, cls, relative) for f in findings))
            rule = rule.replace(" or must be ", " or ")
            got = findings[0]
            is_key = got["type"] == "unexpected_keyword_argument"
            if got["type"] not in _WITHOUT_VALUE:
                rule = f"{rule}, got {shown(got['input'])}"
            self.add(where, rule + _advice(got, cls, relative), is_key=is_key)

    def raise_if_any(self) -> None:
        """Raise a `SpecError` with all problems in the order of the file."""
        if self._lines:
            raise SpecError(sorted(self._lines, key=lambda line: self._lines[line]))


def shown(value: object) -> str:
    """Return a value as the user would write it, shortened."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a mapping"
    text = f"[{', '.join(map(shown, value))}]" if isinstance(value, list | tuple) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Return the rule broken by a name that nobody knows, with suggestions."""
    known = sorted(known)
    similar = suggestions(name, known)
    if similar:
        return f"{what}; did you mean {' or '.join(repr(s) for s in similar)}?"
    return f"{what}; known: {', '.join(known) or 'none'}"


_WITHOUT_VALUE: Final = ("missing", "unexpected_keyword_argument", "value_error")
"""Findings whose text names the value already, or that have none."""

_PLAIN: Final = {
    "missing": "is required",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "dict_type": "must be a mapping",
    "mapping_type": "must be a mapping",
    "dataclass_type": "must be a mapping of fields",
    "dataclass_exact_type": "must be a mapping of fields",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "none_required": "must be left out",
    "string_too_short": "must not be empty",
    "missing_positional_only_argument": "is required",
}


def _rule(finding: Mapping[str, Any], cls: Any, path: Path) -> str:
    kind = finding["type"]
    if kind in _PLAIN:
        return _PLAIN[kind]
    special = _SPECIAL.get(kind)
    if special is not None:
        return special(finding, cls, path)
    message = str(finding["msg"])
    return message[0].lower() + message[1:]


def _unknown_field(_: Mapping[str, Any], cls: Any, path: Path) -> str:
    fields = _fields(_find(cls, path[:-1])[0])
    return unknown("unknown field", str(path[-1]), fields)


def _one_of(finding: Mapping[str, Any], _: Any, __: Path) -> str:
    words = str(finding["ctx"]["expected"]).replace(" or ", ", ")
    return f"must be {words}" if "," not in words else f"must be one of {words}"


def _said(finding: Mapping[str, Any], _: Any, __: Path) -> str:
    return str(finding["ctx"]["error"])


def _pattern(finding: Mapping[str, Any], _: Any, __: Path) -> str:
    pattern = str(finding["ctx"]["pattern"])
    if ":" in pattern:
        return "must be a reference, 'scheme:rest'"
    return f"must match the pattern {pattern}"


def _length(finding: Mapping[str, Any], _: Any, __: Path) -> str:
    context = finding["ctx"]
    word, count = ("least", "min_length") if "min_length" in context else ("most", "max_length")
    return f"must have at {word} {context[count]} {'entry' if context[count] == 1 else 'entries'}"


def _between(finding: Mapping[str, Any], cls: Any, path: Path) -> str:
    limits = dict(finding["ctx"])
    for item in _find(cls, path)[1]:
        for name in ("ge", "gt", "le", "lt"):
            if getattr(item, name, None) is not None:
                limits[name] = getattr(item, name)
    low, high = limits.get("ge", limits.get("gt")), limits.get("le", limits.get("lt"))
    low_word = "at least" if "ge" in limits else "greater than"
    high_word = "at most" if "le" in limits else "less than"
    if low is None or high is None:
        one = f"{low_word} {low:g}" if high is None else f"{high_word} {high:g}"
        return f"must be {one}"
    if "ge" in limits and "le" in limits:
        return f"must be between {low:g} and {high:g}"
    if "gt" in limits and "lt" in limits:
        return f"must be between {low:g} and {high:g} (excluded)"
    return f"must be {low_word} {low:g} and {high_word} {high:g}"


_SPECIAL: Final[dict[str, Callable[[Mapping[str, Any], Any, Path], str]]] = {
    "unexpected_keyword_argument": _unknown_field,
    "literal_error": _one_of,
    "value_error": _said,
    "string_pattern_mismatch": _pattern,
    "too_short": _length,
    "too_long": _length,
    "greater_than": _between,
    "greater_than_equal": _between,
    "less_than": _between,
    "less_than_equal": _between,
}


def _advice(finding: Mapping[str, Any], cls: Any, path: Path) -> str:
    value = finding["input"]
    if finding["type"] == "literal_error" and isinstance(value, str):
        words = [w for w in str(finding["ctx"]["expected"]).split("'") if w.strip(", or")]
        similar = suggestions(value, words, count=1)
        return f"; did you mean {similar[0]!r}?" if similar else ""
    if finding["type"] in ("less_than", "less_than_equal") and _is_fraction(cls, path):
        if value <= 100:
            text = f"{value / 100:.2f}" if float(value).is_integer() else f"{value / 100:g}"
            return f". Fractions, not percent: write {text}"
        return ". Fractions, not percent"
    return ""


def _is_fraction(cls: Any, path: Path) -> bool:
    parent = _find(cls, path[:-1])[0]
    info = _fields(parent).get(str(path[-1])) if path else None
    extra = getattr(info, "json_schema_extra", None)
    return isinstance(extra, Mapping) and extra.get("unit") == "fraction"


def _fields(cls: Any) -> dict[str, Any]:
    """Return the fields of a component by the name that study files use."""
    infos = getattr(cls, "__pydantic_fields__", None)
    if infos is not None:
        return {info.alias or name: info for name, info in infos.items()}
    if dataclasses.is_dataclass(cls):
        return {f.name: f for f in dataclasses.fields(cls)}
    return {}


def _find(annotation: Any, path: Path) -> tuple[Any, tuple[Any, ...]]:
    """Return type and constraints at a path below a type; ``(None, ())`` where unknown."""
    metadata: tuple[Any, ...] = ()
    for element in path:
        annotation, metadata = _child(_bare(annotation)[0], element)
    bare, own = _bare(annotation)
    return bare, (*metadata, *own)


def _bare(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """Strip ``Annotated`` and ``| None``."""
    metadata: tuple[Any, ...] = ()
    while True:
        origin, args = get_origin(annotation), get_args(annotation)
        if origin is Annotated:
            annotation, metadata = args[0], (*metadata, *_flat(args[1:]))
        elif origin in (Union, types.UnionType):
            others = [a for a in args if a is not type(None)]
            if len(others) != 1:
                return annotation, metadata
            annotation = others[0]
        else:
            return annotation, metadata


def _flat(metadata: Iterable[Any]) -> list[Any]:
    return [part for item in metadata for part in getattr(item, "metadata", None) or [item]]


def _child(annotation: Any, element: str | int) -> tuple[Any, tuple[Any, ...]]:
    info = _fields(annotation).get(str(element))
    if info is not None:
        return getattr(info, "annotation", None), tuple(getattr(info, "metadata", ()))
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is dict:
        return args[1], ()
    if origin in (list, tuple):
        is_fixed = origin is tuple and args[-1] is not Ellipsis and isinstance(element, int)
        return args[int(element) if is_fixed else 0], ()
    return None, ()
