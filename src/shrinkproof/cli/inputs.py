"""What commands without a study read from their arguments: steps, models, data references."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from shrinkproof.errors import UsageError

if TYPE_CHECKING:
    from shrinkproof.models.reference import ModelSpec
    from shrinkproof.spec.document import Document

_SHORT: Final = re.compile(r"([^\s:={}]+):(\S.*)", re.DOTALL)
_OPENING, _CLOSING, _QUOTES = "[{(", "]})", "\"'"


def step_of(text: str, label: str) -> Any:
    """Return a step as a study file would hold it."""
    from shrinkproof.spec.document import parse

    if not text.strip():
        raise UsageError(f"{label}: must be a step, got an empty text")
    short = _SHORT.fullmatch(text)
    if short is not None and "=" in short[2]:
        return {short[1]: _settings(_parts(short[2]), label)}
    return parse(text, label).content


def _parts(text: str) -> list[str]:
    """Return what commas separate outside brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in _QUOTES:
            quote = letter
        else:
            depth += (letter in _OPENING) - (letter in _CLOSING)
        if letter == "," and depth == 0 and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _settings(texts: Sequence[str], label: str) -> dict[str, Any]:
    """Return several ``key=value``, each key once."""
    found: dict[str, Any] = {}
    for text in texts:
        key, value = _setting(text, label)
        if key in found:
            raise UsageError(f"{label}: {key} must be given once, got it again in {text!r}")
        found[key] = value
    return found


def _setting(text: str, label: str) -> tuple[str, Any]:
    """Return key and value of ``key=value``, the value read as YAML."""
    from shrinkproof.spec.document import parse

    key, equals, value = text.partition("=")
    if not (key.strip() and equals and value.strip()):
        raise UsageError(f"{label}: settings must be key=value, got {text!r}")
    return key.strip(), parse(value, f"{label}: {key.strip()}").content


def model_spec(reference: str, settings: Sequence[str], *, needs_images: bool) -> ModelSpec:
    """Return a model as a study file would hold it; ``settings`` are ``key=value`` each."""
    from shrinkproof.models.reference import ModelField

    content = {"use": reference, **_settings(settings, "--set")}
    if not needs_images:
        # Without images nothing is preprocessed, so nobody has to say how.
        content.setdefault("preprocess", {})
    spec: ModelSpec = _validated(content, ModelField, "model")
    return spec


def data_ref(text: str, label: str) -> Any:
    """Return a data reference as a study file would hold it."""
    from shrinkproof.data.splits import DataField
    from shrinkproof.spec.document import parse

    content = parse(text, label).content if text.lstrip().startswith("{") else text
    return _validated(content, DataField, label)


def _validated(content: Any, kind: Any, label: str) -> Any:
    """Return a value of a study file; its problems name the option instead of a line."""
    import pydantic

    from shrinkproof.compression.steps import PlacelessProblems
    from shrinkproof.spec.document import Document

    document: Document = Document(label, content)
    problems = PlacelessProblems(document)
    try:
        return pydantic.TypeAdapter(kind).validate_json(json.dumps(content), strict=True)
    except pydantic.ValidationError as error:
        problems.add_validation((), error, kind)
    problems.raise_if_any()
    raise AssertionError("a validation error names at least one problem")
