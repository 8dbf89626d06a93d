"""What one candidate looked at: its heat maps, as they are stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import DataError

# Shape suffixes: n images, h rows, w columns.

OWN: Final = "own"
"""Name of a candidate's own maps."""

HALVES: Final = ("half0", "half1")
"""Names of the maps from the two halves of the masks."""

RANDOMIZED: Final = "randomized"
"""Name of the maps of the same network with weights drawn anew."""

TWIN: Final = "twin"
"""Name of the maps of another network that was trained independently."""

ENOUGH: Final = 8
"""Rows and columns below which a record warns of the resolution."""


@dataclass(frozen=True, slots=True, eq=False)
class HeatMaps:
    """Maps of one candidate, by one method, under one condition.

    Attributes:
        method: registered name of the method.
        layer: name of the layer that was looked at; empty where there is none.
        resolution: how many places a map tells apart, (rows, columns).
        caveat: what a reader must know about the layer, also where its maps are small.
        maps: ``own``, and where they were made ``half0`` and ``half1``, ``randomized`` and
            ``twin``: (n, h, w) float32, finite.
        index: (n,) int64, index of each image in its data set.
        explained: (n,) int64, the class that the maps explain: the baseline's prediction.
        target: (n,) int64, the true class.
        groups: (n,) group of each image, or None where images are independent.
        images: (n, H, W, 3) uint8, small versions of what was shown; None beside a baseline that
            has them.
        missing: name of maps that are not there -> why.
        twin: label of the candidate behind ``twin``.
    """

    method: str
    layer: str
    resolution: tuple[int, int]
    maps: Mapping[str, NDArray[np.float32]]
    index: NDArray[np.int64]
    explained: NDArray[np.int64]
    target: NDArray[np.int64]
    caveat: str = ""
    groups: NDArray[np.str_] | None = None
    images: NDArray[np.uint8] | None = None
    missing: Mapping[str, str] = field(default_factory=dict)
    twin: str = ""

    def __post_init__(self) -> None:
        """Check that everything is about the same images.

        Raises:
            DataError: a column has another length, or there are no own maps.
        """
        if OWN not in self.maps:
            raise DataError(f"heat maps: must have the candidate's own, got {list(self.maps)}")
        columns: dict[str, NDArray[Any]] = {
            **self.maps,
            "explained": self.explained,
            "target": self.target,
        }
        optional = {"groups": self.groups, "images": self.images}
        columns |= {name: values for name, values in optional.items() if values is not None}
        for name, values in columns.items():
            if len(values) != len(self.index):
                raise DataError(
                    f"heat maps: {name} must have one entry per image ({len(self.index)}), got "
                    f"{len(values)}"
                )

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.index)

    @property
    def own(self) -> NDArray[np.float32]:
        """The candidate's own maps."""
        return self.maps[OWN]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Where the baseline was right."""
        return np.asarray(self.explained == self.target)

    @property
    def about(self) -> str:
        """What every number about these maps says of them."""
        rows, columns = self.resolution
        where = f" at layer {self.layer}" if self.layer else ""
        parts = [f"{self.method}{where}, {rows}x{columns} places, class: the baseline's answer"]
        if min(rows, columns) < ENOUGH and not self.layer:
            parts.append(f"below {ENOUGH}x{ENOUGH} places the similarity of single maps is noisy")
        if self.caveat:
            parts.append(self.caveat)
        return "; ".join(parts)

    def check_beside(self, other: HeatMaps) -> None:
        """Check that maps of two candidates may be compared image by image.

        Raises:
            DataError: images, explained classes, method or size differ.
        """
        if self.method != other.method:
            raise DataError(
                f"heat maps: both must be made by one method, got {self.method} and {other.method}"
            )
        if not np.array_equal(self.index, other.index):
            raise DataError(
                "heat maps: both must show the same images in the same order, got "
                f"{len(self.index)} and {len(other.index)} images with "
                f"{len(np.intersect1d(self.index, other.index))} in common; delete the folder "
                "'saliency' of the run directory and run the study again"
            )
        if not np.array_equal(self.explained, other.explained):
            count = int((self.explained != other.explained).sum())
            raise DataError(
                "heat maps: both must explain the same class of each image, got other classes "
                f"for {count} of {len(self.index)}; delete the folder 'saliency' of the run "
                "directory and run the study again"
            )
