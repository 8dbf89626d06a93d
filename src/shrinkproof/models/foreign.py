"""Networks of which only results are known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from shrinkproof.errors import ModelError
from shrinkproof.models.loaded import LoadedModel
from shrinkproof.models.reference import ModelSpec
from shrinkproof.registry import component


@component
class Foreign:
    """A network measured elsewhere: ``foreign:FILE``, the table of its results.

    It stands in the study file of an imported run, so that everything that reads a run reads this
    one. There is nothing to load.
    """

    name: ClassVar[str] = "foreign"
    version: ClassVar[int] = 1

    def fingerprint(self, rest: str, settings: ModelSpec, roots: Mapping[str, Path]) -> str:
        """Refuse: nothing identifies the network.

        Raises:
            ModelError: always.
        """
        del rest, roots  # the table tells nothing about weights
        raise _refusal(settings)

    def load(self, rest: str, settings: ModelSpec, roots: Mapping[str, Path]) -> LoadedModel:
        """Refuse: there is no network.

        Raises:
            ModelError: always.
        """
        del rest, roots  # the network is nowhere here
        raise _refusal(settings)


def _refusal(settings: ModelSpec) -> ModelError:
    return ModelError(
        f"model {settings.use!r}: was measured elsewhere, and only its results are here; results, "
        "pareto and report can read them, but nothing can be run"
    )
