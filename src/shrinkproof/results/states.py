"""How far a run is, candidate by candidate."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shrinkproof.records import Json
    from shrinkproof.results.reading import Results


def states_of(results: Results) -> list[Json]:
    """Return how far each candidate is: one row with its cells done, failed and missing."""
    done = results.finished
    failed = {failure["key"] for failure in results.failures}
    cells_of: dict[str, list[str]] = {candidate.key: [] for candidate in results.candidates}
    for cell in results.cells:
        cells_of[cell.candidate].append(cell.key)
    return [
        {
            "candidate": candidate.label,
            "role": candidate.role,
            "prepared": results.store.has_candidate(candidate.key),
            "failed": candidate.key in failed,
            "cells": len(cells),
            "cells_done": sum(key in done for key in cells),
            "cells_failed": sum(key in failed and key not in done for key in cells),
            "cells_missing": results.missing.get(candidate.label, 0),
            "study": results.spec.full_name,
        }
        for candidate in results.candidates
        for cells in [cells_of[candidate.key]]
    ]
