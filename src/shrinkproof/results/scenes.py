"""The pictures below the boxes: which images the page shows, as data links."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final

from shrinkproof.report.scenes import IMAGES, SCENES, Shot, wanted_shots

if TYPE_CHECKING:
    from shrinkproof.results.reading import Results

ROOM: Final = 1_400_000
"""Characters of pictures on a page; images beyond it are shown by their boxes alone."""


def scene_pictures(results: Results) -> dict[Shot, str]:
    """Return the stored pictures of the images with boxes, as many as the page has room for."""
    exhibits = {kind: results.exhibits(kind) for kind in (SCENES, IMAGES)}
    decision = results.decision
    chosen, front = (decision.chosen, decision.front) if decision else (None, ())
    found: dict[Shot, str] = {}
    room = ROOM
    for index, condition in wanted_shots(exhibits, chosen, tuple(front)):
        picture = results.pictures.find(results.printing, index, condition)
        link = "" if picture is None else _link(picture)
        if link and len(link) <= room:
            room -= len(link)
            found[index, condition] = link
    return found


def _link(picture: bytes) -> str:
    kind = "webp" if picture[:4] == b"RIFF" else "png"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"
