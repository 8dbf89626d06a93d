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

    Raises:
        StoreError: a certificate is damaged.
    """
    found = []
    for file in sorted(store.path.glob(name_of("*"))):
        value = store.read_json(name_of(file.parent.name))
        if value is not None:
            found.append(value)
    return max(found, key=lambda value: (value["made"], value["plan"]), default=None)
