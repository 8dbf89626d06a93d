"""Derived numbers and exhibits, kept in the run directory until a cell changes."""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
from dataclasses import asdict, fields
from typing import Final

import numpy as np

from shrinkproof.errors import StoreError
from shrinkproof.protocols import Measurement
from shrinkproof.records import Json
from shrinkproof.store import Store, values_in
from shrinkproof.summary import Derived, Exhibit, Resampled, Summary

_FILE: Final = "summary.jsonl"
_ARRAYS: Final = "summary.npz"
_ROW: Final = tuple(field.name for field in fields(Derived))
_MEASUREMENT: Final = tuple(field.name for field in fields(Measurement))
_NUMBERS: Final = ("values", "no_worse", "better", "spread", "reasons")


def write_summary(store: Store, found: Summary, digest: str, reference: str | None) -> None:
    """Keep a summary; a directory that cannot be written can still be read.

    Args:
        store: the run directory.
        found: the summary.
        digest: identity of everything that it was computed from.
        reference: identity of what was read from another run, None for nothing.
    """
    lines = [json.dumps(_plain(row), sort_keys=True) for row in found.rows]
    exhibits = [asdict(item) for item in found.exhibits]
    kept = found.resampled
    names = None if kept is None else _names(kept)
    head = json.dumps(
        {"digest": digest, "reference": reference, "exhibits": exhibits, "resampled": names}
    )
    with contextlib.suppress(StoreError):
        if kept is not None:
            store.write_bytes(store.path / _ARRAYS, _arrays(kept, digest))
        store.write_text(store.path / _FILE, "\n".join([head, *lines]) + "\n")


def _plain(row: Derived) -> Json:
    """Return a row as plain values; `asdict` would copy each of them."""
    value = {name: getattr(row, name) for name in _ROW}
    return {**value, "measurement": {name: getattr(row.measurement, name) for name in _MEASUREMENT}}


def read_summary(store: Store, digest: str, reference: str | None) -> Summary | None:
    """Return the summary that was kept, or None where there is none of this identity."""
    try:
        first, *lines = (store.path / _FILE).read_text("utf-8").splitlines()
        head = json.loads(first)
        # Where the other run is not there any more, what was read from it counts.
        if head["digest"] != digest or reference not in (None, head["reference"]):
            return None
        return Summary(
            rows=tuple(
                Derived(**{**row, "measurement": Measurement(**row["measurement"])})
                for row in values_in(lines)
            ),
            exhibits=tuple(Exhibit(**item) for item in head["exhibits"]),
            resampled=_resampled(store, head["resampled"], digest),
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None  # absent or damaged: it is computed again


def _names(kept: Resampled) -> Json:
    return {
        "candidates": list(kept.candidates),
        "watched": list(kept.watched),
        "tested": list(kept.tested),
        "texts": list(kept.texts),
        "images": kept.images,
    }


def _arrays(kept: Resampled, digest: str) -> bytes:
    """Return the arrays as one file that names what it belongs to."""
    file = io.BytesIO()
    arrays = {name: getattr(kept, name) for name in _NUMBERS}
    np.savez(file, digest=np.array(digest), **arrays)
    return file.getvalue()


def _resampled(store: Store, names: Json | None, digest: str) -> Resampled | None:
    """Return the arrays that belong to a summary.

    Raises:
        OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile: they are absent, damaged or
            belong to something else.
    """
    if names is None:
        return None
    content = io.BytesIO((store.path / _ARRAYS).read_bytes())
    with np.load(content, allow_pickle=False) as file:
        if str(file["digest"]) != digest:
            raise ValueError("the arrays belong to another summary")
        arrays = {name: file[name] for name in _NUMBERS}
    shape = (len(names["candidates"]), len(names["watched"]))
    if arrays["values"].shape[1:] != shape:
        raise ValueError("the arrays have another shape than the summary says")
    return Resampled(
        candidates=tuple(names["candidates"]),
        watched=tuple(names["watched"]),
        tested=tuple(names["tested"]),
        texts=tuple(names["texts"]),
        images=names["images"],
        **arrays,
    )
