"""Certificates of a run directory: where they are, and which one counts."""

from __future__ import annotations

from typing import Final

from shrinkproof.records import Json
from shrinkproof.store import Store

FOLDER: Final = "certificates"
"""Folder of a run directory with one folder per plan."""

PLAN: Final = "plan.json"
CERTIFICATE: Final = "certificate.json"


def name_of(plan: str, file: str = CERTIFICATE) -> str:
    """Return the name of a file of a certificate within the run directory."""
    return f"{FOLDER}/{plan}/{file}"


def newest_certificate(store: Store) -> Json | None:
    """Return the certificate that was written last, or None where there is none.

    It is about files. Where the run has made another file under the name of a tested candidate
    since, it says nothing about that one and is returned as invalid.

    Raises:
        StoreError: a certificate is damaged.
    """
    found = []
    for file in sorted(store.path.glob(name_of("*"))):
        value = store.read_json(name_of(file.parent.name))
        if value is not None:
            found.append(value)
    if not found:
        return None
    newest = max(found, key=lambda value: (value["made"], value["plan"]))
    changed = _changed(store, newest)
    return _outdated(newest, changed) if changed else newest


def _changed(store: Store, certificate: Json) -> list[str]:
    """Return the labels under which the run has another file now than the one that was tested."""
    plan = store.read_json(name_of(certificate["plan"], PLAN))
    if plan is None:
        return []
    tested = {row["label"]: (row["key"], row["sha256"]) for row in plan["candidates"]}
    changed = []
    for candidate in store.read_candidates():
        if candidate.label not in tested:
            continue
        key, sha256 = tested[candidate.label]
        made = (store.read_json(f"candidates/{candidate.key}/complete.json") or {}).get("sha256")
        if candidate.key != key or made not in (None, sha256):
            changed.append(candidate.label)
    return changed


def _outdated(certificate: Json, changed: list[str]) -> Json:
    why = (
        f"the run has changed since it was made: another file than the tested one is now "
        f"{', '.join(changed)}; certify again"
    )
    rows = [
        {**row, "certified": False, "why": "the certificate is outdated"}
        for row in certificate["candidates"]
    ]
    return {
        **certificate,
        "status": "invalid",
        "why": f"{certificate['why']}; {why}" if certificate["status"] == "invalid" else why,
        "candidates": rows,
        "certified": [],
        "smallest": None,
        "needed": None,
        "scope": [f"{why[0].upper()}{why[1:]}.", *certificate["scope"]],
    }
