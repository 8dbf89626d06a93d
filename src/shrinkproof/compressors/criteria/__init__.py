"""Registries of what decides which weights and channels matter, and their field in a step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import pydantic

from shrinkproof.errors import ShrinkproofError
from shrinkproof.registry import Registry, fields_of

CRITERIA = Registry(
    "criterion",
    "shrinkproof.criteria",
    {
        "magnitude": "shrinkproof.compressors.criteria.weights:Magnitude",
        "random": "shrinkproof.compressors.criteria.weights:Random",
        "taylor": "shrinkproof.compressors.criteria.weights:Taylor",
    },
)

CHANNEL_CRITERIA = Registry(
    "channel criterion",
    "shrinkproof.channel_criteria",
    {
        "bn_scale": "shrinkproof.compressors.criteria.channels:BatchNormScale",
        "fpgm": "shrinkproof.compressors.criteria.channels:GeometricMedian",
        "hrank": "shrinkproof.compressors.criteria.hrank:HRank",
        "l1": "shrinkproof.compressors.criteria.channels:L1",
        "l2": "shrinkproof.compressors.criteria.channels:L2",
        "random": "shrinkproof.compressors.criteria.channels:RandomChannels",
        "taylor": "shrinkproof.compressors.criteria.channels:TaylorChannels",
    },
)


def _member(registry: Registry, value: Any) -> Any:
    """Return the member that a study file names: ``name``, or ``{name: settings}``."""
    if not isinstance(value, str | Mapping):
        if not hasattr(value, "scores"):
            raise ValueError(
                f"{registry.kind} must be a name or one name with its settings, got {value!r}"
            )
        return value
    if isinstance(value, Mapping) and len(value) != 1:
        raise ValueError(f"{registry.kind} must be a name or one name with its settings")
    name, settings = (value, {}) if isinstance(value, str) else next(iter(value.items()))
    try:
        return registry.create(name, settings)
    except pydantic.ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ValueError(f"{registry.kind} {name!r}: {problems}") from error
    except ShrinkproofError as error:
        raise ValueError(str(error)) from error


def _plain(member: Any) -> Any:
    """Return what a study file would say."""
    settings = fields_of(member)
    return {member.name: settings} if settings else member.name


def _field(registry: Registry) -> Any:
    """Return the annotations of a field that holds a member of an open set."""
    schema = {
        "anyOf": [
            {"enum": list(registry.builtin)},
            {"type": "string"},
            {"type": "object", "minProperties": 1, "maxProperties": 1},
        ]
    }
    return (
        pydantic.BeforeValidator(lambda value: _member(registry, value)),
        pydantic.PlainSerializer(_plain),
        pydantic.WithJsonSchema(schema),
    )


CriterionField = Annotated[Any, *_field(CRITERIA)]
"""A field with a weight criterion: a member, its name, or ``{name: settings}``."""

ChannelCriterionField = Annotated[Any, *_field(CHANNEL_CRITERIA)]
"""A field with a channel criterion: a member, its name, or ``{name: settings}``."""
