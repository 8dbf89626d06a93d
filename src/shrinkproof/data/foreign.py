"""Images of which only results are known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from shrinkproof.data.imageset import ImageSet
from shrinkproof.errors import DataError
from shrinkproof.registry import component


@component
class Foreign:
    """Images measured elsewhere: ``foreign:FILE``, the table of results on them.

    The reference stands in the study file of an imported run. There is nothing to load.
    """

    name: ClassVar[str] = "foreign"
    version: ClassVar[int] = 1

    def load(self, rest: str, roots: Mapping[str, Path]) -> ImageSet:
        """Refuse: there are no images.

        Raises:
            DataError: always.
        """
        del roots  # the images are nowhere here
        raise DataError(
            f"data reference 'foreign:{rest}': the images are elsewhere, and only results on them "
            "are here; results, pareto and report can read them, but nothing can be run"
        )
