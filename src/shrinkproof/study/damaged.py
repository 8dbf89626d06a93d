"""Candidates whose files are not those that were made."""

from __future__ import annotations

from collections.abc import Iterable

from shrinkproof.artifacts.damage import damage_of
from shrinkproof.records import Candidate
from shrinkproof.store import Store
from shrinkproof.study.progress import Progress


def drop_damaged(store: Store, candidates: Iterable[Candidate], progress: Progress) -> None:
    """Let candidates be made again that are cut off or incomplete; their cells stay.

    A recipe gives equal files again, so that cells measured before and after are of one network.

    Args:
        store: the run directory.
        candidates: which ones to look at.
        progress: who is told.
    """
    for candidate in candidates:
        if not store.has_candidate(candidate.key):
            continue
        damage = damage_of(store.candidate(candidate.key))
        if damage:
            progress.warn(f"{candidate.label}: {damage}; the candidate is made again")
            store.forget_candidate(candidate.key)
