"""Derived numbers and exhibits, kept in the run directory until a cell changes."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict
from typing import Final

from shrinkproof.errors import StoreError
from shrinkproof.protocols import Measurement
from shrinkproof.store import Store
from shrinkproof.summary import Derived, Exhibit, Summary

_FILE: Final = "summary.jsonl"


def write_summary(store: Store, found: Summary, digest: str, reference: str | None) -> None:
    """Keep a summary; a directory that cannot be written can still be read.

    Args:
        store: the run directory.
        found: the summary.
        digest: identity of everything that it was computed from.
        reference: identity of what was read from another run, None for nothing.
    """
    lines = [json.dumps(asdict(row), sort_keys=True) for row in found.rows]
    exhibits = [asdict(item) for item in found.exhibits]
    head = json.dumps({"digest": digest, "reference": reference, "exhibits": exhibits})
    with contextlib.suppress(StoreError):
        store.write_text(store.path / _FILE, "\n".join([head, *lines]) + "\n")


def read_summary(store: Store, digest: str, reference: str | None) -> Summary | None:
    """Return the summary that was kept, or None where there is none of this identity."""
    try:
        first, *lines = (store.path / _FILE).read_text("utf-8").splitlines()
        head = json.loads(first)
        # Where the other run is not there any more, what was read from it counts.
        if head["digest"] != digest or reference not in (None, head["reference"]):
            return None
        rows = [json.loads(line) for line in lines]
        return Summary(
            rows=tuple(
                Derived(**{**row, "measurement": Measurement(**row["measurement"])}) for row in rows
            ),
            exhibits=tuple(Exhibit(**item) for item in head["exhibits"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None  # absent or damaged: it is computed again
