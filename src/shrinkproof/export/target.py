"""Which candidate is meant, and whether it can be exported."""

from __future__ import annotations

from pathlib import Path

from shrinkproof.errors import ExportError
from shrinkproof.records import Candidate
from shrinkproof.results import Results
from shrinkproof.results.naming import short_name


def folder_name(results: Results, candidate: Candidate) -> str:
    """Return the name of a candidate as a folder, unique within its study."""
    is_only = len({c.model for c in results.candidates}) == 1
    return short_name(candidate) if is_only else candidate.label.replace("/", "-")


def folder_of(results: Results, candidate: Candidate) -> Path:
    """Return the folder of a prepared candidate.

    Raises:
        ExportError: its preparation has failed, has not happened, or happened elsewhere.
    """
    label, path = candidate.label, results.store.path
    if results.store.has_candidate(candidate.key):
        folder = results.store.candidate(candidate.key)
        if (folder / "model.onnx").is_file():
            return folder
        why = results.store.read_json(f"candidates/{candidate.key}/complete.json") or {}
        missing = why.get("undefined", {}).get("cost.bytes", "model.onnx is missing")
        raise ExportError(
            f"{label}: must have an exported file to be handed over, got none: {missing}; its "
            f"PyTorch form can be loaded from {folder} with CompressedModel.load"
        )
    failure = next((f for f in results.failures if f["key"] == candidate.key), None)
    if failure is not None:
        raise ExportError(
            f"{label}: must be prepared to be exported, got a failure: {failure['type']}: "
            f"{failure['message']}; remove the cause and run the study again"
        )
    if candidate.key not in {c.key for c in results.store.read_candidates()}:
        raise ExportError(
            f"{label}: must have been made by this run to be exported, got predictions or numbers "
            "from elsewhere, which have no network here; export the candidate it came from"
        )
    raise ExportError(
        f"{label}: must be prepared to be exported, got none of its files; finish it with: "
        f"shrinkproof run STUDY --out {path}"
    )
