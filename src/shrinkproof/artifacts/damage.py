"""Whether the files of a candidate are those that were made."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Final

from shrinkproof.artifacts.candidate import NETWORK, PACKED, WEIGHTS
from shrinkproof.errors import ModelError
from shrinkproof.records import Json

SIZES: Final = {
    NETWORK: "cost.bytes",
    WEIGHTS: "cost.bytes_dense",
    PACKED: "cost.bytes_packed",
}
"""File -> the number that tells its size as it was made."""

_COMPLETE: Final = "complete.json"


def damage_of(directory: Path) -> str:
    """Return what is wrong with the files of a complete candidate; empty where sizes are right.

    The weights may be there in one of their two forms only.
    """
    try:
        facts = _facts(directory)
    except ValueError:
        return f"{_COMPLETE} is damaged"
    found = {name: _bytes_of(directory / name) for name in SIZES}
    for name, metric in SIZES.items():
        made = facts.get(metric)
        if None not in (made, found[name]) and found[name] != made:
            return f"{name} must have {made} bytes, got {found[name]}"
    if facts.get(SIZES[NETWORK]) is not None and found[NETWORK] is None:
        return f"{NETWORK} is missing"
    if found[WEIGHTS] is None and found[PACKED] is None:
        return f"{WEIGHTS} is missing"
    return ""


def check_network(directory: Path) -> None:
    """Refuse an exported file that is not the one that was made.

    Args:
        directory: of a complete candidate.

    Raises:
        ModelError: the file has other bytes, or what tells its hash is damaged.
    """
    file = directory / NETWORK
    try:
        made = _facts(directory).get("sha256")
    except ValueError:
        made = "unknown"
    if made is None or not file.is_file():
        return
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found != made:
        raise ModelError(
            f"{file}: has other bytes than when it was made (SHA-256 {found[:16]} instead of "
            f"{made[:16]}); remove {directory} and run the study again to make it anew"
        )


def _facts(directory: Path) -> Json:
    """Return what was told of the files when they were made; empty where nothing was.

    Raises:
        ValueError: the file that tells it is damaged.
    """
    try:
        found = json.loads((directory / _COMPLETE).read_text("utf-8"))
    except FileNotFoundError:
        return {}
    if not isinstance(found, dict):
        raise ValueError(f"must be an object, got {type(found).__name__}")
    return found


def _bytes_of(file: Path) -> int | None:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return None
