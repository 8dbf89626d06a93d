"""Names -> classes, imported on first use; plugins by entry points; suggestions on a miss."""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any, TypeVar, cast, dataclass_transform

import pydantic
from pydantic.dataclasses import dataclass as pydantic_dataclass

from shrinkproof.errors import PluginError, UnknownNameError
from shrinkproof.records import Json

C = TypeVar("C")

Fraction = Annotated[float, pydantic.Field(ge=0, le=1, json_schema_extra={"unit": "fraction"})]
"""A number from 0 to 1. Percent exists only in the report."""

OpenFraction = Annotated[float, pydantic.Field(gt=0, lt=1, json_schema_extra={"unit": "fraction"})]
"""A number between 0 and 1, both excluded."""

Strings = Annotated[tuple[str, ...], pydantic.Field(strict=False)]
"""A list of words in the study file, a tuple in Python."""


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(pydantic.Field,))
def component(cls: type[C]) -> type[C]:
    """Make a class the configuration of itself: frozen, keyword-only, validated, no unknown keys.

    Numbers are never guessed from strings, nor booleans from numbers.
    """
    make = pydantic_dataclass(
        frozen=True,
        kw_only=True,
        config=pydantic.ConfigDict(
            extra="forbid", strict=True, allow_inf_nan=False, validate_by_name=True
        ),
    )
    return cast("type[C]", make(cls))


def fields_of(instance: Any) -> Json:
    """Return the settings of a component as plain JSON values, defaults included."""
    value = pydantic.TypeAdapter(type(instance)).dump_python(instance, mode="json")
    return dict(value)


def identity_of(instance: Any) -> Json:
    """Return what makes a component's numbers its own: name, version and every setting.

    Members of other open sets among the settings, such as criteria, count with their versions.
    """
    cls = type(instance)
    identity: Json = {"name": cls.name, "version": cls.version, "fields": fields_of(instance)}
    values = {f.name: getattr(instance, f.name) for f in dataclasses.fields(cls)}
    inner = {n: type(v).version for n, v in values.items() if hasattr(type(v), "version")}
    return {**identity, "versions": inner} if inner else identity


class Registry:
    """One open set: built-in names and those of installed plugins.

    Args:
        kind: what the members are called in messages, in the singular.
        group: entry-point group in which plugins name their members.
        builtin: name -> ``module:Class``; nothing is imported until a member is used.
    """

    def __init__(self, kind: str, group: str, builtin: Mapping[str, str]) -> None:
        self.kind = kind
        self.group = group
        self.builtin = dict(builtin)

    @cached_property
    def _plugins(self) -> dict[str, list[EntryPoint]]:
        found: dict[str, list[EntryPoint]] = {}
        for point in entry_points(group=self.group):
            found.setdefault(point.name, []).append(point)
        return found

    def names(self) -> tuple[str, ...]:
        """Return all usable names, sorted; nothing is imported.

        A name that two plugins claim appears as ``distribution/name`` for each of them, and a
        plugin that claims a built-in name likewise: built-in names cannot be shadowed.
        """
        names = set(self.builtin)
        for name, points in self._plugins.items():
            if name in self.builtin or len(points) > 1:
                names.update(f"{_distribution(p)}/{name}" for p in points)
            else:
                names.add(name)
        return tuple(sorted(names))

    def __contains__(self, name: object) -> bool:
        """True for every usable name."""
        return name in self.names()

    def __iter__(self) -> Iterator[str]:
        """Iterate over the usable names."""
        return iter(self.names())

    def get(self, name: str) -> type[Any]:
        """Return the class of a name, importing it on first use.

        Raises:
            UnknownNameError: the name is not registered; similar names are suggested.
            PluginError: the plugin behind it does not import or two plugins claim it.
        """
        if name in self.builtin:
            module, _, attribute = self.builtin[name].partition(":")
            cls: type[Any] = getattr(importlib.import_module(module), attribute)
            return cls
        return self._load_plugin(name)

    def _load_plugin(self, name: str) -> type[Any]:
        distribution, slash, bare = name.rpartition("/")
        points = self._plugins.get(bare if slash else name, [])
        if slash:
            points = [p for p in points if _distribution(p) == distribution]
        if not points:
            raise UnknownNameError(self.kind, name, self.names())
        if len(points) > 1:
            spellings = ", ".join(f"{_distribution(p)}/{name}" for p in points)
            raise PluginError(
                f"{self.kind} {name!r} is claimed by {len(points)} plugins; write one of "
                f"{spellings}"
            )
        point = points[0]
        try:
            cls = point.load()
        except Exception as error:
            raise PluginError(
                f"{self.kind} {name!r} of the package {_distribution(point)!r} does not import: "
                f"{type(error).__name__}: {error}. Repair or uninstall that package."
            ) from error
        if not isinstance(cls, type):
            raise PluginError(
                f"{self.kind} {name!r} of the package {_distribution(point)!r} must be a class, "
                f"got {type(cls).__name__}; correct its entry point"
            )
        return cls

    def create(self, name: str, settings: Mapping[str, Any] | None = None) -> Any:
        """Return a member built from its settings, plain JSON values as in a study file.

        Raises:
            UnknownNameError: the name is not registered.
            pydantic.ValidationError: a setting is wrong.
        """
        cls = self.get(name)
        if not hasattr(cls, "__pydantic_fields__"):
            return cls(**dict(settings or {}))
        # JSON is the mode in which strict validation takes lists for tuples and mappings for
        # components, at any depth.
        return pydantic.TypeAdapter(cls).validate_json(json.dumps(dict(settings or {})))

    def origin(self, name: str) -> str:
        """Return who provides a name: ``shrinkproof`` or the plugin's distribution."""
        if name in self.builtin:
            return "shrinkproof"
        points = self._plugins.get(name.rpartition("/")[2], [])
        return ", ".join(sorted({_distribution(p) for p in points})) or "unknown"

    def describe(self, name: str) -> Json:
        """Return a member's capabilities as plain JSON; a broken plugin is shown, not raised."""
        row: Json = {"kind": self.kind, "name": name, "origin": self.origin(name)}
        try:
            cls = self.get(name)
        except PluginError as error:
            return {**row, "broken": str(error)}
        first_line = (cls.__doc__ or "").strip().splitlines()
        row["summary"] = first_line[0] if first_line else ""
        for attribute in ("version", "unit", "better", "family", "role", "exclusive"):
            value = getattr(cls, attribute, None)
            if value is not None and not isinstance(value, property):
                row[attribute] = getattr(value, "value", value)
        if dataclasses.is_dataclass(cls):
            row["fields"] = [f.name for f in dataclasses.fields(cls)]
        return row


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "unknown"
