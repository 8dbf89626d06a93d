"""What one candidate looked at: its heat maps, as they are stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import DataError

# Shape suffixes: n images (or boxes, where boxes are explained), h rows, w columns.

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

NO_OBJECT: Final = -1
"""True class of a box where there is no object."""

UNTOLD: Final = -2
"""True class of a box inside a crowd, of which nobody can say whether it is right."""


@dataclass(frozen=True, slots=True, eq=False)
class HeatMaps:
    """Maps of one candidate, by one method, under one condition.

    Where detected boxes are explained, there is one entry for each box of the baseline and not for
    each image: ``index`` and ``images`` repeat, and ``target`` is the class of the object that the
    box is of, or ``NO_OBJECT`` or ``UNTOLD``.

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
        boxes: (n, 4) float32, the candidate's own boxes ``x1, y1, x2, y2`` as parts of width and
            height of the network's input, 0 to 1; zeros where it has none. None where whole images
            are explained.
        score: (n,) float32, scores of these boxes, 0 to 1; None without boxes.
        present: name of maps -> (n,) bool, for which boxes there is one; the others are zeros,
            because the candidate has no counterpart of the baseline's box. Where a name is not in
            it, all are there.
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
    boxes: NDArray[np.float32] | None = None
    score: NDArray[np.float32] | None = None
    present: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)

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
        columns |= {f"present.{name}": values for name, values in self.present.items()}
        optional = {
            "groups": self.groups,
            "images": self.images,
            "boxes": self.boxes,
            "score": self.score,
        }
        columns |= {name: values for name, values in optional.items() if values is not None}
        one = "image" if self.boxes is None else "box"
        for name, values in columns.items():
            if len(values) != len(self.index):
                raise DataError(
                    f"heat maps: {name} must have one entry per {one} ({len(self.index)}), got "
                    f"{len(values)}"
                )

    def __len__(self) -> int:
        """Return the number of images, or of boxes where boxes are explained."""
        return len(self.index)

    @property
    def counted(self) -> str:
        """What there is one map for each of: ``images`` or ``boxes``."""
        return "images" if self.boxes is None else "boxes"

    @property
    def own(self) -> NDArray[np.float32]:
        """The candidate's own maps."""
        return self.maps[OWN]

    def has(self, name: str) -> NDArray[np.bool_]:
        """Return for which images or boxes there is a map of a name, (n,)."""
        return self.present.get(name, np.ones(len(self), dtype=bool))

    @property
    def right(self) -> NDArray[np.bool_]:
        """Where the baseline was right."""
        return np.asarray(self.explained == self.target)

    @property
    def wrong(self) -> NDArray[np.bool_]:
        """Where the baseline was wrong."""
        return np.asarray((self.explained != self.target) & (self.target != UNTOLD))

    @property
    def about(self) -> str:
        """What every number about these maps says of them."""
        rows, columns = self.resolution
        where = f" at layer {self.layer}" if self.layer else ""
        what = "class: the baseline's answer" if self.boxes is None else "boxes: the baseline's"
        parts = [f"{self.method}{where}, {rows}x{columns} places, {what}"]
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
                f"heat maps: both must show the same {self.counted} in the same order, got "
                f"{len(self.index)} and {len(other.index)} {self.counted} with "
                f"{len(np.intersect1d(self.index, other.index))} in common; delete the folder "
                "'saliency' of the run directory and run the study again"
            )
        if not np.array_equal(self.explained, other.explained):
            one = "image" if self.boxes is None else "box"
            count = int((self.explained != other.explained).sum())
            raise DataError(
                f"heat maps: both must explain the same class of each {one}, got other classes "
                f"for {count} of {len(self.index)}; delete the folder 'saliency' of the run "
                "directory and run the study again"
            )
