"""What the outputs of an exported detector mean."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic

from shrinkproof.registry import component

Name = Annotated[str, pydantic.Field(min_length=1)]


@component
class BoxOutputs:
    """Three outputs of an exported detector that chooses its boxes itself.

    Each has a row for each box; in front of the rows there may be an axis of images.

    Attributes:
        boxes: name of the output with the boxes, (m, 4).
        scores: name of the output with the scores, (m,), 0 to 1; rows below 0 are no boxes.
        labels: name of the output with the classes, (m,).
        format: ``xyxy`` (two corners), ``xywh`` (upper left corner, width, height) or ``cxcywh``
            (center, width, height).
        is_normalized: whether boxes are parts of the input's width and height; otherwise they are
            pixels of the input.
        first_label: label of the first class; rows with lower ones are no boxes.
    """

    boxes: Name = "boxes"
    scores: Name = "scores"
    labels: Name = "labels"
    format: Literal["xyxy", "xywh", "cxcywh"] = "xyxy"
    is_normalized: bool = False
    first_label: Annotated[int, pydantic.Field(ge=0)] = 0

    @property
    def names(self) -> tuple[str, str, str]:
        """The outputs: boxes, scores, labels."""
        return self.boxes, self.scores, self.labels
