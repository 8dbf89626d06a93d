"""What corruptions without randomness share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from shrinkproof.protocols import Draws


class Drawless:
    """A corruption without randomness: it draws nothing."""

    def draw(
        self, streams: Draws, shape: tuple[int, int], severity: int, preset: str
    ) -> Mapping[str, NDArray[Any]]:
        """Return nothing: the result depends on the image alone."""
        del streams, shape, severity, preset
        return {}
