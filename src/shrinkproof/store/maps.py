"""Heat maps of one cell on disk, with what they are about."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any, Final

import numpy as np

from shrinkproof.atomic import explained, replace_file
from shrinkproof.errors import DataError
from shrinkproof.metrics.heatmaps import HeatMaps

_MAPS: Final = "maps."
_PRESENT: Final = "present."
_OPTIONAL: Final = ("groups", "images", "boxes", "score")


def write_maps(path: Path, maps: HeatMaps) -> None:
    """Write the heat maps of a cell, float32, into one file, whole or not at all.

    Raises:
        StoreError: it cannot be written.
    """
    with explained(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    about = {
        "caveat": maps.caveat,
        "layer": maps.layer,
        "method": maps.method,
        "missing": dict(maps.missing),
        "resolution": list(maps.resolution),
        "twin": maps.twin,
    }
    columns: dict[str, Any] = {
        "about": np.array(json.dumps(about, sort_keys=True)),
        "explained": maps.explained,
        "index": maps.index,
        "target": maps.target,
        **{f"{_MAPS}{name}": values for name, values in sorted(maps.maps.items())},
    }
    columns |= {f"{_PRESENT}{name}": values for name, values in maps.present.items()}
    optional = {name: getattr(maps, name) for name in _OPTIONAL}
    columns |= {name: values for name, values in optional.items() if values is not None}
    replace_file(path, lambda f: np.savez(f, **columns))


def read_maps(path: Path) -> HeatMaps | None:
    """Return what was written, or None where it is missing or damaged."""
    try:
        # Opened here, because a damaged file would stay open otherwise.
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            columns = {name: file[name] for name in file.files}
        about = json.loads(str(columns["about"]))
        rows, width = about.pop("resolution")
        return HeatMaps(
            maps={
                name.removeprefix(_MAPS): values
                for name, values in columns.items()
                if name.startswith(_MAPS)
            },
            resolution=(rows, width),
            index=columns["index"],
            explained=columns["explained"],
            target=columns["target"],
            present={
                name.removeprefix(_PRESENT): values
                for name, values in columns.items()
                if name.startswith(_PRESENT)
            },
            groups=columns.get("groups"),
            images=columns.get("images"),
            boxes=columns.get("boxes"),
            score=columns.get("score"),
            **about,
        )
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile, DataError):
        return None
