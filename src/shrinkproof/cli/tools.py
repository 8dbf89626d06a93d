"""Commands about shrinkproof itself: list, schema."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from shrinkproof.cli import DONE
from shrinkproof.cli.options import AsJson
from shrinkproof.cli.output import print_json
from shrinkproof.errors import UnknownNameError

_REGISTRIES: Final = {
    "attributions": "shrinkproof.attributions:ATTRIBUTIONS",
    "box-attributions": "shrinkproof.attributions:BOX_ATTRIBUTIONS",
    "channel-criteria": "shrinkproof.compressors.criteria:CHANNEL_CRITERIA",
    "compressors": "shrinkproof.compressors:COMPRESSORS",
    "corruptions": "shrinkproof.corruptions:CORRUPTIONS",
    "criteria": "shrinkproof.compressors.criteria:CRITERIA",
    "data": "shrinkproof.data:DATA",
    "engines": "shrinkproof.engines:ENGINES",
    "evaluators": "shrinkproof.evaluators:EVALUATORS",
    "metrics": "shrinkproof.metrics:METRICS",
    "models": "shrinkproof.models:MODELS",
}


def list_(
    kind: Annotated[
        str | None, typer.Argument(help="One of: " + ", ".join(_REGISTRIES) + ".")
    ] = None,
    json: AsJson = False,
) -> int:
    """Show what is registered, plugins included."""
    import importlib

    if kind is not None and kind not in _REGISTRIES:
        raise UnknownNameError("kind", kind, _REGISTRIES)
    rows = []
    for name in [kind] if kind else _REGISTRIES:
        module, _, attribute = _REGISTRIES[name].partition(":")
        registry = getattr(importlib.import_module(module), attribute)
        rows += [registry.describe(member) for member in registry.names()]
    if json:
        print_json(members=rows)
    else:
        from shrinkproof.cli.tables import print_members

        print_members(rows)
    return DONE


def schema() -> int:
    """Print the JSON Schema of the study file, for completion in editors."""
    import json

    from shrinkproof.spec import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))
    return DONE
