"""JSON Schema of the study file, assembled from the registered classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pydantic

from shrinkproof.attributions import ATTRIBUTIONS, BOX_ATTRIBUTIONS
from shrinkproof.compressors import COMPRESSORS
from shrinkproof.corruptions import CORRUPTIONS
from shrinkproof.corruptions.presets import PRESETS, SETS
from shrinkproof.errors import PluginError
from shrinkproof.metrics import METRICS
from shrinkproof.records import Json
from shrinkproof.registry import Registry
from shrinkproof.spec.recipe_sets import RECIPE_SETS
from shrinkproof.spec.schema import StudySpec

_SLOT: Final = {
    "type": "string",
    "pattern": r"^\{[^{}]+\}$",
    "description": "value of this name in grid",
}


def json_schema() -> Json:
    """Return the JSON Schema (draft 2020-12) of the study file.

    Editors use it for completion and red underlines. Steps, corruptions, metrics and methods for
    heat maps are those that are registered now, plugins included; plugins that do not import are
    left out. What a schema cannot say (grids, selectors, needed data) only ``shrinkproof check``
    finds.
    """
    schema = pydantic.TypeAdapter(StudySpec).json_schema()
    definitions: dict[str, Any] = schema.setdefault("$defs", {})
    definitions["Step"] = {"oneOf": _named(COMPRESSORS, definitions, slot=_SLOT)}
    definitions["Attribution"] = {
        # A method may be there for images and for boxes, with settings of its own for each.
        "anyOf": [*_named(ATTRIBUTIONS, definitions), *_named(BOX_ATTRIBUTIONS, definitions)]
    }
    methods = definitions["SaliencySpec"]["properties"]["methods"]
    methods["items"] = {"$ref": "#/$defs/Attribution"}
    recipe = definitions["RecipeSpec"]["properties"]
    recipe["steps"]["items"] = {"$ref": "#/$defs/Step"}
    recipe["use"] = {"enum": sorted(RECIPE_SETS)}
    definitions["MeasureSpec"]["properties"]["scores"]["items"] = {
        "anyOf": [{"enum": list(METRICS.names())}, {"pattern": r"^[a-z0-9_.]+\[.+\]$"}]
    }
    definitions["ConditionSet"]["properties"]["use"] = {"enum": sorted(SETS)}
    data = definitions["DataSpec"]["properties"]
    data["preset"] = {"enum": [*sorted(PRESETS), None]}
    data["batch"] = {"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1}]}
    schema["properties"]["conditions"] = _conditions()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "shrinkproof study",
        **{key: value for key, value in schema.items() if key != "title"},
    }


def _named(
    registry: Registry, definitions: dict[str, Any], *, slot: Json | None = None
) -> list[Json]:
    """Return what stands for a registered class: its name, or its name with its settings.

    Args:
        registry: the classes.
        definitions: receives what their settings refer to.
        slot: what may stand in the place of a value.
    """
    plain: list[str] = []
    found: list[Json] = []
    for name, cls in _classes(registry):
        settings = pydantic.TypeAdapter(cls).json_schema()
        definitions.update(settings.pop("$defs", {}))
        for key, value in settings.get("properties", {}).items() if slot else ():
            settings["properties"][key] = {"anyOf": [value, slot], **_shared(value)}
        if not settings.get("required"):
            plain.append(name)
            settings = {"anyOf": [settings, {"type": "null"}]}
        found.append(
            {
                "type": "object",
                "properties": {name: settings},
                "required": [name],
                "additionalProperties": False,
            }
        )
    return [{"enum": plain}, *found] if plain else found


def _shared(value: Mapping[str, Any]) -> Json:
    return {key: value[key] for key in ("default", "description", "title") if key in value}


def _classes(registry: Registry) -> list[tuple[str, type[Any]]]:
    found = []
    for name in registry.names():
        try:
            found.append((name, registry.get(name)))
        except PluginError:  # shown as broken by `shrinkproof list`, an error where it is used
            continue
    return found


def _conditions() -> Json:
    severities = {
        "type": "array",
        "items": {"type": "integer", "minimum": 1, "maximum": 5},
        "minItems": 1,
    }
    named_set = {"$ref": "#/$defs/ConditionSet"}
    return {
        "type": "object",
        "properties": {name: {"anyOf": [severities, named_set]} for name in CORRUPTIONS.names()},
        "additionalProperties": named_set,
        "description": "corruption: [severities], or any name: {use: set, severities: [...]}",
    }
