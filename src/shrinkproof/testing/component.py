"""What every member of every open set must do: be its own frozen, plain, documented settings."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import pydantic

from shrinkproof.registry import Registry, fields_of

_NAME: Final = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*")
_UNKNOWN: Final = "no_such_field"


def example_settings(cls: type[Any], **given: Any) -> dict[str, Any]:
    """Return the given values, and one for every other required field from its limits.

    Raises:
        AssertionError: a required field is of a kind for which no value can be guessed, or the
            class is no component.
    """
    assert hasattr(cls, "__pydantic_fields__"), f"{cls.__name__}: must be decorated with @component"
    schema = pydantic.TypeAdapter(cls).json_schema()
    fields = schema.get("properties", {})
    missing = [name for name in schema.get("required", ()) if name not in given]
    return {**given, **{name: _example(cls, name, fields[name]) for name in missing}}


def _example(cls: type[Any], name: str, schema: Mapping[str, Any]) -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if schema.get("type") == "number":
        low = 0.0 if low is None else low
        return (low + (low + 1.0 if high is None else high)) / 2
    if schema.get("type") == "integer":
        value = (low or 0) + int("exclusiveMinimum" in schema)
        return value if high is None else min(max(value, 4), high)
    raise AssertionError(
        f"{cls.__name__}: no example of the required field {name!r} can be guessed; pass one to "
        f"the check: {name}=..."
    )


def check_component(
    cls: type[Any], settings: Mapping[str, Any], registry: Registry, sections: Sequence[str]
) -> Any:
    """Return an instance after checking what all kinds of members have in common.

    Args:
        cls: the class.
        settings: values of its fields.
        registry: the open set it belongs to.
        sections: what its docstring must have, for example ``("Input", "Output")``.

    Raises:
        AssertionError: a rule is broken; the sentence names the class and the rule.
    """
    name = cls.__name__
    _check_name(cls, registry)
    _check_docstring(cls, sections)
    instance = cls(**settings)
    twin = cls(**settings)
    assert instance == twin, f"{name}: equal settings must make equal objects"
    assert hash(instance) == hash(twin), f"{name}: equal objects must have equal hashes"
    refuses(
        lambda: cls(**{**settings, _UNKNOWN: 1}),
        pydantic.ValidationError,
        f"{name}: an unknown field must be refused",
    )
    for field in dataclasses.fields(cls):
        refuses(
            partial(setattr, instance, field.name, getattr(instance, field.name)),
            AttributeError,
            f"{name}: must be frozen, but {field.name!r} can be set",
        )
    plain = json.dumps(fields_of(instance), allow_nan=False)
    again = pydantic.TypeAdapter(cls).validate_json(plain)
    assert again == instance, f"{name}: its settings as JSON, {plain}, must make an equal object"
    return instance


def refuses(work: Callable[[], object], error: type[Exception], sentence: str) -> None:
    """Check that some work raises.

    Raises:
        AssertionError: it does not.
    """
    try:
        work()
    except error:
        return
    raise AssertionError(sentence)


def _check_name(cls: type[Any], registry: Registry) -> None:
    name = getattr(cls, "name", None)
    assert isinstance(name, str), f"{cls.__name__}: must have a class variable 'name'"
    assert _NAME.fullmatch(name), (
        f"{cls.__name__}: name must be lower case, dotted by family, got {name!r}"
    )
    if name in registry:
        registered = registry.get(name)
        assert registered is cls, (
            f"{cls.__name__}: its name {name!r} is registered for {registered.__name__}"
        )
    version = getattr(cls, "version", None)
    assert type(version) is int, f"{cls.__name__}: version must be a whole number, got {version!r}"
    assert version >= 1, f"{cls.__name__}: version must be at least 1, got {version}"


def _check_docstring(cls: type[Any], sections: Sequence[str]) -> None:
    text = vars(cls).get("__doc__") or ""
    first = text.strip().partition("\n")[0]
    is_generated = first.startswith(f"{cls.__name__}(")
    assert first, f"{cls.__name__}: must have a docstring"
    assert not is_generated, f"{cls.__name__}: must have a docstring"
    assert len(first) <= 80, f"{cls.__name__}: first docstring line must fit 80 characters: {first}"
    assert first.endswith("."), f"{cls.__name__}: first docstring line must end in '.': {first}"
    for section in sections:
        assert re.search(rf"^\s*{section}:", text, re.MULTILINE), (
            f"{cls.__name__}: docstring must have a section '{section}:'"
        )
    missing = [f.name for f in dataclasses.fields(cls) if not re.search(rf"\b{f.name}\b", text)]
    assert not missing, f"{cls.__name__}: docstring must explain the field {missing[0]!r}"
