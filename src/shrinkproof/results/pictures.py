"""Pictures of a run: the images that its page shows, as small files beside the numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from shrinkproof.errors import StoreError
from shrinkproof.records import Condition
from shrinkproof.store import Store

FOLDER: Final = "pictures"
INDEX: Final = f"{FOLDER}/index.json"
"""Name of a picture -> identity of what it shows."""


ENDINGS: Final = (".png", ".webp")
"""Small pictures of classified images, and larger ones on which boxes are drawn."""


def picture_name(split: str, index: int, condition: Condition, ending: str = ENDINGS[0]) -> str:
    """Return the file name of a picture, ``report-417-fog-3.png``."""
    place = "-".join(str(condition).split(":"))
    return f"{split}-{index}-{place}{ending}"


@dataclass(frozen=True)
class Pictures:
    """The stored pictures of a run.

    Attributes:
        store: the run directory.
    """

    store: Store

    @cached_property
    def known(self) -> Mapping[str, str]:
        """Name of each picture -> identity of what it shows; empty where it cannot be read."""
        try:
            found = self.store.read_json(INDEX)
        except (StoreError, OSError):
            return {}
        return found if isinstance(found, dict) else {}

    def find(self, split: str, index: int, condition: Condition | str) -> bytes | None:
        """Return the picture of an image under a condition, or None where there is none.

        Args:
            split: part of the data.
            index: index of the image in its source, as records and exhibits have it.
            condition: ``clean``, ``fog:3``, or the condition itself.

        Raises:
            ValueError: the text is no condition.
        """
        at = Condition.parse(condition) if isinstance(condition, str) else condition
        names = [picture_name(split, index, at, ending) for ending in ENDINGS]
        name = next((name for name in names if name in self.known), "")
        if not name:
            return None
        try:
            return (self.store.path / FOLDER / name).read_bytes()
        except OSError:
            return None
